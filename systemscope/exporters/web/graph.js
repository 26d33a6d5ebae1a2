// The graph with its scrolling, zooming and pointing.

class Graph {
  constructor(store) {
    this.store = store;
    this.scroller = byId("scroller");
    this.canvas = byId("flame");
    this.sizer = byId("sizer");
    this.flame = new Flame(this.canvas, store);
    this.tooltip = new Tooltip(store);
    this.crumbs = byId("crumbs");
    new ResizeObserver(() => this.fit()).observe(this.scroller);
    this.scroller.addEventListener("scroll", () => {
      this.flame.scroll = this.scroller.scrollTop;
      this.tooltip.hide();
      this.flame.schedule();
    });
    this.listen();
    store.subscribe((depth) => this.refresh(depth));
    window.addEventListener("popstate", (event) => this.restore(event.state));
  }

  fit() {
    // A hidden panel has no size, and its canvas keeps the old one.
    const { clientWidth, clientHeight } = this.scroller;
    if (!clientWidth || !clientHeight) return;
    this.flame.resize(clientWidth, clientHeight);
    this.resizeContent();
  }

  resizeContent() {
    const extra = Math.max(0, this.flame.contentHeight - this.flame.height);
    this.sizer.style.height = `${extra}px`;
    this.flame.scroll = this.scroller.scrollTop;
  }

  refresh(depth) {
    const { view, tree } = this.store;
    const zoomed = this.shownZoom !== view.zoom;
    if (depth >= DEPTH.LAYOUT || zoomed) {
      this.shownZoom = view.zoom;
      const node = nodeAt(tree, view.zoom);
      this.flame.show(tree.x[node], tree.x[node] + tree.value[node], zoomed);
      this.flame.hovered = -1;
      this.tooltip.hide();
      this.drawCrumbs(node);
    }
    if (depth >= DEPTH.LAYOUT || this.flipped !== view.flip) {
      this.resizeContent();
      if (this.flipped !== view.flip || depth >= DEPTH.TREE) {
        this.scroller.scrollTop = view.flip ? this.scroller.scrollHeight : 0;
      }
      this.flipped = view.flip;
    }
    byId("graph-empty").hidden = tree.value[0] > 0;
    this.flame.schedule();
  }

  /** Zoom to a node; remembered, so that the browser's Back undoes it. */
  zoom(node) {
    const { tree } = this.store;
    const zoom = keysTo(tree, node);
    this.store.selected = node;
    if (String(zoom) !== String(this.store.view.zoom)) {
      history.pushState({ zoom }, "");
      this.store.set({ zoom });
    } else {
      this.flame.show(tree.x[node], tree.x[node] + tree.value[node], true);
      this.store.set({});
    }
    this.reveal(node);
  }

  zoomOut() {
    const { tree, view } = this.store;
    const node = nodeAt(tree, view.zoom);
    if (node > 0) this.zoom(tree.parent[node]);
    else if (view.focus >= 0) this.store.set({ focus: -1, zoom: [] });
    else this.zoom(0);
  }

  restore(state) {
    this.store.set({ zoom: (state && state.zoom) || [] });
  }

  select(node) {
    this.store.selected = node;
    this.reveal(node);
    this.store.set({});
  }

  /** Bring a node into sight: its row, and its place where the zoom leaves it out. */
  reveal(node) {
    const { tree } = this.store;
    const top = this.flame.rowTop(tree.depth[node]);
    if (top < 0) this.scroller.scrollTop += top - ROW;
    else if (top + ROW > this.flame.height) {
      this.scroller.scrollTop += top + 2 * ROW - this.flame.height;
    }
    const goal = this.flame.goal || this.flame;
    const left = tree.x[node], right = left + tree.value[node];
    if (right <= goal.from || left >= goal.to) this.flame.show(left, right, true);
  }

