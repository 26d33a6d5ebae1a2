// Sums that are exact to the nanosecond, beyond the 2^53 ns (104 days) a double can count.

/** Sums of many things at once: whole milliseconds and the nanoseconds left, each a double. Either
 *  stays below 2^53 for 285,000 years of thread time and 9 billion samples. */
class ExactSums {
  constructor(count) {
    this.ms = new Float64Array(count);
    this.ns = new Float64Array(count);
  }

  add(at, ms, ns) {
    this.ms[at] += ms;
    this.ns[at] += ns;
  }

  /** Nanoseconds as a double: for shares, widths and order. */
  value(at) {
    return this.ms[at] * 1e6 + this.ns[at];
  }

  /** In words, exact to the microsecond. */
  text(at) {
    return exactMs(this.ms[at], this.ns[at]);
  }
}

/** All totals the page shows beside the graph, for what is filtered now. A list is not narrowed by
 *  its own filter: the states' totals are of the threads chosen, the threads' of the states chosen. */
function sumUp(data, filter) {
  const sides = data.sides.length;
  const states = data.states.length;
  const threads = data.threads.length;
  const sums = {
    all: new ExactSums(sides),
    kept: new ExactSums(sides),
    state: new ExactSums(sides * states),
    thread: new ExactSums(sides * threads),
    process: new ExactSums(sides * data.processes.length),
    threadState: new Float64Array(sides * threads * states),
    waits: new Float64Array(sides * threads),
  };
  const { thread, state, ms, ns, side, value, times } = data.samples;
  for (let i = 0; i < data.samples.count; i++) {
    const s = side[i], t = thread[i], st = state[i];
    sums.all.add(s, ms[i], ns[i]);
    sums.threadState[(s * threads + t) * states + st] += value[i];
    const stateIn = filter.states[st] === 1;
    if (filter.threads[t]) {
      sums.state.add(s * states + st, ms[i], ns[i]);
      if (stateIn) sums.kept.add(s, ms[i], ns[i]);
    }
    if (!stateIn) continue;
    sums.thread.add(s * threads + t, ms[i], ns[i]);
    sums.process.add(s * data.processes.length + data.threads[t].process, ms[i], ns[i]);
    if (st !== STATE.RUNNING) sums.waits[s * threads + t] += times[i];
  }
  return sums;
}
