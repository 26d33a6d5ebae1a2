// Puts the page together.

const TABS = ["graph", "functions", "threads", "waits", "summary"];

function start() {
  const store = new Store(loadData(byId("data")));
  const { data } = store;
  const title = titleOf(data);
  document.title = `${title} – SystemScope`;
  byId("title").textContent = title;
  byId("subtitle").textContent = subtitleOf(data);
  buildTheme(store);
  buildToolbar(store);
  buildSearch(store);
  buildHelp();
  const graph = (store.graph = new Graph(store));
  new Details(store, graph);
  new StateStrip(store);
  new ThreadList(store);
  const views = [new FunctionsView(store), new ThreadsView(store), new WaitsView(store, graph),
    new SummaryView(store)];
  const showTab = (tab) => store.set({ tab });
  buildTabs(store, showTab);
  buildSidebar(store);
  buildKeyboard(store, graph, showTab, TABS);
  store.subscribe(() => {
    const view = views.find((one) => one.tab === store.view.tab);
    if (view) view.draw();
    byId("reset").hidden = !store.narrowed && store.view.focus < 0;
  });
  for (const button of document.querySelectorAll(".reset")) {
    button.addEventListener("click", () => store.resetFilters());
  }
  byId("empty-words").textContent = data.samples.count
    ? "Nothing passes the filters." : "This profile holds no thread time.";
  byId("empty-reset").hidden = data.samples.count === 0;
  store.refresh(DEPTH.FILTER);
  graph.fit();
  drawFacts(store, () => showTab("summary"));
  // For scripts and tests: what the canvas cannot tell.
  window.systemscope = { store, graph, exactNs };
}

function subtitleOf(data) {
  if (data.difference) return "difference of two profiles";
  const [side] = data.sides;
  return [side.command ? side.host : "", momentOf(side), side.kernel].filter(Boolean).join(" · ");
}

function buildTabs(store, showTab) {
  const buttons = TABS.map((tab) => byId(`tab-${tab}`));
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => showTab(TABS[index]));
    button.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const next = (index + by + TABS.length) % TABS.length;
      showTab(TABS[next]);
      buttons[next].focus();
    });
  });
  store.subscribe(() => TABS.forEach((tab, index) => {
    const chosen = store.view.tab === tab;
    buttons[index].setAttribute("aria-selected", String(chosen));
    buttons[index].tabIndex = chosen ? 0 : -1;
    byId(`panel-${tab}`).hidden = !chosen;
  }));
}

/** On narrow screens the lists lie over the page until they are put away. */
function buildSidebar() {
  const sidebar = byId("sidebar"), button = byId("filters"), shade = byId("shade");
  const open = (wanted) => {
    sidebar.classList.toggle("open", wanted);
    shade.hidden = !wanted;
    button.setAttribute("aria-expanded", String(wanted));
    if (wanted) byId("thread-search").focus({ preventScroll: true });
  };
  button.addEventListener("click", () => open(!sidebar.classList.contains("open")));
  shade.addEventListener("click", () => open(false));
  byId("sidebar-close").addEventListener("click", () => open(false));
  sidebar.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && sidebar.classList.contains("open")) {
      event.stopPropagation();
      open(false);
      button.focus();
    }
  });
}

for (const place of document.querySelectorAll("[data-icon]")) {
  place.prepend(icon(ICONS[place.dataset.icon]));
}
start();
