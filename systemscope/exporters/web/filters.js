// The lists to choose from: states across the top, processes and threads at the side.

const LIST_MAX = 400;  // more entries than anyone scrolls through; the search finds the rest

/** Show these threads only; once more, and all are back. */
function keepOnly(store, threads) {
  const { filter } = store;
  const chosen = filter.threads.reduce((sum, one) => sum + one, 0);
  const already = chosen === threads.length && threads.every((thread) => filter.threads[thread]);
  filter.threads.fill(already ? 1 : 0);
  if (!already) for (const thread of threads) filter.threads[thread] = 1;
  store.filtered();
}

const PRESETS = [
  ["All", () => true, "All states"],
  ["On CPU", (state) => state === STATE.RUNNING, "Running only"],
  ["Wants CPU", (state) => state === STATE.RUNNABLE, "Runnable: waiting for a CPU"],
  ["Blocked", (state) => state >= STATE.SLEEPING && state <= STATE.BLOCKED, "All waits but for a CPU"],
];

/** The bar of all thread time, and a box to tick for each state. */
class StateStrip {
  constructor(store) {
    this.store = store;
    this.bar = byId("state-bar");
    this.chips = byId("state-chips");
    this.presets = byId("presets");
    this.present = presentStates(store.data);
    this.build();
    store.subscribe((depth) => {
      if (depth >= DEPTH.FILTER || this.dark !== store.view.dark) this.draw();
    });
  }

  build() {
    const { store } = this;
    this.rows = this.present.map((state) => {
      const box = el("input", {
        type: "checkbox", checked: true, onchange: () => {
          store.filter.states[state] = box.checked ? 1 : 0;
          store.filtered();
        },
      });
      const mark = swatch("transparent");
      const share = el("span", { class: "share" });
      const row = el("label", { class: "state" }, box, mark,
        el("span", { class: "what" }, store.data.states[state]), share);
      return { state, box, mark, share, row };
    });
    this.chips.replaceChildren(...this.rows.map((one) => one.row));
    this.buttons = PRESETS.map(([name, test, title]) => {
      const button = el("button", {
        type: "button", title, "aria-pressed": "false", onclick: () => {
          for (const state of this.present) store.filter.states[state] = test(state) ? 1 : 0;
          store.filtered();
        },
      }, name);
      return { button, test };
    });
    this.presets.replaceChildren(...this.buttons.map((one) => one.button));
  }

  draw() {
    const { store } = this;
    const { data, sums, filter, view } = store;
    this.dark = view.dark;
    const side = data.sides.length - 1;
    const total = (state) => sums.state.value(side * data.states.length + state);
    const whole = this.present.reduce((sum, state) => sum + total(state), 0);
    const shown = this.present.filter((state) => filter.states[state]);
    const words = shown.map((state) => `${data.states[state]} ${percent(total(state), whole)}`);
    const bar = stackedBar(this.present.map((state) => ({
      size: total(state),
      color: filter.states[state] ? stateColor(state, view.dark, view.dark ? 12 : -6)
        : "var(--line)",
    })), whole, `Time by state: ${words.join(", ")}`);
    this.bar.replaceChildren(bar);
    for (const { state, box, mark, share, row } of this.rows) {
      box.checked = filter.states[state] === 1;
      mark.style.background = stateColor(state, view.dark, view.dark ? 12 : -6);
      share.textContent = percent(total(state), whole);
      row.title = `${data.states[state]}: ${sums.state.text(side * data.states.length + state)}`;
    }
    for (const { button, test } of this.buttons) {
      const matches = this.present.every((state) => Boolean(filter.states[state]) === test(state));
      button.setAttribute("aria-pressed", String(matches));
    }
  }
}

function presentStates(data) {
  const seen = new Set(data.samples.state);
  return [...seen].sort((a, b) => a - b);
}

/** Processes with their threads, the busiest first. */
class ThreadList {
  constructor(store) {
    this.store = store;
    this.list = byId("thread-list");
    this.field = byId("thread-search");
    this.count = byId("thread-count");
    this.open = new Set();
    this.order = byTime(store.data);
    if (store.data.processes.length <= 2) store.data.processes.forEach((_, i) => this.open.add(i));
    this.field.addEventListener("input", afterwards(() => this.draw(), 80));
    byId("threads-all").addEventListener("click", () => this.every(1));
    byId("threads-none").addEventListener("click", () => this.every(0));
    store.subscribe((depth) => { if (depth >= DEPTH.FILTER) this.draw(); });
  }

  /** Tick or clear all that the search leaves in the list. */
  every(value) {
    for (const { threads } of this.found()) {
      for (const thread of threads) this.store.filter.threads[thread.index] = value;
    }
    this.store.filtered();
  }

  /** Processes and the threads of them to show, as the search has it. */
  found() {
    const wanted = this.field.value.trim().toLowerCase();
    const has = (text) => text.toLowerCase().includes(wanted);
    const { data } = this.store;
    return this.order.processes.map((process) => {
      const all = this.order.threads(process);
      const threads = !wanted || has(processLabel(data, process)) ? all
        : all.filter((thread) => has(threadLabel(data, thread)));
      return { process, threads, narrowed: threads.length < all.length };
    }).filter((one) => one.threads.length);
  }

