// The graph on its canvas: what is drawn where, and what lies under a point.

const ROW = 20;
const FONT = '12px ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace';
const TEXT_FROM = 26;  // narrower boxes have no room for a word
const STRIP = 3;
const TEXT_MIDDLE = (ROW - STRIP) / 2;  // the strip must not cover underscores
const ZOOM_MS = 180;

class Flame {
  constructor(canvas, store) {
    this.canvas = canvas;
    this.store = store;
    this.context = canvas.getContext("2d", { alpha: false });
    this.width = this.height = 0;
    this.scroll = 0;
    this.from = 0;
    this.to = 1;
    this.hovered = -1;
    this.drawTimes = [];
    this.scheduled = false;
    this.drawn = 0;
  }

  resize(width, height) {
    const ratio = window.devicePixelRatio || 1;
    this.width = width;
    this.height = height;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.font = FONT;
    this.letter = this.context.measureText("mmmmmmmmmm").width / 10;
    this.schedule();
  }

  get contentHeight() {
    return (this.store.tree.deepest + 1) * ROW + 1;
  }

  /** Pixels for a nanosecond. */
  get scaleX() {
    return this.width / Math.max(this.to - this.from, 1e-9);
  }

  /** Top of a row, from the top of the canvas. */
  rowTop(depth) {
    if (!this.store.view.flip) return depth * ROW - this.scroll;
    const bottom = Math.max(this.contentHeight, this.height);
    return bottom - (depth + 1) * ROW - this.scroll;
  }

