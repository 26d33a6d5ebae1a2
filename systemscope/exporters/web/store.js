// What the user has chosen, and who must know when it changes.

const DEPTH = { PAINT: 0, LAYOUT: 1, TREE: 2, FILTER: 3 };

/** How deep a change of each field goes: what must be made anew. */
const DEPTH_OF = {
  group: DEPTH.TREE, stateAt: DEPTH.TREE, invert: DEPTH.TREE, focus: DEPTH.TREE,
  sort: DEPTH.LAYOUT, width: DEPTH.LAYOUT, normalize: DEPTH.FILTER,
};

class Store {
  constructor(data) {
    this.data = data;
    this.keys = new Keys(data);
    this.listeners = [];
    this.view = {
      tab: "graph", group: data.options.perThread ? "thread" : "process",
      stateAt: data.options.state && !data.difference ? "leaf" : "none", invert: false,
      flip: false, sort: "time", hide: 1, colour: data.difference ? "change" : "state",
      width: "after", normalize: data.difference && data.options.normalize, focus: -1,
      search: "", regex: false, zoom: [], dark: false,
    };
    this.filter = {
      threads: new Uint8Array(data.threads.length).fill(1),
      states: new Uint8Array(data.states.length).fill(1),
    };
    this.selected = 0;
    this.matches = null;
    this.searchError = "";
  }

  subscribe(listener) {
    this.listeners.push(listener);
  }

  /** Change fields of the view. */
  set(changes) {
    let depth = DEPTH.PAINT;
    let searched = false;
    for (const [field, value] of Object.entries(changes)) {
      if (this.view[field] === value) continue;
      this.view[field] = value;
      depth = Math.max(depth, DEPTH_OF[field] ?? DEPTH.PAINT);
      searched = searched || field === "search" || field === "regex";
    }
    if (searched) this.runSearch();
    this.refresh(depth);
  }

  /** Something in `filter` was changed. */
  filtered() {
    this.refresh(DEPTH.FILTER);
  }

  resetFilters() {
    this.filter.threads.fill(1);
    this.filter.states.fill(1);
    this.view.focus = -1;
    this.view.zoom = [];
    this.filtered();
  }

  get narrowed() {
    return this.filter.threads.includes(0) || this.filter.states.includes(0);
  }

  refresh(depth) {
    const { data, keys, filter, view } = this;
    // The selected box is found again by its path: numbers change with the tree.
    const selected = this.tree ? keysTo(this.tree, this.selected) : [];
    if (depth >= DEPTH.FILTER) {
      this.sums = sumUp(data, filter);
      this.functionSums = this.waitSums = null;
    }
    if (depth >= DEPTH.TREE) this.tree = buildTree(data, keys, filter, view);
    if (depth >= DEPTH.LAYOUT) {
      layOut(this.tree, keys, view, this.scale);
      this.selected = nodeAt(this.tree, selected);
      const found = nodeAt(this.tree, view.zoom);
      if (this.tree.depth[found] < view.zoom.length) view.zoom = keysTo(this.tree, found);
    }
    if (depth >= DEPTH.LAYOUT || this.matches !== this.sharedMatches) {
      this.sharedMatches = this.matches;
      this.share = this.matches ? matchedShare(this.tree, this.matches) : null;
    }
    for (const listener of this.listeners) listener(depth);
  }

  /** Factors for before and after; null unless two profiles are compared. */
  get scale() {
    if (!this.data.difference) return null;
    const before = this.sums.kept.value(0), after = this.sums.kept.value(1);
    return [this.view.normalize && before && after ? after / before : 1, 1];
  }

  get functions() {
    return (this.functionSums ??= sumFunctions(this.data, this.filter));
  }

  get waits() {
    return (this.waitSums ??= sumWaits(this.data, this.filter));
  }

  runSearch() {
    const { search, regex } = this.view;
    this.searchError = "";
    this.matches = null;
    this.test = null;
    if (!search) return;
    if (regex) {
      try {
        const pattern = new RegExp(search, "iu");
        this.test = (text) => pattern.test(text);
      } catch (error) {
        this.searchError = "not a regular expression";
        return;
      }
    } else {
      const wanted = search.toLowerCase();
      this.test = (text) => text.toLowerCase().includes(wanted);
    }
    this.matches = this.keys.matches(this.test);
  }
}
