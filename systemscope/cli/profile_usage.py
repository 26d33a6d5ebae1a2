"""The docopt text of ``systemscope profile``, ``oncpu`` and ``offcpu``."""

from __future__ import annotations

_HEADS = {
    "profile": """\
Show where every thread spends its wall-clock time: on a CPU, waiting for one, or blocked.

Stacks on a CPU are sampled; waits carry the stack on which the thread waited. The two add up to
the time each thread lived in the window.""",
    "oncpu": """\
Show where CPU time goes: sampled stacks, weighted to each thread's measured time on a CPU.""",
    "offcpu": """\
Show where threads wait and for how long: for a CPU, asleep, for a disk, stopped.""",
}

_BODY = """
Usage:
  systemscope {command} [options]
  systemscope {command} [options] -- COMMAND ARG...

With no target the whole system is profiled. With COMMAND, it is started and profiled, with its
children, from its first instruction to its end, and its exit status becomes SystemScope's. While
the profile goes to standard output, what COMMAND prints goes to standard error.

Targets (they add up):
  -p LIST, --pid LIST       Processes: all their threads, also later ones and children. Ids
                            separated by commas.
  -t LIST, --tid LIST       Single threads.
  --comm GLOB               Processes, or single threads, whose name matches.
  --cgroup PATH             Processes in a control group or below it.
  --cpu LIST                Only what happens on these CPUs, such as 0-3,7: time running there
                            and waits that end there.
  --user-threads-only       No kernel threads.
  --kernel-threads-only     Nothing but kernel threads.

The window:
  -d SEC, --duration SEC    Stop after so many seconds; else at Ctrl-C, or when the last target
                            has ended.
  -F HZ, --frequency HZ     Samples of each busy CPU a second (default 99).
  -m US, --min-block US     Waits of at least so many microseconds each carry their own stack;
                            shorter ones are added up and sampled (default 1000).
  -U, --user-stacks-only    Leave kernel frames out.
  -K, --kernel-stacks-only  Leave user frames out.
  --unwind METHOD           How to walk user stacks: auto (the default), by the unwind tables of the
                            files, and by frame pointers where this kernel cannot do that or a file
                            has no table; dwarf, the same but refused where this kernel cannot; or
                            fp, by frame pointers only.
  --unwind-memory SIZE      Kernel memory for unwind tables, at most (default 64M): 1M to 4G.
  --max-stack N             Frames kept of a kernel stack, and of a user stack, from the leaf on: 1
                            to 127 (default 127). Callers further out are cut off, and counted.
  --no-cache                Neither read nor keep unwind tables, symbol tables and debug files on
                            disk.
  --delays                  Add what the kernel's own delay accounting says of each thread: waiting
                            for CPU, block I/O, swap-in, reclaim and more.
  --timeline                Record the order of things too, for a capture that is to become a
                            timeline. The chrome format always does.

What to show:
  --state LIST              Only time in these states: running, runnable, sleeping, disk, stopped,
                            traced, idle, parked, blocked.
  --idle-threads WHAT       Threads that never ran in the window: show, hide or only. Without
                            this they are shown, but hidden when the whole system is profiled.
  --no-demangle             Show C++ and Rust functions by their symbols.
  --debuginfod              Ask the servers in DEBUGINFOD_URLS for debug files this host lacks.
  --per-thread              Tell threads apart: comm-pid/tid instead of comm.
  --no-state                No pseudo-frame for the state at the leaf.
  --lines                   Add source files and lines to user frames, and the frames of inlined
                            functions, where files have debug information.
  --no-inlines              With --lines: no frames of inlined functions.
  --min-slice US            Gather slices of fewer microseconds in a timeline (default 0).
  -a, --annotate            Mark kernel frames _[k], JIT frames _[j], inlined frames _[i].

Output:
  --output FORMAT           {formats}.
                            Without it, -o's ending decides; without -o, text on a terminal and
                            folded elsewhere.
  -o FILE                   Write to FILE: whole or not at all.
  -q, --quiet               No progress and no summary.
  -v, --verbose             Say more in the summary.
  --debug                   Show the traceback of an error.
  --verifier-log            Show the kernel's whole log when it rejects a program.
  --without LIST            Do without these kernel features, to see what their absence costs.
  -h, --help                Show this.
"""


def usage(command: str, formats: tuple[str, ...]) -> str:
    """The usage text of ``systemscope COMMAND``, with the names of the output formats."""
    named = ", ".join(formats[:-1]) + " or " + formats[-1] if len(formats) > 1 else formats[0]
    return _HEADS[command] + "\n" + _BODY.format(command=command, formats=named)
