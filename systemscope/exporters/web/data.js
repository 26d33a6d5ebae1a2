// The profile of this page: columns of numbers, decoded once.

const STATE = {
  UNKNOWN: 0, RUNNING: 1, RUNNABLE: 2, SLEEPING: 3, DISK: 4, STOPPED: 5,
  TRACED: 6, IDLE: 7, PARKED: 8, BLOCKED: 9, DEAD: 10,
};
const FRAME_CLASS = { PROGRAM: 0, LIBRARY: 1, KERNEL: 2, JIT: 3, PSEUDO: 4 };

/** Reads the data block and takes it out of the page. */
function loadData(element) {
  const raw = JSON.parse(element.textContent);
  element.remove();
  const frames = {};
  for (const [name, column] of Object.entries(raw.frames)) frames[name] = Int32Array.from(column);
  const data = {
    difference: raw.difference,
    options: raw.options,
    sides: raw.sides,
    states: raw.states,
    delayKinds: raw.delayKinds,
    strings: raw.strings,
    frames,
    nodes: decodeNodes(raw.nodes),
    processes: raw.processes.name.map((name, index) => ({
      index, name, tgid: raw.processes.tgid[index], threads: [],
    })),
    samples: decodeSamples(raw.samples),
  };
  data.threads = raw.threads.map((row, index) => decodeThread(row, index, data));
  return data;
}

/** A tree in preorder: parents come before their children; node 0 is the root. */
function decodeNodes(raw) {
  const count = raw.up.length + 1;
  const nodes = {
    count, parent: new Int32Array(count), frame: new Int32Array(count), depth: new Int32Array(count),
  };
  nodes.parent[0] = nodes.frame[0] = -1;
  nodes.deepest = 0;
  for (let node = 1; node < count; node++) {
    const parent = node - raw.up[node - 1];
    nodes.parent[node] = parent;
    nodes.frame[node] = raw.frame[node - 1];
    nodes.depth[node] = nodes.depth[parent] + 1;
    if (nodes.depth[node] > nodes.deepest) nodes.deepest = nodes.depth[node];
  }
  return nodes;
}

function decodeSamples(raw) {
  const count = raw.thread.length;
  const samples = {
    count,
    thread: Int32Array.from(raw.thread),
    state: Uint8Array.from(raw.state),
    node: Int32Array.from(raw.node),
    ms: Float64Array.from(raw.ms),
    ns: Float64Array.from(raw.ns),
    times: Float64Array.from(raw.count),
    side: raw.side ? Uint8Array.from(raw.side) : new Uint8Array(count),
    value: new Float64Array(count),
  };
  for (let i = 0; i < count; i++) samples.value[i] = samples.ms[i] * 1e6 + samples.ns[i];
  return samples;
}

function decodeThread(row, index, data) {
  const [process, tid, name, elapsed, flags, preempted, delays] = row;
  const thread = {
    index, process, tid, name, elapsed, preempted, delays,
    ran: Boolean(flags & 1), born: Boolean(flags & 2), died: Boolean(flags & 4),
  };
  data.processes[process].threads.push(thread);
  return thread;
}

/** Where a frame's function is written: "file.c:12–48", or "". */
function frameSource(data, frame) {
  const file = data.strings[data.frames.file[frame]];
  const first = data.frames.first[frame];
  const last = data.frames.last[frame];
  if (!file || !first) return file;
  return first === last ? `${file}:${first}` : `${file}:${first}–${last}`;
}
