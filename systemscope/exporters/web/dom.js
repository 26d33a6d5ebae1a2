// Elements, made without any markup: names of the profile only ever become text.

/** An element with properties and children; strings become text nodes.
 *  `class`, `on...`, `aria-...` and `data-...` are what one would think. */
function el(tag, properties, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

function byId(id) {
  return document.getElementById(id);
}

/** One shape for all icons: a path in a 16 by 16 box, in the colour of the text. */
function icon(path) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(space, "path");
  shape.setAttribute("d", path);
  svg.append(shape);
  return svg;
}

const ICONS = {
  close: "M4 4l8 8M12 4l-8 8",
  filter: "M2 4h12M4.5 8h7M7 12h2",
  theme: "M8 2.5a5.5 5.5 0 1 0 5.5 5.5A4.2 4.2 0 0 1 8 2.5z",
  help: "M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.7M8 12.4v.2",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9zM10.3 10.3l3.4 3.4",
  right: "M6 3.5l4.5 4.5L6 12.5",
  zoom: "M2.5 8h11M8 2.5v11",
};

/** A bar of parts, each a colour and a size, out of `whole`. */
function stackedBar(parts, whole, label) {
  const bar = el("span", { class: "bar", role: "img", "aria-label": label, title: label });
  for (const { size, color } of parts) {
    if (!(size > 0) || !whole) continue;
    const part = el("span");
    part.style.width = `${(100 * size) / whole}%`;
    part.style.background = color;
    bar.append(part);
  }
  return bar;
}

function swatch(color) {
  const node = el("span", { class: "swatch", "aria-hidden": "true" });
  node.style.background = color;
  return node;
}

/** Runs `action` once a burst of calls is over: typing must not wait for the graph. */
function afterwards(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}
