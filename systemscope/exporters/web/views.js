// The tables: functions, threads, waits.

class FunctionsView {
  constructor(store) {
    this.store = store;
    this.tab = "functions";
    const { data } = store;
    const columns = [{
      title: "Function", wide: true, value: (row) => store.keys.label(row),
      cell: (row) => this.nameCell(row),
    }];
    const time = (title, field, help, first) => ({
      title, number: true, help, first, value: (row) => store.functions[field][row],
      cell: (row) => meter(store.functions[field][row], store.sums.kept.value(0)),
    });
    if (data.difference) {
      columns.push(...changeColumns(store, (row) => this.sides("total", row)));
      columns.push({ title: "Self change", number: true,
        value: (row) => { const [a, b] = this.sides("self", row); return Math.abs(b - a); },
        cell: (row) => changeCell(store, ...this.sides("self", row)) });
    } else {
      columns.push(
        time("Total", "total", "Wall-clock time with everything it calls", true),
        { title: "%", number: true, value: (row) => store.functions.total[row],
          cell: (row) => shareCell(store.functions.total[row], store.sums.kept.value(0)) },
        time("Self", "self", "Wall-clock time in the function itself"),
        { title: "%", number: true, value: (row) => store.functions.self[row],
          cell: (row) => shareCell(store.functions.self[row], store.sums.kept.value(0)) },
        time("On CPU", "running", "Part of the total spent running"),
        time("Runnable", "runnable", "Part of the total spent waiting for a CPU"),
        time("Blocked", "blocked", "Part of the total spent in all other waits"),
      );
    }
    this.table = new Table(byId("panel-functions"), "Functions", columns, {
      rows: () => this.rows(),
      matches: (row) => !store.test || store.matches[row] === 1,
      empty: "No stacks pass the filters.",
    });
  }

  sides(field, row) {
    const { functions, scale } = this.store;
    return [functions[field][row] * scale[0], functions[field][functions.frames + row] * scale[1]];
  }

  rows() {
    const { functions, data } = this.store;
    const rows = [];
    for (let row = 0; row < functions.frames; row++) {
      const other = data.difference ? functions.total[functions.frames + row] : 0;
      if (functions.total[row] || other) rows.push(row);
    }
    return rows;
  }

  nameCell(row) {
    const { store } = this;
    return [
      el("button", { type: "button", class: "link name", title: "Focus it in the graph",
        onclick: () => focusOn(store, row) }, shortened(store.keys.label(row), 160)),
      el("span", { class: "where" }, shortened(whereOf(store, row), 120)),
    ];
  }

  draw() { this.table.draw(); }
}

class ThreadsView {
  constructor(store) {
    this.store = store;
    this.tab = "threads";
    const { data } = store;
    const columns = [{
      title: data.difference ? "Threads" : "Thread", wide: true, value: (row) => row.name,
      cell: (row) => this.nameCell(row),
    }];
    if (data.difference) columns.push(...changeColumns(store, (row) => this.sides(row)));
    else columns.push(...this.columns());
    const host = byId("panel-threads");
    const tables = el("div"), delays = el("section", { class: "delays" });
    host.replaceChildren(tables, delays);
    this.table = new Table(tables, "Threads", columns, {
      rows: () => [...data.threads], matches: (row) => this.matches(row),
      empty: "This profile holds no threads.",
      rowClass: (row) => (store.filter.threads[row.index] ? "" : "left-out"),
    });
    if (data.threads.some((thread) => thread.delays)) this.delays = this.delayTable(delays);
  }

  matches(row) {
    const { store } = this;
    return !store.test || store.test(row.name) || store.test(String(row.tid))
      || store.test(processLabel(store.data, store.data.processes[row.process]));
  }

  sides(row) {
    const { sums, scale, data } = this.store;
    return [sums.thread.value(row.index) * scale[0],
      sums.thread.value(data.threads.length + row.index) * scale[1]];
  }

