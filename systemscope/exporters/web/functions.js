// Sums per function and per wait, over the samples that pass the filters.

/** For every frame: its own and its total time, and how it splits. A stack that holds a function
 *  several times counts once. Index with `side * frames + frame`. */
function sumFunctions(data, filter) {
  const frames = data.frames.name.length;
  const sides = data.sides.length;
  const column = () => new Float64Array(sides * frames);
  const sums = {
    frames, self: column(), total: column(), running: column(), runnable: column(),
    blocked: column(),
  };
  const stamp = new Int32Array(frames).fill(-1);
  const { parent, frame } = data.nodes;
  const { samples } = data;
  for (let i = 0; i < samples.count; i++) {
    const state = samples.state[i];
    const value = samples.value[i];
    if (!filter.threads[samples.thread[i]] || !filter.states[state]) continue;
    const base = samples.side[i] * frames;
    const split = state === STATE.RUNNING ? sums.running
      : state === STATE.RUNNABLE ? sums.runnable : sums.blocked;
    const leaf = samples.node[i];
    if (leaf > 0) sums.self[base + frame[leaf]] += value;
    for (let node = leaf; node > 0; node = parent[node]) {
      const at = frame[node];
      if (stamp[at] === i) continue;
      stamp[at] = i;
      sums.total[base + at] += value;
      split[base + at] += value;
    }
  }
  return sums;
}

/** Functions through which every wait goes, as in kernel/sched/core.c and kernel/time/. */
const SCHEDULER = new Set([
  "__schedule", "schedule", "schedule_idle", "schedule_preempt_disabled", "schedule_timeout",
  "schedule_hrtimeout_range", "schedule_hrtimeout_range_clock", "preempt_schedule",
  "preempt_schedule_irq", "preempt_schedule_common", "io_schedule", "io_schedule_timeout",
  "__cond_resched",
]);

/** Everything that is not running, by state and stack: what was waited for, how often, how long. */
function sumWaits(data, filter) {
  const { samples } = data;
  const groups = new Map();
  const sides = data.sides.length;
  for (let i = 0; i < samples.count; i++) {
    const state = samples.state[i];
    if (state === STATE.RUNNING || state === STATE.UNKNOWN || state === STATE.DEAD) continue;
    if (!filter.threads[samples.thread[i]] || !filter.states[state]) continue;
    const key = samples.node[i] * data.states.length + state;
    let group = groups.get(key);
    if (!group) {
      group = {
        node: samples.node[i], state, ns: new Array(sides).fill(0), count: new Array(sides).fill(0),
        threads: new Set(),
      };
      groups.set(key, group);
    }
    group.ns[samples.side[i]] += samples.value[i];
    group.count[samples.side[i]] += samples.times[i];
    group.threads.add(samples.thread[i]);
  }
  return [...groups.values()];
}

/** The frames of a stack that tell most, leaf first: where the kernel was beneath the scheduler's
 *  own functions, then the program's; not why its root is missing. */
function tellingFrames(data, node, limit) {
  const { parent, frame } = data.nodes;
  const kernel = [], others = [];
  for (let at = node; at > 0; at = parent[at]) {
    const inKernel = data.frames.kind[frame[at]] === FRAME_CLASS.KERNEL;
    const noRoot = at !== node && !parent[at] &&
      data.frames.kind[frame[at]] === FRAME_CLASS.PSEUDO;
    if (noRoot) continue;
    if (!inKernel) others.push(frame[at]);
    else if (!SCHEDULER.has(data.strings[data.frames.name[frame[at]]])) kernel.push(frame[at]);
  }
  const telling = others.length ? kernel.slice(0, 1).concat(others) : kernel;
  return telling.slice(0, limit);
}
