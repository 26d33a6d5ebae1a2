"""What the kernel hands to children must not pile up, nor outlive what it points at."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from systemscope.collectors.unwinding import Unwinding
from systemscope.model import UnwindReport
from tests.kernel.collecting import profile

pytestmark = pytest.mark.kernel

STORM = """
import os, sys
print("ready", flush=True)
sys.stdin.readline()
for _ in range(1500):
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print("done", flush=True)
sys.stdin.readline()
"""


def test_a_storm_of_forks_leaves_no_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    original: Callable[..., UnwindReport] = Unwinding.finish

    def finish(self: Unwinding) -> UnwindReport:
        keys, _ = self._session.map("unwind_spaces").read_all()
        left.append(len(keys) // 4)
        assert len(self._regions) <= len(self._spaces)
        return original(self)

    monkeypatch.setattr(Unwinding, "finish", finish)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-S", "-c", STORM], **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()

        def during() -> None:
            process.stdin.write("\n")
            process.stdin.flush()

        capture = profile(3, during=during, pids=(process.pid,))
        process.kill()
    assert len(capture.processes) > 500
    assert left[0] <= 20, left  # those of the last moment
