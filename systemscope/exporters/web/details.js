// What there is to say of one box of the graph: in the tooltip and below the graph.

/** Rows of (what, exact time, share) of a node, and its split by state. */
function describe(store, node) {
  const { data, keys, tree } = store;
  const key = tree.key[node];
  const about = { name: keys.label(key), where: whereOf(store, key), rows: [], split: [] };
  if (data.difference) {
    const [before, after] = sidesOf(tree, node, store.scale);
    const whole = sidesOf(tree, 0, store.scale);
    about.rows.push(
      ["Before", exactNs(before), percent(before, whole[0])],
      ["After", exactNs(after), percent(after, whole[1])],
      ["Change", change(after - before, exactNs), changeShare(before, after)],
    );
    return about;
  }
  const whole = tree.value[0];
  const total = tree.value[node];
  about.rows.push(["Total", exactNs(total), percent(total, whole)]);
  if (keys.kind(key) === KIND.FRAME && !store.view.invert) {
    const self = selfTime(store, node);
    about.rows.push(["Self", exactNs(self), percent(self, whole)]);
  }
  const counts = [];
  if (tree.samples[node]) counts.push(plural(tree.samples[node], "sample"));
  if (tree.waits[node]) counts.push(plural(tree.waits[node], "wait"));
  if (counts.length) about.rows.push(["Count", counts.join(", "), ""]);
  if (tree.waits[node] && !tree.samples[node]) {
    about.rows.push(["Mean wait", shortTime(total / tree.waits[node]), ""]);
  }
  tree.planes.forEach((plane, state) => {
    if (plane && plane[node]) about.split.push({ state, ns: plane[node] });
  });
  about.split.sort((a, b) => b.ns - a.ns);
  return about;
}

/** Time in the frame itself: that of its state leaf belongs to it. */
function selfTime(store, node) {
  const { tree, keys } = store;
  let self = tree.value[node];
  for (let at = tree.start[node]; at < tree.start[node + 1]; at++) {
    const child = tree.children[at];
    if (keys.kind(tree.key[child]) !== KIND.STATE) self -= tree.value[child];
  }
  return Math.max(0, self);
}

function changeShare(before, after) {
  if (before === after) return "";
  if (!before) return after ? "new" : "";
  if (!after) return "gone";
  return change((100 * (after - before)) / before, (value) => `${signed(value, 1)}${THIN}%`);
}

function whereOf(store, key) {
  const { data, keys } = store;
  if (keys.kind(key) === KIND.FRAME) {
    const { frames, strings } = data;
    const module = strings[frames.module[key]];
    return [
      CLASS_NAMES[frames.kind[key]],
      module === `[${CLASS_NAMES[frames.kind[key]]}]` || module === keys.label(key) ? "" : module,
      frameSource(data, key),
      frames.inlined[key] ? "inlined" : "",
      strings[frames.unknown[key]] && `no symbol: ${strings[frames.unknown[key]]}`,
    ].filter(Boolean).join(" · ");
  }
  if (keys.kind(key) === KIND.THREAD) {
    const thread = data.threads[keys.threadOf(key)];
    return `thread of ${processLabel(data, data.processes[thread.process])}`;
  }
  return ["", "state", "process", "", "threads of this name", ""][keys.kind(key)];
}

function splitBar(store, about) {
  const { data, view } = store;
  const whole = about.split.reduce((sum, one) => sum + one.ns, 0);
  const words = about.split
    .map((one) => `${data.states[one.state]} ${percent(one.ns, whole)}`).join(", ");
  const parts = about.split
    .map((one) => ({ size: one.ns, color: stateColor(one.state, view.dark, view.dark ? 14 : -8) }));
  return stackedBar(parts, whole, words);
}

class Tooltip {
  constructor(store) {
    this.store = store;
    this.box = byId("tooltip");
    this.node = -1;
  }

  show(node, x, y) {
    if (node !== this.node || this.box.hidden) this.fill(node);
    this.box.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.box;
    const right = x + 14 + width > window.innerWidth - 8;
    const below = y + 18 + height > window.innerHeight - 8;
    this.box.style.left = `${Math.max(8, right ? x - width - 10 : x + 14)}px`;
    this.box.style.top = `${Math.max(8, below ? y - height - 12 : y + 18)}px`;
  }

