"""What runs inside a guest: doctor, then one window for each way through the kernel, judged.

Every result is a line of JSON behind a marker on the serial console, the last one says "end". The
guest has nothing but the standard library, docopt, the project and the four-thread workload.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from systemscope.errors import Unsupported
from tests.e2e.support import SchedStatWatch
from tests.vm.judge import Judge

MARKER = "SYSTEMSCOPE-VM "
SECONDS = 3.0
WORKLOAD = "/project/workload"
HANDLERS = "/project/handlers"


def say(**message: Any) -> None:
    """One message to the host, on a line of its own."""
    sys.stdout.flush()
    os.write(1, ("\n" + MARKER + json.dumps(message) + "\n").encode())


def ways() -> dict[str, frozenset[str]]:
    """The ways through a kernel: what each does without."""
    from systemscope.kernel.capabilities import LEGACY_4_9

    return {
        "native": frozenset(),
        "raw tracepoint": frozenset({"tp_btf"}),
        "tracepoint": frozenset({"btf", "raw_tracepoint", "batch", "map_value_address"}),
        "switch-out": frozenset({"sched_exit_tp", "kprobe"}),
        "bounded loop": frozenset({"bpf_loop", "task_pt_regs"}),
        "4.9": LEGACY_4_9,
    }


def timeline_ways() -> dict[str, frozenset[str]]:
    """The ways of a timeline."""
    return {
        "timeline": frozenset(),
        "timeline by perf rings": frozenset({"ring_buffer"}),
        "timeline, 4.9": ways()["4.9"],
    }


class Workload:
    """The four threads, and their ids by name."""

    def __enter__(self) -> Workload:
        self.process = subprocess.Popen([WORKLOAD], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        ready = json.loads(self.process.stdout.readline())
        self.pid: int = ready["ready"]
        self.tids: dict[str, int] = ready["tids"]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)


def doctor() -> dict[str, Any]:
    """``systemscope doctor --json`` must answer; the answer is handed on."""
    done = _systemscope("doctor", "--json")
    return {"status": done.returncode, "doctor": json.loads(done.stdout), "problems": []}


def pid_window(disabled: frozenset[str]) -> dict[str, Any]:
    """A window of one process along one way."""
    import systemscope

    with Workload() as workload:
        chosen = _plan(disabled, pids=(workload.pid,))
        before = time.monotonic()
        with SchedStatWatch(workload.tids) as scheduler:
            profile = systemscope.profile(pid=workload.pid, duration=SECONDS, without=disabled)
        spent = time.monotonic() - before
        judge = Judge(profile)
        judge.four_threads(workload.tids, sleepers_have_user_stacks=chosen["wait_iterator"])
        judge.agrees(scheduler, workload.tids)
        judge.whole(workload.pid, chosen["unwind"] != "")
    return {**chosen, **judge.report(), "seconds": round(spent, 1)}


def timeline_window(disabled: frozenset[str]) -> dict[str, Any]:
    """A timeline of one process: its stretches are what the accounts hold, its wakers are right."""
    import systemscope

    with Workload() as workload:
        chosen = _plan(disabled, pids=(workload.pid,), timeline=True)
        profile = systemscope.profile(
            pid=workload.pid, duration=SECONDS, timeline=True, without=disabled
        )
        judge = Judge(profile)
        judge.identity(judge.present(workload.tids).values())
        judge.timeline(workload.tids)
    return {**chosen, **judge.report()}


def signal_window() -> dict[str, Any]:
    """Stacks through signal handlers, which the kernel's own frames interrupt."""
    import systemscope

    with subprocess.Popen([HANDLERS], stdout=subprocess.DEVNULL) as process:
        chosen = _plan(frozenset(), pids=(process.pid,))
        profile = systemscope.profile(pid=process.pid, duration=SECONDS)
        judge = Judge(profile)
        judge.whole(process.pid, chosen["unwind"] != "")
        process.kill()
    return {**chosen, **judge.report()}


def system_window() -> dict[str, Any]:
    """A window of everything: every thread's time adds up."""
    import systemscope

    with Workload() as workload:
        _many_pids()
        chosen = _plan(frozenset())
        profile = systemscope.profile(duration=SECONDS, idle_threads="show")
        judge = Judge(profile)
        judge.identity(profile.capture.threads)
        judge.present(workload.tids)
    return {**chosen, **judge.report()}


def command_line() -> dict[str, Any]:
    """A command from its first instruction to its end, through the command line."""
    done = _systemscope("profile", "--per-thread", "--", "/bin/busybox", "sleep", "0.5")
    lines = [line for line in done.stdout.splitlines() if line.endswith("]") or " " in line]
    asleep = sum(int(line.rsplit(" ", 1)[1]) for line in lines if "[sleeping]" in line)
    problems = [] if done.returncode == 0 else [f"exit status {done.returncode}"]
    if not 400_000 <= asleep <= 900_000:
        problems.append(f"half a second of sleep shows as {asleep} us")
    if problems:
        problems.append(done.stderr[-2000:])
    return {"problems": problems}


def _many_pids() -> None:
    """As on most 64-bit hosts: threads no longer fit an array by tid."""
    with open("/proc/sys/kernel/pid_max", "w", encoding="ascii") as file:
        file.write("4194304")


def _plan(disabled: frozenset[str], **target: Any) -> dict[str, Any]:
    from systemscope.collectors.plan import make_plan
    from systemscope.collectors.request import Request
    from systemscope.kernel.capabilities import probe

    plan = make_plan(probe().without(*disabled), Request(disabled=disabled, **target))
    config = plan.config
    return {
        "hook": config.hook.value,
        "walk": config.walk.value,
        "ring": config.ring.value,
        "storage": config.storage.value,
        "stacks_kept": config.stack_table.value,
        "wait_iterator": plan.wait_iterator,
        "unwind": config.unwind.loop.value if config.unwind is not None else "",
    }


def _systemscope(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "systemscope", *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )


def attempt(name: str, case: Callable[[], dict[str, Any]]) -> None:
    """Run one case and tell how it went, whatever happens."""
    begin = time.monotonic()
    try:
        outcome = case()
    except Unsupported as error:
        outcome = {"impossible": str(error), "problems": []}
    except BaseException:
        outcome = {"problems": [traceback.format_exc()[-4000:]]}
    say(case=name, took=round(time.monotonic() - begin, 1), **outcome)


def main() -> None:
    """All cases, one after the other."""
    attempt("doctor", doctor)
    for name, disabled in ways().items():
        attempt(name, lambda disabled=disabled: pid_window(disabled))
    for name, disabled in timeline_ways().items():
        attempt(name, lambda disabled=disabled: timeline_window(disabled))
    attempt("signals", signal_window)
    attempt("system-wide", system_window)
    attempt("command", command_line)
    say(end=True)


if __name__ == "__main__":
    main()
