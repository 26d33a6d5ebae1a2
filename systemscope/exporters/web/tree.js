// From filtered samples to the tree that the graph shows, in typed arrays.

/** (parent, key) -> node, by open addressing. */
class NodeTable {
  constructor(capacity) {
    let size = 1024;
    while (size < capacity * 2) size *= 2;
    this.slots = new Int32Array(size);
    this.parent = new Int32Array(size / 2);
    this.key = new Int32Array(size / 2);
    this.count = 0;
    this.child(-1, -1);
  }

  /** The child of `parent` with `key`, made when it is new. Node 0 is the root. */
  child(parent, key) {
    const mask = this.slots.length - 1;
    let at = (Math.imul(parent, 0x9e3779b1) ^ Math.imul(key, 0x85ebca6b)) >>> 0;
    at = (at ^ (at >>> 15)) & mask;
    for (;;) {
      const node = this.slots[at] - 1;
      if (node < 0) break;
      if (this.parent[node] === parent && this.key[node] === key) return node;
      at = (at + 1) & mask;
    }
    const node = this.count++;
    this.slots[at] = node + 1;
    this.parent[node] = parent;
    this.key[node] = key;
    if (this.count * 2 >= this.slots.length) this.grow();
    return node;
  }

  grow() {
    const old = this;
    const bigger = new Int32Array(this.slots.length * 2);
    const mask = bigger.length - 1;
    this.parent = extended(old.parent, bigger.length / 2);
    this.key = extended(old.key, bigger.length / 2);
    for (let node = 0; node < this.count; node++) {
      let at = (Math.imul(this.parent[node], 0x9e3779b1) ^
        Math.imul(this.key[node], 0x85ebca6b)) >>> 0;
      at = (at ^ (at >>> 15)) & mask;
      while (bigger[at]) at = (at + 1) & mask;
      bigger[at] = node + 1;
    }
    this.slots = bigger;
  }
}

function extended(array, length) {
  const longer = new array.constructor(length);
  longer.set(array);
  return longer;
}

/** The keys of one sample's path below the root, written into `path`; returns how many.
 *  -1 where the sample does not hold the frame in focus. */
function pathOf(data, keys, view, thread, state, node, path) {
  let length = 0;
  if (view.stateAt === "root") path[length++] = keys.state(state);
  if (view.group === "process" || view.group === "thread") {
    path[length++] = keys.process(data.threads[thread].process);
  }
  if (view.group === "thread") path[length++] = keys.thread(thread);
  if (view.group === "comm") path[length++] = keys.comm(thread);
  const leaf = view.stateAt === "leaf" ? keys.state(state) : -1;
  const { parent, frame } = data.nodes;
  if (view.invert) {
    if (view.focus < 0) {
      if (leaf >= 0) path[length++] = leaf;
    } else {
      // The innermost call: what lies under an outer one of the same function is recursion.
      while (node > 0 && frame[node] !== view.focus) node = parent[node];
      if (node <= 0) return -1;
    }
    for (; node > 0; node = parent[node]) path[length++] = frame[node];
    return length;
  }
  let depth = data.nodes.depth[node];
  if (view.focus >= 0) {
    let outermost = -1;
    for (let at = node; at > 0; at = parent[at]) {
      if (frame[at] === view.focus) outermost = data.nodes.depth[at];
    }
    if (outermost < 0) return -1;
    depth -= outermost - 1;
  }
  const end = length + depth;
  for (let at = end - 1; at >= length; at--, node = parent[node]) path[at] = frame[node];
  if (leaf >= 0) path[end] = leaf;
  return leaf >= 0 ? end + 1 : end;
}

/** The tree of all samples that pass `filter`, arranged as `view` says.
 *  `planes` are sums per node: one for each state, or one for each side of a difference. */
function buildTree(data, keys, filter, view) {
  const { samples } = data;
  const planeOf = data.difference ? samples.side : samples.state;
  const planeCount = data.difference ? 2 : data.states.length;
  const table = new NodeTable(Math.min(samples.count * 4 + 16, 1 << 20));
  const path = new Int32Array(data.nodes.deepest + 8);
  const leaves = new Int32Array(samples.count).fill(-1);
  for (let i = 0; i < samples.count; i++) {
    const thread = samples.thread[i], state = samples.state[i];
    if (!filter.threads[thread] || !filter.states[state] || !samples.value[i]) continue;
    const length = pathOf(data, keys, view, thread, state, samples.node[i], path);
    if (length < 0) continue;
    let node = 0;
    for (let at = 0; at < length; at++) node = table.child(node, path[at]);
    leaves[i] = node;
  }
  const tree = {
    count: table.count,
    parent: table.parent.slice(0, table.count),
    key: table.key.slice(0, table.count),
    planes: Array.from({ length: planeCount }, () => null),
    samples: new Float64Array(table.count),
    waits: new Float64Array(table.count),
    self: new Float64Array(table.count),
  };
  tree.key[0] = keys.all;
  for (let i = 0; i < samples.count; i++) {
    const node = leaves[i];
    if (node < 0) continue;
    const plane = planeOf[i];
    // Most profiles hold few of the states: the others cost nothing.
    if (!tree.planes[plane]) tree.planes[plane] = new Float64Array(table.count);
    tree.planes[plane][node] += samples.value[i];
    // A count is of samples on a CPU and of waits off it: these do not add up to anything.
    const counts = samples.state[i] === STATE.RUNNING ? tree.samples : tree.waits;
    counts[node] += samples.times[i];
  }
  addUp(tree);
  return tree;
}

