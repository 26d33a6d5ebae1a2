// Everything by keyboard.

const HELP = [
  ["/", "search; Enter and Shift+Enter go through the matches"],
  ["← → ↑ ↓", "walk through the graph"],
  ["Enter", "zoom to the selected box"],
  ["Esc, Backspace", "zoom out by one"],
  ["Home", "zoom out to the whole"],
  ["+ −", "stretch and shrink; Ctrl+wheel does it about the pointer"],
  ["f", "focus the selected function: all its occurrences as one"],
  ["r", "top down or bottom up"],
  ["i", "icicle or flame"],
  ["c", "copy the selected stack"],
  ["1 – 5", "graph, functions, threads, waits, summary"],
  ["t", "light or dark"],
  ["?", "this help"],
];

function buildHelp() {
  const dialog = byId("help-dialog");
  byId("help-keys").replaceChildren(...HELP.map(([keys, what]) =>
    el("div", { class: "row" }, el("dt", {}, el("kbd", {}, keys)), el("dd", {}, what))));
  byId("help").addEventListener("click", () => dialog.showModal());
  byId("help-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

/** Where an arrow leads: up and down are as the graph is drawn. */
function step(store, key) {
  const { tree, view, selected } = store;
  const shown = (node) => node >= 0 && tree.value[node] > 0;
  const deeper = view.flip ? "ArrowUp" : "ArrowDown";
  if (key === "ArrowDown" || key === "ArrowUp") {
    if (key !== deeper) return selected > 0 ? tree.parent[selected] : 0;
    const first = tree.start[selected];
    let best = -1;
    for (let at = first; at < tree.start[selected + 1]; at++) {
      const child = tree.children[at];
      if (shown(child) && (best < 0 || tree.value[child] > tree.value[best])) best = child;
    }
    return best < 0 ? selected : best;
  }
  if (!selected) return 0;
  const parent = tree.parent[selected];
  const by = key === "ArrowRight" ? 1 : -1;
  for (let at = tree.start[parent]; at < tree.start[parent + 1]; at++) {
    if (tree.children[at] !== selected) continue;
    const next = at + by;
    const inside = next >= tree.start[parent] && next < tree.start[parent + 1];
    return inside && shown(tree.children[next]) ? tree.children[next] : selected;
  }
  return selected;
}

function buildKeyboard(store, graph, showTab, tabs) {
  const onGraph = {
    Enter: () => graph.zoom(store.selected),
    Home: () => graph.zoom(0),
    Backspace: () => graph.zoomOut(),
    f: () => {
      const key = store.tree.key[store.selected];
      if (store.keys.kind(key) === KIND.FRAME) focusOn(store, key);
    },
    c: () => copyStack(store, store.selected),
    "+": () => graph.stretch(0.6),
    "=": () => graph.stretch(0.6),
    "-": () => graph.stretch(1 / 0.6),
  };
  for (const key of ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]) {
    onGraph[key] = () => graph.select(step(store, key));
  }
  const anywhere = {
    "/": () => byId("search").select(),
    "?": () => byId("help-dialog").showModal(),
    t: () => store.toggleTheme(),
    r: () => store.set({ invert: !store.view.invert, zoom: [] }),
    i: () => store.set({ flip: !store.view.flip }),
    Escape: () => graph.zoomOut(),
  };
  tabs.forEach((tab, index) => { anywhere[String(index + 1)] = () => showTab(tab); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const { target } = event;
    if (byId("help-dialog").open || target.matches("input:not([type=checkbox]), select, textarea")) {
      return;
    }
    const free = target === document.body || target === byId("flame") || target === byId("scroller");
    const action = (free && store.view.tab === "graph" && onGraph[event.key]) || anywhere[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