  draw() {
    const { store, open } = this;
    const { data, filter } = store;
    const rows = [];
    let left = LIST_MAX;
    const found = this.found();
    for (const { process, threads, narrowed } of found) {
      if (left-- <= 0) break;
      const single = process.threads.length === 1;
      const expanded = !single && (open.has(process.index) || narrowed);
      rows.push(this.processRow(process, threads, single, expanded));
      if (!expanded) continue;
      for (const thread of threads) if (left-- > 0) rows.push(this.threadRow(thread));
    }
    if (left < 0) rows.push(el("li", { class: "hint" }, "more: search to find them"));
    if (!rows.length) rows.push(el("li", { class: "hint" }, "no process or thread of this name"));
    this.keepFocus(() => this.list.replaceChildren(...rows));
    const chosen = filter.threads.reduce((sum, one) => sum + one, 0);
    this.count.textContent = chosen === data.threads.length
      ? grouped(chosen) : `${grouped(chosen)} of ${grouped(data.threads.length)}`;
  }

  /** Redrawn lists must not lose the place of whoever walks through them by keyboard. */
  keepFocus(redraw) {
    const inside = this.list.contains(document.activeElement) ? document.activeElement : null;
    const name = inside && inside.dataset.focus;
    redraw();
    if (name) {
      const same = [...this.list.querySelectorAll("[data-focus]")]
        .find((node) => node.dataset.focus === name);
      if (same) same.focus({ preventScroll: true });
    }
  }

  processRow(process, threads, single, expanded) {
    const { store } = this;
    const { data, sums, filter } = store;
    const ids = threads.map((thread) => thread.index);
    const chosen = ids.filter((id) => filter.threads[id]).length;
    const at = (data.sides.length - 1) * data.processes.length + process.index;
    const label = single ? soleLabel(data, process) : processLabel(data, process);
    const toggle = single ? el("span", { class: "twist" }) : el("button", {
      type: "button", class: "twist", "aria-expanded": String(expanded),
      "aria-label": `Threads of ${label}`, "data-focus": `twist${process.index}`,
      onclick: () => {
        if (!this.open.delete(process.index)) this.open.add(process.index);
        this.draw();
      },
    }, icon(ICONS.right));
    return this.row(`process${process.index}`, label, ids, chosen, sums.process.value(at),
      sums.process.text(at), single ? "process" : "process many", toggle,
      single ? "" : el("span", { class: "number" }, String(threads.length)));
  }

  threadRow(thread) {
    const { store } = this;
    const { data, sums, filter } = store;
    const at = (data.sides.length - 1) * data.threads.length + thread.index;
    return this.row(`thread${thread.index}`, threadLabel(data, thread), [thread.index],
      filter.threads[thread.index], sums.thread.value(at), sums.thread.text(at), "thread", "", "");
  }

  row(name, label, ids, chosen, ns, exact, kind, before, after) {
    const { store } = this;
    const box = el("input", {
      type: "checkbox", checked: chosen === ids.length, indeterminate: chosen > 0 && chosen < ids.length,
      "data-focus": name, onchange: () => {
        for (const id of ids) store.filter.threads[id] = box.checked ? 1 : 0;
        store.filtered();
      },
    });
    return el("li", { class: kind }, before,
      el("label", { title: `${label}: ${exact}` }, box, el("span", { class: "what" }, label), after),
      el("button", {
        type: "button", class: "only", "data-focus": `only${name}`, "aria-label": `Only ${label}`,
        onclick: () => keepOnly(store, ids),
      }, "only"),
      el("span", { class: "time" }, shortTime(ns)));
  }
}

/** A process with one thread is one row: its name, and the thread's where that differs. */
function soleLabel(data, process) {
  const [thread] = process.threads;
  const label = processLabel(data, process);
  return thread.name === process.name ? label : `${thread.name} · ${label}`;
}

/** Processes and threads, most time that is not just waiting first. */
function byTime(data) {
  const busy = new Float64Array(data.threads.length);
  const total = new Float64Array(data.threads.length);
  const { samples } = data;
  for (let i = 0; i < samples.count; i++) {
    const active = samples.state[i] === STATE.RUNNING || samples.state[i] === STATE.RUNNABLE;
    if (active) busy[samples.thread[i]] += samples.value[i];
    total[samples.thread[i]] += samples.value[i];
  }
  const sum = (values, process) =>
    process.threads.reduce((so, thread) => so + values[thread.index], 0);
  const weigh = new Map(data.processes.map((one) => [one, [sum(busy, one), sum(total, one)]]));
  const processes = data.processes.filter((one) => one.threads.length).sort((a, b) =>
    weigh.get(b)[0] - weigh.get(a)[0] || weigh.get(b)[1] - weigh.get(a)[1]);
  const threads = (process) => [...process.threads].sort((a, b) =>
    busy[b.index] - busy[a.index] || total[b.index] - total[a.index] || a.tid - b.tid);
  return { processes, threads };
}
