// What a box of the graph stands for is one number, its key: a frame, a state, a process, a thread,
// the name of threads, or all of it.

const KIND = { FRAME: 0, STATE: 1, PROCESS: 2, THREAD: 3, COMM: 4, ALL: 5 };

class Keys {
  constructor(data) {
    this.data = data;
    this.firstState = data.frames.name.length;
    this.firstProcess = this.firstState + data.states.length;
    this.firstThread = this.firstProcess + data.processes.length;
    this.firstComm = this.firstThread + data.threads.length;
    this.comms = [];
    const numbers = new Map();
    this.commOfThread = Int32Array.from(data.threads, (thread) => {
      if (!numbers.has(thread.name)) {
        numbers.set(thread.name, this.comms.length);
        this.comms.push(thread.name);
      }
      return numbers.get(thread.name);
    });
    this.all = this.firstComm + this.comms.length;
    this.count = this.all + 1;
    this.labels = new Array(this.count);
  }

  kind(key) {
    if (key < this.firstState) return KIND.FRAME;
    if (key < this.firstProcess) return KIND.STATE;
    if (key < this.firstThread) return KIND.PROCESS;
    if (key < this.firstComm) return KIND.THREAD;
    return key < this.all ? KIND.COMM : KIND.ALL;
  }

  state(state) { return this.firstState + state; }
  stateOf(key) { return key - this.firstState; }
  process(process) { return this.firstProcess + process; }
  processOf(key) { return key - this.firstProcess; }
  thread(thread) { return this.firstThread + thread; }
  threadOf(key) { return key - this.firstThread; }
  comm(thread) { return this.firstComm + this.commOfThread[thread]; }

  label(key) {
    const known = this.labels[key];
    if (known !== undefined) return known;
    return (this.labels[key] = this.makeLabel(key));
  }

  makeLabel(key) {
    const { data } = this;
    switch (this.kind(key)) {
      case KIND.FRAME: return data.strings[data.frames.name[key]];
      case KIND.STATE: return `[${data.states[this.stateOf(key)]}]`;
      case KIND.PROCESS: return processLabel(data, data.processes[this.processOf(key)]);
      case KIND.THREAD: return threadLabel(data, data.threads[this.threadOf(key)]);
      case KIND.COMM: return this.comms[key - this.firstComm];
      default: return "all threads";
    }
  }

  /** Position of every key in the order of names. */
  ranks() {
    if (!this.order) {
      const sorted = Array.from({ length: this.count }, (_, key) => key);
      const compare = new Intl.Collator("en").compare;
      sorted.sort((a, b) => compare(this.label(a), this.label(b)) || a - b);
      this.order = new Int32Array(this.count);
      sorted.forEach((key, position) => { this.order[key] = position; });
    }
    return this.order;
  }

  /** A byte for each key: does its name match? */
  matches(test) {
    return Uint8Array.from({ length: this.count }, (_, key) => (test(this.label(key)) ? 1 : 0));
  }
}

// Two runs share no process or thread numbers: there, names are all there is.
function processLabel(data, process) {
  return data.difference ? process.name : `${process.name} (${process.tgid})`;
}

function threadLabel(data, thread) {
  return data.difference ? thread.name : `${thread.name} ${thread.tid}`;
}
