"""A held command under the side-band: everything from its exec on is seen."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from systemscope.processes import proc
from systemscope.processes.command import HeldCommand
from systemscope.processes.sideband import SideBand
from systemscope.processes.table import ProcessTable
from systemscope.processes.targets import TargetWatch

pytestmark = pytest.mark.kernel

TRUE = os.path.realpath(shutil.which("true") or "/bin/true")


def cpus() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def test_the_exec_is_seen_and_children_followed() -> None:
    with HeldCommand(["sh", "-c", f"{TRUE}; {TRUE}; exit 4"]) as command:
        table = ProcessTable({command.pid})
        table.see(command.pid, time.monotonic_ns())
        with SideBand(table, cpus()) as band, TargetWatch([command.pid]) as watch:
            released = time.monotonic_ns()
            assert not watch.all_gone()
            command.release()
            assert command.wait() == 4
            ended = time.monotonic_ns()
            assert watch.all_gone()
            band.poll(flush=True)
        found = table.processes()
        process = found.pop(command.pid)
        assert process.comm == "sh"
        assert len(process.images) == 2  # ours while it was held, then its own
        assert process.images[0].since == 0
        assert released < process.images[1].since < ended
        assert [child.comm for child in found.values()] == ["true", "true"]
        for child in found.values():
            assert any(m.path == TRUE for m in child.images[-1].mappings)


def test_interrupt_from_the_terminal_reaches_both() -> None:
    """As under perf: SIGINT to the group ends the command; the profiler's handler lives on."""
    code = (
        "import signal\n"
        "from systemscope.processes.command import HeldCommand\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "with HeldCommand(['sleep', '100']) as command:\n"
        "    command.release()\n"
        "    print('up', flush=True)\n"
        "    print(command.wait(), flush=True)\n"
    )
    profiler = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert profiler.stdout is not None
    try:
        assert profiler.stdout.readline() == b"up\n"
        os.killpg(profiler.pid, signal.SIGINT)
        assert profiler.stdout.readline() == b"130\n"
        assert profiler.wait(10) == 0
    finally:
        if profiler.poll() is None:
            os.killpg(profiler.pid, signal.SIGKILL)
            profiler.wait()
        profiler.stdout.close()


def test_interrupted_while_held() -> None:
    with HeldCommand(["sleep", "100"]) as command:
        for _ in range(100):  # its signals are at their defaults once it waits
            about = proc.stat(command.pid)
            if about is not None and about.state == "S":
                break
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
        assert command.wait(10) == 130
        command.release()
        assert command.poll() == 130
