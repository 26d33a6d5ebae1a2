// How the graph is arranged and coloured; the search field; the theme.

/** A list to choose one of, with its name in front. */
function choice(store, field, label, options, title) {
  const select = el("select", {
    title, "aria-label": label, "data-field": field,
    onchange: () => store.set({ [field]: options[select.selectedIndex][0] }),
  }, options.map(([, name]) => el("option", {}, name)));
  store.subscribe(() => {
    select.selectedIndex = options.findIndex(([value]) => value === store.view[field]);
  });
  return el("label", { class: "choice" }, el("span", {}, label), select);
}

/** A few buttons of which one is pressed. */
function segments(store, field, label, options) {
  const buttons = options.map(([value, name, title]) => el("button", {
    type: "button", title, "data-field": field, "data-value": String(value),
    onclick: () => store.set(field === "invert" ? { invert: value, zoom: [] } : { [field]: value }),
  }, name));
  store.subscribe(() => options.forEach(([value], index) => {
    buttons[index].setAttribute("aria-pressed", String(store.view[field] === value));
  }));
  return el("div", { class: "segments", role: "group", "aria-label": label }, buttons);
}

function buildToolbar(store) {
  const { difference } = store.data;
  const groups = [["process", "process"], ["thread", "process, thread"], ["comm", "thread name"],
    ["none", "nothing"]];
  if (difference) groups[1] = ["thread", "process, thread name"];
  const tools = [
    segments(store, "invert", "Direction", [
      [false, "Top down", "Callers first: what was it doing? (r)"],
      [true, "Bottom up", "Leaves first: who calls this? (r)"],
    ]),
    segments(store, "flip", "Orientation", [
      [false, "Icicle", "Roots at the top (i)"], [true, "Flame", "Roots at the bottom (i)"],
    ]),
    choice(store, "group", "Group", groups, "What the boxes next to the root stand for"),
    choice(store, "stateAt", "State", [["leaf", "at the leaf"], ["root", "at the root"],
      ["none", difference ? "not shown" : "as colour only"]], "Where a box tells the thread's state"),
  ];
  if (difference) {
    tools.push(
      choice(store, "width", "Width", [["after", "after"], ["before", "before"]],
        "Which of the two runs the widths show"),
      segments(store, "normalize", "Scale", [
        [false, "Absolute", "Times as they are"],
        [true, "Normalized", "Before is scaled to the total of after"],
      ]));
  } else {
    tools.push(choice(store, "colour", "Colour", [["state", "state"], ["code", "kernel, library"]],
      "What the colours mean"));
  }
  tools.push(
    choice(store, "sort", "Sort", [["time", "time"], ["name", "name"]], "Order of neighbours"),
    choice(store, "hide", "Hide",
      [[0.25, "< ¼ px"], [1, "< 1 px"], [3, "< 3 px"], [8, "< 8 px"], [24, "< 24 px"]],
      "Boxes narrower than this are drawn as one"));
  byId("toolbar").replaceChildren(...tools);
  store.subscribe(() => drawLegend(store));
}

function drawLegend(store) {
  const { data, view } = store;
  const items = [];
  if (data.difference) {
    for (const [ratio, words] of [[-1, "less"], [-0.3, ""], [0, "same"], [0.3, ""], [1, "more"]]) {
      items.push(el("span", {}, swatch(changeColor(ratio, view.dark)), words));
    }
  } else if (view.colour === "code") {
    const seen = new Set(data.frames.kind);
    for (const kind of [...seen].sort()) {
      items.push(el("span", {}, swatch(hsl(CLASS_COLORS[kind], view.dark)), CLASS_NAMES[kind]));
    }
  }
  byId("legend").replaceChildren(...items);
}

function buildSearch(store) {
  byId("search").form.addEventListener("submit", (event) => event.preventDefault());
  const field = byId("search"), regex = byId("regex"), share = byId("share");
  const search = afterwards(() => store.set({ search: field.value }), 60);
  field.addEventListener("input", search);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      field.value = "";
      store.set({ search: "" });
      field.blur();
      event.stopPropagation();
    } else if (event.key === "Enter") {
      event.preventDefault();
      store.set({ search: field.value });
      nextMatch(store, event.shiftKey ? -1 : 1);
    }
  });
  regex.addEventListener("click", () => store.set({ regex: !store.view.regex }));
  store.subscribe(() => {
    regex.setAttribute("aria-pressed", String(store.view.regex));
    field.setAttribute("aria-invalid", String(Boolean(store.searchError)));
    if (store.searchError) share.textContent = store.searchError;
    else if (!store.share) share.textContent = "";
    else {
      const { ns, functions } = store.share;
      share.textContent = functions
        ? `${percent(ns, store.tree.value[0])} · ${shortTime(ns)} · ${plural(functions, "name")}`
        : "no match";
      share.title = exactNs(ns);
    }
  });
}

/** Select the matching boxes in turn, the widest first. */
function nextMatch(store, step) {
  const { tree, matches } = store;
  if (!matches || !store.graph) return;
  const found = [];
  for (let node = 1; node < tree.count; node++) {
    if (matches[tree.key[node]] && tree.value[node]) found.push(node);
  }
  if (!found.length) return;
  found.sort((a, b) => tree.value[b] - tree.value[a] || a - b);
  const at = found.indexOf(store.selected);
  const next = at < 0 ? 0 : (at + step + found.length) % found.length;
  store.graph.select(found[next]);
}

/** Light or dark: as the system has it until the button is pressed. */
function buildTheme(store) {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = "";
  const apply = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    store.view.dark = dark;
    repaint();
  };
  const repaint = () => {
    const { view, data, keys } = store;
    const made = `${view.colour} ${view.dark}`;
    if (store.paletteOf === made) return;
    store.paletteOf = made;
    store.palette = new Palette(data, keys, view.colour, view.dark);
    if (store.tree) store.set({});
  };
  store.toggleTheme = () => {
    chosen = store.view.dark ? "light" : "dark";
    apply();
  };
  byId("theme").addEventListener("click", store.toggleTheme);
  system.addEventListener("change", apply);
  // First among the listeners: the others draw with the palette.
  store.subscribe(repaint);
  apply();
}
