"""One boot in QEMU's software emulation, followed on its serial console."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Lines of the guest's that are meant for us.
MARKER = "SYSTEMSCOPE-VM "
_COMMON = "panic=-1 oops=panic rdinit=/init quiet random.trust_cpu=on"
#: Without cmpxchg16b: QEMU 7.2 leaves garbage in the flags after it when an interrupt comes next,
#: and kernels from 6.12 on crash on their way back from that interrupt.
_X86_CPU = "max,-cx16"
_MACHINES = {
    "amd64": (
        "qemu-system-x86_64",
        ("-machine", "pc", "-cpu", _X86_CPU),
        f"console=ttyS0 {_COMMON}",
    ),
    "arm64": (
        "qemu-system-aarch64",
        ("-machine", "virt", "-cpu", "cortex-a72"),
        f"console=ttyAMA0 {_COMMON}",
    ),
}


class NoEmulator(Exception):
    """QEMU for the architecture is not installed."""


@dataclass
class Boot:
    """What came over the console. ``console`` is everything else the guest said."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    seconds: float = 0.0
    timed_out: bool = False

    def tail(self, lines: int = 15) -> str:
        """The end of the console's text."""
        return "\n".join(self.console[-lines:])


def boot(arch: str, kernel: Path, initramfs: bytes, timeout: float, append: str = "") -> Boot:
    """Run a guest to its end, or kill it after ``timeout`` seconds. ``append`` is added to the
    kernel's command line.

    Always by emulation (TCG): /dev/kvm may open where no guest can run.
    """
    program, machine, command_line = _MACHINES[arch]
    emulator = shutil.which(program)
    if emulator is None:
        raise NoEmulator(f"{program} is not installed")
    result = Boot()
    begin = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".cpio") as file:
        file.write(initramfs)
        file.flush()
        command = [emulator, *machine, "-accel", "tcg", "-smp", "2", "-m", "1024"]
        command += ["-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot"]
        command += ["-nic", "none", "-kernel", str(kernel), "-initrd", file.name]
        text, result.timed_out = _run([*command, "-append", f"{command_line} {append}"], timeout)
    result.seconds = time.monotonic() - begin
    for line in text.splitlines():
        _sort(line.rstrip(), result)
    return result


def _run(command: list[str], timeout: float) -> tuple[str, bool]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        timed_out = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        output.seek(0)
        return output.read().decode(errors="replace"), timed_out


def _sort(line: str, result: Boot) -> None:
    at = line.find(MARKER)
    if at >= 0:
        try:
            result.messages.append(json.loads(line[at + len(MARKER) :]))
            return
        except ValueError:
            pass  # the kernel wrote into the middle of it
    result.console.append(line)