  hide() {
    this.box.hidden = true;
    this.node = -1;
  }

  fill(node) {
    this.node = node;
    const { store } = this;
    const about = describe(store, node);
    const whole = about.split.reduce((sum, one) => sum + one.ns, 0);
    const rows = about.rows.map(([what, time, share]) => el("tr", {},
      el("th", { scope: "row" }, what), el("td", {}, time), el("td", {}, share)));
    if (about.split.length > 1) {
      rows.push(...about.split.map((one) => el("tr", { class: "state" },
        el("th", { scope: "row" }, swatch(stateColor(one.state, store.view.dark, store.view.dark ? 14 : -8)),
          store.data.states[one.state]),
        el("td", {}, exactNs(one.ns)), el("td", {}, percent(one.ns, whole)))));
    }
    this.box.replaceChildren(
      el("div", { class: "name" }, shortened(about.name, 300)),
      about.where ? el("div", { class: "where" }, shortened(about.where, 300)) : "",
      el("table", {}, el("tbody", {}, rows)),
    );
  }
}

/** The panel below the graph: the selected box and what can be done with it. */
class Details {
  constructor(store, graph) {
    this.store = store;
    this.graph = graph;
    this.panel = byId("details");
    store.subscribe(() => this.draw());
  }

  draw() {
    const { store } = this;
    const node = store.selected;
    const about = describe(store, node);
    const facts = about.rows.map(([what, time, share]) => el("div", { class: "fact" },
      el("span", { class: "what" }, what), el("b", {}, time),
      share ? el("span", { class: "share" }, share) : ""));
    const split = about.split.length
      ? el("div", { class: "split" }, splitBar(store, about), el("span", { class: "legend" },
        about.split.slice(0, 4).map((one) => el("span", {},
          swatch(stateColor(one.state, store.view.dark, store.view.dark ? 14 : -8)),
          `${store.data.states[one.state]} ${percent(one.ns, store.tree.value[node])}`))))
      : "";
    this.panel.replaceChildren(
      el("div", { class: "who" },
        el("div", { class: "name", title: about.name }, about.name),
        el("div", { class: "where", title: about.where },
          about.where || (node ? "" : "click a box to zoom, hover for exact times"))),
      el("div", { class: "facts" }, facts),
      split,
      el("div", { class: "actions" }, this.actions(node)),
    );
    byId("announce").textContent =
      node || this.spoken ? `${about.name}, ${about.rows[0].join(" ")}` : "";
    this.spoken = true;
  }

  actions(node) {
    const { store, graph } = this;
    const key = store.tree.key[node];
    const kind = store.keys.kind(key);
    const button = (text, title, onclick) =>
      el("button", { type: "button", class: "button", title, onclick }, text);
    const found = [];
    if (node && keysTo(store.tree, node).join() !== store.view.zoom.join()) {
      found.push(button("Zoom", "Give this box the whole width (Enter)", () => graph.zoom(node)));
    }
    if (kind === KIND.FRAME && key !== store.view.focus) {
      found.push(button("Focus function", "Merge everything it calls, or its callers (f)",
        () => focusOn(store, key)));
    }
    if (kind === KIND.PROCESS || kind === KIND.THREAD) {
      found.push(button("Only this", "Leave everything else out", () => {
        const only = kind === KIND.THREAD ? [store.keys.threadOf(key)]
          : store.data.processes[store.keys.processOf(key)].threads.map((one) => one.index);
        keepOnly(store, only);
      }));
    }
    if (node) {
      found.push(button("Copy stack", "Copy the names from the root to here (c)",
        () => copyStack(store, node)));
    }
    return found;
  }
}

/** All occurrences of a function as one: its callees, or its callers when turned round. */
function focusOn(store, key) {
  store.selected = 0;
  history.pushState({ zoom: [] }, "");
  store.set({ focus: key, zoom: [], tab: "graph" });
}

function copyStack(store, node) {
  const names = keysTo(store.tree, node).map((key) => store.keys.label(key));
  const done = () => { byId("announce").textContent = "stack copied"; };
  // file:// is no secure context everywhere: there, the old way.
  if (navigator.clipboard) navigator.clipboard.writeText(names.join(";")).then(done, () => {});
  else {
    const area = el("textarea", { value: names.join(";"), class: "unseen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    done();
  }
}