  /** Show [from, to) nanoseconds of the root across the width, in a movement or at once. */
  show(from, to, smooth) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.goal = { from, to };
    if (!smooth || still) {
      this.motion = null;
      this.from = from;
      this.to = to;
    } else {
      this.motion = { from: this.from, to: this.to, since: performance.now() };
    }
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame((now) => {
      this.scheduled = false;
      this.step(now);
      this.draw();
    });
  }

  step(now) {
    if (!this.motion) return;
    const part = Math.min(1, Math.max(0, (now - this.motion.since) / ZOOM_MS));
    const eased = 1 - (1 - part) ** 3;
    this.from = this.motion.from + (this.goal.from - this.motion.from) * eased;
    this.to = this.motion.to + (this.goal.to - this.motion.to) * eased;
    if (part >= 1) this.motion = null;
    else this.schedule();
  }

  draw() {
    const began = performance.now();
    const { context, store } = this;
    const { tree, palette } = store;
    context.fillStyle = palette.background;
    context.fillRect(0, 0, this.width, this.height);
    this.labels = [];
    this.drawn = 0;
    if (tree.value[0] > 0) this.drawBoxes(tree, palette);
    this.drawLabels(palette);
    this.outline(this.hovered, 1);
    this.outline(store.selected > 0 ? store.selected : -1, 2);
    this.drawTimes.push(performance.now() - began);
    if (this.drawTimes.length > 600) this.drawTimes.shift();
  }

  drawBoxes(tree, palette) {
    const { from, scaleX } = this;
    const hide = Math.max(this.store.view.hide, 0.1);
    const byTime = this.store.view.sort === "time";
    const pending = [0];
    while (pending.length) {
      const node = pending.pop();
      this.drawBox(tree, palette, node);
      const end = tree.start[node + 1];
      let skipped = -1;
      for (let at = tree.start[node]; at < end; at++) {
        const child = tree.children[at];
        const left = (tree.x[child] - from) * scaleX;
        if (left > this.width) break;
        const width = tree.value[child] * scaleX;
        if (width < hide) {
          if (skipped < 0) skipped = left;
          if (!byTime) continue;
          // The rest is narrower still: one box stands for all of it.
          const last = tree.children[end - 1];
          this.drawSkipped(tree, node, skipped, (tree.x[last] + tree.value[last] - from) * scaleX);
          skipped = -1;
          break;
        }
        if (skipped >= 0) this.drawSkipped(tree, node, skipped, left);
        skipped = -1;
        if (left + width >= 0) pending.push(child);
      }
      if (skipped >= 0) {
        const last = tree.children[end - 1];
        this.drawSkipped(tree, node, skipped, (tree.x[last] + tree.value[last] - from) * scaleX);
      }
    }
  }

  /** What is too narrow to show is not empty: a muted box says that there is something. */
  drawSkipped(tree, parent, left, right) {
    const top = this.rowTop(tree.depth[parent] + 1);
    const begin = Math.max(left, 0);
    const width = Math.min(right, this.width) - begin;
    if (right - left < 1 || width <= 0 || top > this.height || top + ROW < 0) return;
    this.context.fillStyle = this.store.palette.muted;
    this.context.fillRect(begin, top, width, ROW - 1);
  }

  drawBox(tree, palette, node) {
    const top = this.rowTop(tree.depth[node]);
    if (top > this.height || top + ROW < 0) return;
    const { context } = this;
    const start = (tree.x[node] - this.from) * this.scaleX;
    const left = Math.max(start, 0);
    const right = Math.min(start + tree.value[node] * this.scaleX, this.width);
    const gap = right - left > 3 ? 1 : right - left > 1.5 ? 0.5 : 0;
    const width = right - left - gap;
    if (width <= 0) return;
    this.drawn++;
    const key = tree.key[node];
    const { matches } = this.store;
    const matched = matches !== null && matches[key] === 1;
    const dim = matches !== null && !matched;
    context.fillStyle = matched ? palette.match : dim ? palette.dimmed : this.fill(tree, node);
    context.fillRect(left, top, width, ROW - 1);
    if (!this.store.data.difference && palette.byState && !dim && width > 8) {
      this.drawStrip(tree, palette, node, left, top, width);
    }
    if (width >= TEXT_FROM) this.labels.push(node, left, top, width, dim ? 1 : 0);
  }

  fill(tree, node) {
    const { palette, data, scale, view } = this.store;
    if (!data.difference) return palette.fill(tree.key[node], tree.dominant[node]);
    if (view.colour !== "change") return palette.fill(tree.key[node], 0);
    const [before, after] = sidesOf(tree, node, scale);
    return palette.change(before, after);
  }

  /** A box whose time is of several states says so along its lower edge. */
  drawStrip(tree, palette, node, left, top, width) {
    const whole = tree.value[node];
    const main = tree.planes[tree.dominant[node]];
    if (!whole || main[node] / whole > 0.985) return;
    let x = left;
    for (let state = 0; state < tree.planes.length; state++) {
      const plane = tree.planes[state];
      if (!plane || !plane[node]) continue;
      const part = (plane[node] / whole) * width;
      this.context.fillStyle = palette.strips[state];
      this.context.fillRect(x, top + ROW - 1 - STRIP, part, STRIP);
      x += part;
    }
  }

  drawLabels(palette) {
    const { context, labels, store } = this;
    context.textBaseline = "middle";
    context.fillStyle = palette.text;
    for (let dim = 0; dim < 2; dim++) {
      if (dim) context.fillStyle = palette.dimmedText;
      for (let i = 0; i < labels.length; i += 5) {
        if (labels[i + 4] !== dim) continue;
        const name = store.keys.label(store.tree.key[labels[i]]);
        const room = Math.floor((labels[i + 3] - 8) / this.letter);
        const shown = name.length <= room ? name : room > 2 ? `${name.slice(0, room - 1)}…` : "";
        if (shown) context.fillText(shown, labels[i + 1] + 4, labels[i + 2] + TEXT_MIDDLE);
      }
    }
  }

  outline(node, size) {
    const { tree, palette } = this.store;
    if (node < 0 || !tree.value[node]) return;
    const left = Math.max((tree.x[node] - this.from) * this.scaleX, 0);
    const right = Math.min(
      (tree.x[node] + tree.value[node] - this.from) * this.scaleX, this.width,
    );
    if (right < 0 || left > this.width) return;
    this.context.strokeStyle = palette.selection;
    this.context.lineWidth = size;
    const inset = size / 2;
    const width = Math.max(right - left - 1 - size, 1);
    this.context.strokeRect(
      left + inset, this.rowTop(tree.depth[node]) + inset, width, ROW - 1 - size,
    );
  }

  /** The node under a point of the canvas, or -1. */
  hit(x, y) {
    const { tree, view } = this.store;
    const ns = this.from + x / this.scaleX;
    let depth = Math.floor((y + this.scroll) / ROW);
    if (view.flip) {
      const bottom = Math.max(this.contentHeight, this.height);
      depth = Math.floor((bottom - this.scroll - y) / ROW);
    }
    if (depth < 0 || ns < 0 || ns >= tree.value[0]) return -1;
    let node = 0;
    while (tree.depth[node] < depth) {
      node = childAt(tree, node, ns);
      if (node < 0) return -1;
    }
    return tree.value[node] * this.scaleX >= Math.min(this.store.view.hide, 1) ? node : -1;
  }
}

/** The child of `node` that covers `ns`, by halving: children lie from left to right. */
function childAt(tree, node, ns) {
  let low = tree.start[node], high = tree.start[node + 1] - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const child = tree.children[middle];
    if (ns < tree.x[child]) high = middle - 1;
    else if (ns >= tree.x[child] + tree.value[child]) low = middle + 1;
    else return child;
  }
  return -1;
}

/** A node's time before and after, scaled as chosen. */
function sidesOf(tree, node, scale) {
  const at = (side) => (tree.planes[side] ? tree.planes[side][node] * scale[side] : 0);
  return [at(0), at(1)];
}