  /** Zoom freely about a place, as with the wheel. */
  stretch(factor, at = 0.5) {
    const whole = this.store.tree.value[0];
    const goal = this.flame.goal || this.flame;
    const size = Math.min(whole, Math.max((goal.to - goal.from) * factor, whole / 1e9));
    const centre = goal.from + (goal.to - goal.from) * at;
    this.move(centre - size * at, size);
  }

  move(from, size) {
    const whole = this.store.tree.value[0];
    const start = Math.max(0, Math.min(from, whole - size));
    this.flame.show(start, start + size, false);
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("pointerdown", (event) => {
      this.drag = { x: event.clientX, from: this.flame.from, moved: false };
    });
    window.addEventListener("pointerup", () => setTimeout(() => { this.drag = null; }));
    canvas.addEventListener("click", (event) => this.click(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  point(event) {
    if (this.drag && event.buttons) {
      const by = event.clientX - this.drag.x;
      if (Math.abs(by) > 4) this.drag.moved = true;
      if (this.drag.moved) {
        this.tooltip.hide();
        this.move(this.drag.from - by / this.flame.scaleX, this.flame.to - this.flame.from);
        return;
      }
    }
    if (event.pointerType === "touch") return;
    const node = this.flame.hit(...this.place(event));
    this.canvas.style.cursor = node > 0 ? "pointer" : "default";
    if (node !== this.flame.hovered) {
      this.flame.hovered = node;
      this.flame.schedule();
    }
    if (node >= 0) this.tooltip.show(node, event.clientX, event.clientY);
    else this.tooltip.hide();
  }

  leave() {
    this.flame.hovered = -1;
    this.flame.schedule();
    this.tooltip.hide();
  }

  click(event) {
    if (this.drag && this.drag.moved) return;
    const node = this.flame.hit(...this.place(event));
    if (node < 0) return;
    // A finger has no hover: its first tap shows what this is, its second one zooms.
    const looks = event.pointerType === "touch" && node !== this.store.selected;
    if (looks || event.shiftKey) this.select(node);
    else this.zoom(node);
  }

  wheel(event) {
    const zooms = event.ctrlKey || event.metaKey;
    const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey;
    if (!zooms && !sideways) return;
    event.preventDefault();
    this.tooltip.hide();
    if (zooms) {
      const [x] = this.place(event);
      this.stretch(Math.exp(Math.max(-50, Math.min(50, event.deltaY)) * 0.008),
        x / this.flame.width);
    } else {
      const size = this.flame.to - this.flame.from;
      const by = event.deltaX || event.deltaY;
      this.move(this.flame.from + (by / this.flame.width) * size, size);
    }
  }

  /** The way from the root to what is zoomed to. */
  drawCrumbs(node) {
    const { tree, keys, view } = this.store;
    const path = [];
    for (let at = node; at > 0; at = tree.parent[at]) path.unshift(at);
    path.unshift(0);
    const items = [];
    const hidden = path.length > 7 ? path.slice(2, -4) : [];
    for (const at of path) {
      if (hidden.includes(at)) {
        if (at === hidden[0]) items.push(el("li", { class: "more" }, `${hidden.length} more`));
        continue;
      }
      const label = shortened(keys.label(tree.key[at]), 40);
      const current = at === node;
      items.push(el("li", {}, el("button", {
        type: "button", class: "crumb", title: keys.label(tree.key[at]),
        "aria-current": current ? "true" : null, onclick: () => this.zoom(at),
      }, label)));
    }
    if (view.focus >= 0) {
      items.unshift(el("li", { class: "focus" }, el("button", {
        type: "button", class: "chip", onclick: () => this.store.set({ focus: -1, zoom: [] }),
        title: "Show whole stacks again",
      }, view.invert ? "callers of " : "calls of ", el("b", {}, shortened(keys.label(view.focus), 48)),
      icon(ICONS.close))));
    }
    this.crumbs.replaceChildren(...items);
  }
}
