// Numbers and names in words.

const THIN = "\u2009";

/** Milliseconds with thousands and exactly three decimals, from whole ms and the ns left over. */
function exactMs(ms, ns = 0) {
  // BigInt: neither part may be rounded before the microsecond.
  const micros = BigInt(Math.round(ms)) * 1000n + BigInt(Math.round(ns / 1000));
  const sign = micros < 0n ? "\u2212" : "";
  const size = micros < 0n ? -micros : micros;
  const whole = (size / 1000n).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  return `${sign}${whole}.${(size % 1000n).toString().padStart(3, "0")}${THIN}ms`;
}

/** Milliseconds to the microsecond of a time in nanoseconds. */
function exactNs(ns) {
  const ms = Math.trunc(ns / 1e6);
  return exactMs(ms, ns - ms * 1e6);
}

/** A time in nanoseconds for reading at a glance: three or four digits and a unit. */
function shortTime(ns) {
  const size = Math.abs(ns);
  const sign = ns < 0 ? "\u2212" : "";
  if (size === 0) return "0";
  if (size < 1e3) return `${sign}${Math.round(size)}${THIN}ns`;
  if (size < 1e6) return `${sign}${digits(size / 1e3)}${THIN}µs`;
  if (size < 1e9) return `${sign}${digits(size / 1e6)}${THIN}ms`;
  if (size < 6e11) return `${sign}${digits(size / 1e9)}${THIN}s`;
  if (size < 36e12) return `${sign}${digits(size / 6e10)}${THIN}min`;
  return `${sign}${digits(size / 3.6e12)}${THIN}h`;
}

function digits(value) {
  if (value >= 1000) return grouped(Math.round(value));
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A count with thousands. */
function grouped(value) {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** A share as a percentage; small ones keep a digit that is not zero. */
function percent(part, whole) {
  if (!whole) return "–";
  const value = (100 * part) / whole;
  if (value === 0) return `0${THIN}%`;
  if (Math.abs(value) < 0.005) return `<${THIN}0.01${THIN}%`;
  return `${signed(value, Math.abs(value) < 10 ? 2 : 1)}${THIN}%`;
}

function signed(value, decimals) {
  const text = Math.abs(value).toFixed(decimals);
  return value < 0 ? `\u2212${text}` : text;
}

/** A change with its sign always there. */
function change(ns, format) {
  if (ns === 0) return "±0";
  return ns > 0 ? `+${format(ns)}` : format(ns);
}

/** "1 thread", "2 threads". */
function plural(count, word, many = `${word}s`) {
  return `${grouped(count)} ${count === 1 ? word : many}`;
}

/** The middle is what tells least of a path that is too long. */
function shortened(text, limit) {
  if (text.length <= limit) return text;
  const head = Math.floor((limit - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (limit - 1 - head))}`;
}