/** Every node gets its descendants' sums: a parent's number is below its children's. */
function addUp(tree) {
  const present = tree.planes.filter(Boolean);
  const sums = [...present, tree.samples, tree.waits];
  for (let node = 0; node < tree.count; node++) {
    for (const plane of present) tree.self[node] += plane[node];
  }
  for (const sum of sums) {
    for (let node = tree.count - 1; node > 0; node--) sum[tree.parent[node]] += sum[node];
  }
  tree.depth = new Int32Array(tree.count);
  for (let node = 1; node < tree.count; node++) {
    tree.depth[node] = tree.depth[tree.parent[node]] + 1;
  }
  tree.dominant = dominantPlane(tree);
}

/** For every node the plane (the state) that has most of its time. */
function dominantPlane(tree) {
  const best = new Uint8Array(tree.count);
  const most = new Float64Array(tree.count);
  tree.planes.forEach((plane, index) => {
    if (!plane) return;
    for (let node = 0; node < tree.count; node++) {
      if (plane[node] > most[node]) {
        most[node] = plane[node];
        best[node] = index;
      }
    }
  });
  return best;
}

/** Widths, the order of children and every node's place: `value` and `x` in nanoseconds. */
function layOut(tree, keys, view, scale) {
  tree.value = new Float64Array(tree.count);
  tree.planes.forEach((plane, index) => {
    if (!plane) return;
    if (scale) {
      if (index !== (view.width === "before" ? 0 : 1)) return;
      for (let node = 0; node < tree.count; node++) tree.value[node] = plane[node] * scale[index];
    } else {
      for (let node = 0; node < tree.count; node++) tree.value[node] += plane[node];
    }
  });
  sortChildren(tree, view.sort === "name" ? keys.ranks() : null);
  tree.x = new Float64Array(tree.count);
  tree.deepest = 0;
  for (let node = 0; node < tree.count; node++) {
    let x = tree.x[node];
    for (let at = tree.start[node]; at < tree.start[node + 1]; at++) {
      const child = tree.children[at];
      tree.x[child] = x;
      x += tree.value[child];
    }
    if (tree.value[node] && tree.depth[node] > tree.deepest) tree.deepest = tree.depth[node];
  }
  return tree;
}

/** `children[start[node] .. start[node + 1]]`, the widest first, or by the ranks of their keys. */
function sortChildren(tree, ranks) {
  const { count, parent, key, value } = tree;
  const start = new Int32Array(count + 1);
  for (let node = 1; node < count; node++) start[parent[node] + 1]++;
  for (let node = 0; node < count; node++) start[node + 1] += start[node];
  const next = start.slice();
  const children = new Int32Array(Math.max(0, count - 1));
  for (let node = 1; node < count; node++) children[next[parent[node]]++] = node;
  const compare = ranks
    ? (a, b) => ranks[key[a]] - ranks[key[b]]
    : (a, b) => value[b] - value[a] || key[a] - key[b];
  for (let node = 0; node < count; node++) {
    const size = start[node + 1] - start[node];
    if (size < 2) continue;
    // In place: the view shares the children's memory.
    children.subarray(start[node], start[node + 1]).sort(compare);
  }
  tree.start = start;
  tree.children = children;
}

/** Keys from below the root down to `node`. */
function keysTo(tree, node) {
  const path = [];
  for (let at = node; at > 0; at = tree.parent[at]) path.push(tree.key[at]);
  return path.reverse();
}

/** The node at the end of `path`, or of as much of it as there is. */
function nodeAt(tree, path) {
  let node = 0;
  for (const key of path) {
    let found = -1;
    for (let at = tree.start[node]; at < tree.start[node + 1] && found < 0; at++) {
      if (tree.key[tree.children[at]] === key) found = tree.children[at];
    }
    if (found < 0 || !tree.value[found]) break;
    node = found;
  }
  return node;
}

/** The time of stacks that hold a match: matches below a match are in it already. */
function matchedShare(tree, matches) {
  const inside = new Uint8Array(tree.count);
  let ns = 0, functions = 0;
  const seen = new Set();
  for (let node = 0; node < tree.count; node++) {
    const hit = node > 0 && matches[tree.key[node]];
    const above = node > 0 && inside[tree.parent[node]];
    if (hit && !above) ns += tree.value[node];
    if (hit && tree.value[node] && !seen.has(tree.key[node])) {
      seen.add(tree.key[node]);
      functions++;
    }
    inside[node] = hit || above ? 1 : 0;
  }
  return { ns, functions };
}
