// What was measured, how much of it is accounted for, what was lost.

/** The line of facts under the title, always in sight; losses are never hidden. */
function drawFacts(store, open) {
  const { data } = store;
  const host = byId("facts");
  const side = data.sides[data.sides.length - 1];
  const fact = (what, value, title) => el("span", { class: "fact", title: title || "" },
    el("span", { class: "what" }, what), el("b", {}, value));
  const sums = sumUp(data, store.filter);
  const facts = [];
  if (data.difference) {
    facts.push(fact("before", shortTime(sums.all.value(0)), sums.all.text(0)),
      fact("after", shortTime(sums.all.value(1)), sums.all.text(1)));
  } else {
    facts.push(fact("window", shortTime(side.window), exactNs(side.window)),
      fact("thread time", shortTime(sums.all.value(0)), sums.all.text(0)));
  }
  facts.push(fact("threads", grouped(data.threads.length)));
  const accounted = side.summary.find(([what]) => what === "accounted");
  if (accounted && !data.difference) {
    const share = accounted[1].match(/^[\d.]+ %/);
    if (share) facts.push(fact("accounted", share[0], accounted[1]));
  }
  const lost = data.sides.flatMap((one) => one.losses);
  facts.push(el("button", {
    type: "button", class: lost.length ? "chip warn" : "chip good",
    title: lost.join("\n") || "Nothing that should have been recorded is missing",
    onclick: open,
  }, lost.length ? plural(lost.length, "kind of loss", "kinds of losses") : "no losses"));
  host.replaceChildren(...facts);
}

/** The title: the command, or whose machine it was. */
function titleOf(data) {
  const name = (side) => side.command || side.host || "profile";
  if (!data.difference) return name(data.sides[0]);
  return `${name(data.sides[0])} → ${name(data.sides[1])}`;
}

function momentOf(side) {
  const moment = new Date(side.start * 1000);
  if (!side.start || Number.isNaN(moment.getTime())) return "";
  return moment.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** The panel: the summary as the command line prints it, losses, notes; the totals by state. */
class SummaryView {
  constructor(store) {
    this.store = store;
    this.tab = "summary";
    this.panel = byId("panel-summary");
  }

  draw() {
    const { data } = this.store;
    const names = data.difference ? ["Before", "After"] : ["Summary"];
    const cards = data.sides.map((side, index) => this.card(names[index], side));
    cards.push(this.totals());
    this.panel.replaceChildren(el("div", { class: "cards" }, cards));
  }

  card(title, side) {
    const facts = [
      ["command", side.command], ["host", side.host], ["recorded", momentOf(side)],
      ["sampling", side.event ? `${side.event}, ${side.frequency} Hz` : ""],
    ].filter(([what, value]) => value && !side.summary.some(([name]) => name === what));
    let last = "";
    const rows = [...facts, ...side.summary].map(([what, words]) => {
      const notable = (what || last) === "losses" && side.losses.length;
      last = what || last;
      return el("div", { class: notable ? "row warn" : "row" }, el("dt", {}, what), el("dd", {}, words));
    });
    return el("section", { class: "card" }, el("h2", {}, title), el("dl", {}, rows));
  }

  /** Exact time by state, of what passes the filters. */
  totals() {
    const { data, sums, view } = this.store;
    const states = presentStates(data);
    const count = data.states.length;
    const cell = (side, state) => el("td", { class: "number" }, sums.state.text(side * count + state));
    const head = data.difference ? ["State", "Before", "After"] : ["State", "Time"];
    const rows = states.map((state) => el("tr", {},
      el("th", { scope: "row" }, swatch(stateColor(state, view.dark, view.dark ? 12 : -6)),
        data.states[state]), data.sides.map((_, side) => cell(side, state))));
    rows.push(el("tr", { class: "sum" }, el("th", { scope: "row" }, "shown now"),
      data.sides.map((_, side) => el("td", { class: "number", id: `kept-${side}` },
        sums.kept.text(side)))));
    return el("section", { class: "card" }, el("h2", {}, "Time by state"),
      el("table", { class: "grid plain" },
        el("thead", {}, el("tr", {}, head.map((name, index) =>
          el("th", { scope: "col", class: index ? "number" : "" }, name)))),
        el("tbody", {}, rows)),
      el("p", { class: "hint" }, "Of the threads chosen, to the microsecond."));
  }
}