  columns() {
    const { store } = this;
    const of = (row, test) => this.split(row).filter((one) => test(one.state))
      .reduce((sum, one) => sum + one.size, 0);
    const time = (title, test, help) => ({
      title, number: true, help, value: (row) => of(row, test), cell: (row) => timeCell(of(row, test)),
    });
    return [
      { title: "Split by state", wide: true, help: "Sorted by time running or runnable", first: true,
        number: false, value: (row) => of(row, (s) => s === STATE.RUNNING || s === STATE.RUNNABLE),
        cell: (row) => this.bar(row) },
      { title: "Time", number: true, value: (row) => store.sums.thread.value(row.index),
        cell: (row) => el("span", { title: store.sums.thread.text(row.index) },
          shortTime(store.sums.thread.value(row.index))) },
      time("Running", (state) => state === STATE.RUNNING, "On a CPU"),
      time("Runnable", (state) => state === STATE.RUNNABLE, "Waiting for a CPU"),
      time("Blocked", (state) => state > STATE.RUNNABLE, "In all other states"),
      { title: "Waits", number: true, value: (row) => store.sums.waits[row.index],
        cell: (row) => grouped(store.sums.waits[row.index]) },
    ];
  }

  split(row) {
    const { data, sums, filter } = this.store;
    const base = row.index * data.states.length;
    return data.states.map((_, state) => ({
      state, size: filter.states[state] ? sums.threadState[base + state] : 0,
    }));
  }

  bar(row) {
    const { data, view } = this.store;
    const parts = this.split(row).filter((one) => one.size > 0);
    const whole = Math.max(row.elapsed[0], parts.reduce((sum, one) => sum + one.size, 0));
    const words = parts.map((one) => `${data.states[one.state]} ${percent(one.size, whole)}`);
    return stackedBar(parts.map((one) => ({
      size: one.size, color: stateColor(one.state, view.dark, view.dark ? 12 : -6),
    })), whole, words.join(", ") || "no time in the states shown");
  }

  nameCell(row) {
    const { store } = this;
    const process = store.data.processes[row.process];
    const life = [row.born ? "born" : "", row.died ? "ended" : "", row.ran ? "" : "never ran"];
    const where = [
      row.name === process.name && store.data.difference ? "" : processLabel(store.data, process),
      ...life,
    ].filter(Boolean).join(" · ");
    return [
      el("button", { type: "button", class: "link name", title: "Show only this one",
        onclick: () => keepOnly(store, [row.index]) }, threadLabel(store.data, row)),
      el("span", { class: "where" }, where),
    ];
  }

  /** What the kernel's delay accounting says; kinds that never occurred are left out. */
  delayTable(host) {
    const { data } = this.store;
    const rows = data.threads.filter((thread) => thread.delays);
    const kinds = data.delayKinds.map((name, index) => ({ name, at: 2 * index }))
      .filter((kind) => rows.some((row) => row.delays[kind.at]));
    const columns = [{
      title: "Thread", wide: true, value: (row) => row.name,
      cell: (row) => threadLabel(data, row),
    }, ...kinds.map((kind, index) => ({
      title: kind.name, number: true, first: index === 0, help: "Time, and how often",
      value: (row) => row.delays[kind.at + 1],
      cell: (row) => (row.delays[kind.at] ? el("span", { title: exactNs(row.delays[kind.at + 1]) },
        shortTime(row.delays[kind.at + 1]),
        el("span", { class: "times" }, ` ×${grouped(row.delays[kind.at])}`)) : "–"),
    }))];
    if (!kinds.length) columns[0].first = true;
    const table = el("div");
    host.replaceChildren(el("h2", {}, "The kernel\u2019s own delay accounting"), table);
    return new Table(table, "Delays", columns, {
      rows: () => [...rows], matches: (row) => this.matches(row), empty: "",
    });
  }

