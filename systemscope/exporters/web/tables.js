// A table that can be sorted by any column and grows on demand.

const PAGE = 200;

/** `columns`: {title, value(row) for sorting, cell(row) for showing, number, first, help}.
 *  `rows()` gives what to show; `matches(row)` narrows it down by the search. */
class Table {
  constructor(host, name, columns, options) {
    this.host = host;
    this.columns = columns;
    this.options = options;
    this.sortBy = columns.findIndex((column) => column.first);
    this.descending = true;
    this.limit = PAGE;
    this.body = el("tbody");
    this.heads = columns.map((column, index) => el("th", {
      scope: "col", class: column.number ? "number" : column.wide ? "wide" : "",
    }, el("button", { type: "button", title: column.help, onclick: () => this.sort(index) },
      column.title)));
    this.more = el("button", {
      type: "button", class: "button more", onclick: () => { this.limit += 5 * PAGE; this.draw(); },
    });
    this.empty = el("p", { class: "empty" });
    host.replaceChildren(
      el("table", { class: `grid ${options.class || ""}` },
        el("caption", { class: "unseen" }, name), el("thead", {}, el("tr", {}, this.heads)), this.body),
      this.empty, this.more);
  }

  sort(index) {
    this.descending = this.sortBy === index ? !this.descending : Boolean(this.columns[index].number);
    this.sortBy = index;
    this.draw();
  }

  draw() {
    const { options } = this;
    const all = options.rows();
    const rows = options.matches ? all.filter(options.matches) : all;
    const { value } = this.columns[this.sortBy];
    const values = new Map(rows.map((row) => [row, value(row)]));
    const order = this.descending ? -1 : 1;
    rows.sort((a, b) => {
      const x = values.get(a), y = values.get(b);
      if (typeof x === "string") return order * x.localeCompare(y);
      return order * (x - y);
    });
    this.heads.forEach((head, index) => {
      const sorted = index === this.sortBy;
      if (sorted) head.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.body.replaceChildren(...rows.slice(0, this.limit).map((row) => this.row(row)));
    this.more.hidden = rows.length <= this.limit;
    this.more.textContent = `Show more (${grouped(rows.length - this.limit)} left)`;
    this.empty.hidden = rows.length > 0;
    this.empty.textContent = all.length ? "Nothing here matches the search." : options.empty;
  }

  row(row) {
    const cells = this.columns.map((column, index) => {
      const content = column.cell(row);
      const kind = column.number ? "number" : column.wide ? "wide" : "";
      return index === 0 ? el("th", { scope: "row" }, content) : el("td", { class: kind }, content);
    });
    return el("tr", { class: this.options.rowClass ? this.options.rowClass(row) : "" }, cells);
  }
}

/** A time with the bar of its share behind it. */
function meter(ns, whole, title) {
  if (!ns) return el("span", { class: "nothing metered" }, "–");
  const bar = el("span", { class: "meter" });
  bar.style.width = `${whole > 0 ? Math.min(100, (100 * Math.abs(ns)) / whole) : 0}%`;
  return el("span", { class: "metered", title: title || exactNs(ns) }, bar,
    el("span", {}, shortTime(ns)));
}

function shareCell(ns, whole) {
  return el("span", { class: "share" }, ns ? percent(ns, whole) : "");
}

/** The three columns of every table that compares. `sides(row)` gives before and after. */
function changeColumns(store, sides) {
  return [
    { title: "Before", number: true, value: (row) => sides(row)[0],
      cell: (row) => timeCell(sides(row)[0]) },
    { title: "After", number: true, value: (row) => sides(row)[1],
      cell: (row) => timeCell(sides(row)[1]) },
    { title: "Change", number: true, first: true, help: "After less before; sorted by its size",
      value: (row) => Math.abs(sides(row)[1] - sides(row)[0]),
      cell: (row) => changeCell(store, ...sides(row)) },
    { title: "Change %", number: true,
      value: (row) => relativeChange(...sides(row)),
      cell: (row) => el("span", { class: "share" }, changeShare(...sides(row))) },
  ];
}

function timeCell(ns) {
  return el("span", { title: exactNs(ns), class: ns ? "" : "nothing" }, ns ? shortTime(ns) : "–");
}

function changeCell(store, before, after) {
  if (before === after) return el("span", { class: "nothing change" }, before ? "±0" : "–");
  const cell = el("span", { class: "change", title: change(after - before, exactNs) },
    change(after - before, shortTime));
  const ratio = relativeChange(before, after);
  cell.style.background = changeColor(Math.sign(ratio) * Math.max(0.15, Math.abs(ratio)),
    store.view.dark);
  return cell;
}
