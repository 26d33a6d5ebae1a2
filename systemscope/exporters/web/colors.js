// Colours. Hues follow Okabe and Ito's set for all kinds of colour vision; each theme has its own
// lightness, so that text on them is readable (WCAG AA).

/** Hue, saturation and lightness (light, dark) by state. Running stands out, waiting recedes. */
const STATE_COLORS = [
  [0, 0, 78, 34],      // unknown
  [24, 92, 67, 38],    // running
  [46, 92, 64, 33],    // runnable
  [207, 62, 78, 36],   // sleeping
  [322, 46, 74, 41],   // disk
  [20, 18, 72, 34],    // stopped
  [285, 34, 80, 42],   // traced
  [210, 12, 84, 30],   // idle
  [210, 8, 76, 36],    // parked
  [164, 48, 66, 29],   // blocked
  [0, 0, 86, 27],      // dead
];

/** By whose code a frame is: program, library, kernel, JIT, SystemScope's own words. */
const CLASS_COLORS = [
  [24, 90, 70, 38], [46, 88, 68, 34], [207, 62, 76, 37], [164, 48, 66, 30], [210, 8, 84, 30],
];
const CLASS_NAMES = ["program", "library", "kernel", "JIT", "no code"];
const GROUP_COLOR = [212, 16, 88, 25];

/** Change, from much less to much more: blue and red, told apart by lightness too. */
const LESS = [212, 78];
const MORE = [8, 80];

function hsl(color, dark, shift = 0) {
  return `hsl(${color[0]} ${color[1]}% ${(dark ? color[3] : color[2]) + shift}%)`;
}

function stateColor(state, dark, shift = 0) {
  return hsl(STATE_COLORS[state] || STATE_COLORS[0], dark, shift);
}

/** The same name always has the same shade: neighbours can be told apart. -3, -1, 1 or 3. */
function shade(text) {
  let hash = 5381;
  for (let i = 0; i < text.length && i < 64; i++) hash = (hash * 33 + text.charCodeAt(i)) | 0;
  return ((hash >>> 7) & 3) * 2 - 3;
}

/** -1 (gone) to 1 (new), for a change from `before` to `after`. */
function relativeChange(before, after) {
  const larger = Math.max(before, after);
  return larger ? (after - before) / larger : 0;
}

function changeColor(ratio, dark) {
  const size = Math.min(1, Math.abs(ratio));
  const [hue, saturation] = ratio < 0 ? LESS : MORE;
  if (size < 0.01) return dark ? "hsl(212 6% 27%)" : "hsl(212 10% 91%)";
  const strong = Math.sqrt(size);
  const lightness = dark ? 27 + 14 * strong : 92 - 24 * strong;
  return `hsl(${hue} ${saturation * (0.35 + 0.65 * strong)}% ${lightness}%)`;
}

/** Fills for every key, made anew when theme or colouring changes. */
class Palette {
  constructor(data, keys, colour, dark) {
    this.dark = dark;
    this.byState = colour === "state";
    this.text = dark ? "#f2f5f9" : "#15191f";
    this.muted = dark ? "#222932" : "#e9edf2";
    this.dimmed = dark ? "#1d232b" : "#eff2f5";
    this.dimmedText = dark ? "#8c97a4" : "#69737f";
    this.match = dark ? "#7a2fb8" : "#d9a8ff";
    this.background = dark ? "#12161c" : "#ffffff";
    this.selection = dark ? "#ffffff" : "#10151c";
    this.shades = Int8Array.from({ length: keys.count }, (_, key) => shade(keys.label(key)));
    this.states = STATE_COLORS.map((color) => shadesOf(color, dark));
    this.classes = CLASS_COLORS.map((color) => shadesOf(color, dark));
    this.groups = shadesOf(GROUP_COLOR, dark);
    this.strips = STATE_COLORS.map((color) => hsl(color, dark, dark ? 14 : -16));
    this.changes = Array.from({ length: 41 }, (_, i) => changeColor((i - 20) / 20, dark));
    this.data = data;
    this.keys = keys;
  }

  fill(key, state) {
    const at = (this.shades[key] + 3) >> 1;
    if (this.byState) return (this.states[state] || this.states[0])[at];
    switch (this.keys.kind(key)) {
      case KIND.FRAME: return this.classes[this.data.frames.kind[key]][at];
      case KIND.STATE: return this.states[this.keys.stateOf(key)][at];
      default: return this.groups[at];
    }
  }

  change(before, after) {
    return this.changes[Math.round(20 * relativeChange(before, after)) + 20];
  }
}

function shadesOf(color, dark) {
  return [-3, -1, 1, 3].map((shift) => hsl(color, dark, dark ? shift : shift * 0.8));
}