  draw() {
    this.table.draw();
    if (this.delays) this.delays.draw();
  }
}

class WaitsView {
  constructor(store, graph) {
    this.store = store;
    this.graph = graph;
    this.tab = "waits";
    const { data } = store;
    const side = data.sides.length - 1;
    const columns = [{
      title: "Waiting in", wide: true, value: (row) => this.name(row), cell: (row) => this.stack(row),
    }];
    if (data.difference) {
      columns.push(...changeColumns(store, (row) => row.ns.map((ns, i) => ns * store.scale[i])));
    } else {
      columns.push(
        { title: "Time", number: true, first: true, value: (row) => row.ns[0],
          cell: (row) => meter(row.ns[0], store.sums.kept.value(0)) },
        { title: "%", number: true, value: (row) => row.ns[0],
          cell: (row) => shareCell(row.ns[0], store.sums.kept.value(0)) });
    }
    columns.push(
      { title: "State", value: (row) => data.states[row.state],
        cell: (row) => el("span", { class: "state" },
          swatch(stateColor(row.state, store.view.dark, store.view.dark ? 12 : -6)),
          data.states[row.state]) },
      { title: "Waits", number: true, value: (row) => row.count[side],
        cell: (row) => grouped(row.count[side]) },
      { title: "Mean", number: true, help: "Length of one wait",
        value: (row) => row.ns[side] / (row.count[side] || 1),
        cell: (row) => (row.count[side] ? timeCell(row.ns[side] / row.count[side]) : "–") },
      { title: "Threads", number: true, value: (row) => row.threads.size,
        cell: (row) => grouped(row.threads.size) });
    this.table = new Table(byId("panel-waits"), "Waits", columns, {
      rows: () => store.waits, matches: (row) => this.matches(row),
      empty: "Nothing that passes the filters waited.",
    });
  }

  name(row) {
    const [leaf] = tellingFrames(this.store.data, row.node, 1);
    return leaf === undefined ? "[no stack]" : this.store.keys.label(leaf);
  }

  matches(row) {
    const { store } = this;
    if (!store.test) return true;
    const { parent, frame } = store.data.nodes;
    for (let at = row.node; at > 0; at = parent[at]) if (store.matches[frame[at]]) return true;
    return [...row.threads].some((thread) => store.test(store.data.threads[thread].name));
  }

  /** The stack in short, and whole when opened. */
  stack(row) {
    const { store } = this;
    const { keys, data } = store;
    const [leaf, ...callers] = tellingFrames(data, row.node, 6).map((frame) => keys.label(frame));
    const names = [...row.threads].slice(0, 3).map((thread) => data.threads[thread].name);
    const who = [...new Set(names)].join(", ") + (row.threads.size > 3 ? ", …" : "");
    const whole = el("details", { class: "stack" },
      el("summary", {}, el("span", { class: "name" }, shortened(leaf || "[no stack]", 120)),
        el("span", { class: "where" }, [who, ...callers.map((name) => shortened(name, 60))]
          .join(" ‹ ").replace(" ‹ ", " · in "))));
    whole.addEventListener("toggle", () => {
      if (whole.open && whole.childElementCount === 1) whole.append(this.frames(row));
    });
    return whole;
  }

  frames(row) {
    const { store } = this;
    const { parent, frame } = store.data.nodes;
    const items = [];
    for (let at = row.node; at > 0 && items.length < 200; at = parent[at]) {
      const key = frame[at];
      items.push(el("li", {}, el("button", { type: "button", class: "link name",
        title: "Focus it in the graph", onclick: () => focusOn(store, key) },
      shortened(store.keys.label(key), 160)),
      el("span", { class: "where" }, shortened(whereOf(store, key), 100))));
    }
    return items.length ? el("ol", {}, items)
      : el("p", { class: "where" }, "No stack was taken for these.");
  }

  draw() { this.table.draw(); }
}
