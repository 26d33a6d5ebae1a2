"""Compare the project's ABI numbers with the UAPI headers, as the C compiler sees them.

``python -m tools.abi_check`` prints what differs and fails if anything does. What the installed
headers are too old to know is counted, not judged. Needs a C compiler and the kernel headers
(linux-libc-dev); system call numbers of aarch64 are read from the text of asm-generic/unistd.h.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from systemscope.bpfasm.btf import Kind
from systemscope.bpfasm.helpers import Helper
from systemscope.bpfasm.types import AttachType, MapFlag, MapType, ProgramFlag, ProgramType
from systemscope.processes import taskstats_abi
from systemscope.syscalls import bpf_abi, numbers, perf_abi, proc
from systemscope.syscalls.layout import Layout

GENERIC_NUMBERS = Path("/usr/include/asm-generic/unistd.h")

HEADERS = (
    "stddef.h",
    "stdio.h",
    "string.h",
    "sys/mount.h",
    "linux/bpf.h",
    "linux/btf.h",
    "linux/genetlink.h",
    "linux/membarrier.h",
    "linux/netlink.h",
    "linux/perf_event.h",
    "linux/sched.h",
    "linux/taskstats.h",
    "asm/socket.h",
    "asm/unistd.h",
)

PREFIXES: tuple[tuple[type[Enum], str], ...] = (
    (bpf_abi.Command, "BPF_"),
    (bpf_abi.UpdateFlag, "BPF_"),
    (bpf_abi.TestRunFlag, "BPF_F_TEST_RUN_"),
    (bpf_abi.LinkType, "BPF_LINK_TYPE_"),
    (perf_abi.PerfType, "PERF_TYPE_"),
    (perf_abi.Hardware, "PERF_COUNT_HW_"),
    (perf_abi.Software, "PERF_COUNT_SW_"),
    (perf_abi.SampleType, "PERF_SAMPLE_"),
    (perf_abi.ReadFormat, "PERF_FORMAT_"),
    (perf_abi.RecordType, "PERF_RECORD_"),
    (perf_abi.Misc, "PERF_RECORD_MISC_"),
    (perf_abi.OpenFlag, "PERF_FLAG_"),
    (perf_abi.Ioctl, "PERF_EVENT_IOC_"),
    (proc.MountFlag, "MS_"),
    (proc.UmountFlag, "MNT_"),
    (proc.MembarrierCommand, "MEMBARRIER_CMD_"),
    (MapType, "BPF_MAP_TYPE_"),
    (MapFlag, "BPF_F_"),
    (ProgramType, "BPF_PROG_TYPE_"),
    (ProgramFlag, "BPF_F_"),
    (AttachType, "BPF_"),
    (Helper, "BPF_FUNC_"),
    (Kind, "BTF_KIND_"),
    (taskstats_abi.MessageType, "NLMSG_"),
    (taskstats_abi.MessageFlag, "NLM_F_"),
    (taskstats_abi.Command, "TASKSTATS_CMD_"),
    (taskstats_abi.Attribute, "TASKSTATS_CMD_ATTR_"),
    (taskstats_abi.Answer, "TASKSTATS_TYPE_"),
)
# Names of the kernel's bit-field members that differ from ours, with the value to store.
_TWO_BITS = {"PRECISE_IP_1": ("precise_ip", 1), "PRECISE_IP_2": ("precise_ip", 2)}
_NOT_IN_HEADERS = frozenset({"NONE"})


@dataclass(frozen=True)
class Check:
    """One number: what it is, our value, the C expression of the header's."""

    what: str
    ours: int
    expression: str


@dataclass(frozen=True)
class Verdict:
    """What came of it: differences in words, how many agreed, what the headers do not know."""

    differences: tuple[str, ...]
    agreed: int
    absent: tuple[str, ...]


def checks() -> Iterator[Check]:
    """Everything the compiler can be asked."""
    for layout in (*bpf_abi.LAYOUTS, *perf_abi.LAYOUTS, *taskstats_abi.LAYOUTS):
        yield from _layout_checks(layout)
    for kind, prefix in PREFIXES:
        for name, member in kind.__members__.items():
            if name not in _NOT_IN_HEADERS:
                yield Check(f"{kind.__name__}.{name}", int(member.value), prefix + name)
    for name, flag in perf_abi.AttrFlag.__members__.items():
        if name not in _NOT_IN_HEADERS:
            member_name, value = _TWO_BITS.get(name, (name.lower(), 1))
            expression = f"ATTR_BITS({member_name}, {value})"
            yield Check(f"AttrFlag.{name}", int(flag), expression)
    running = numbers.BY_MACHINE.get(os.uname().machine)
    if running is not None:
        for name, number in asdict(running).items():
            yield Check(f"system call {name}", number, f"__NR_{name}")
    yield Check("object name", bpf_abi.OBJECT_NAME_BYTES, "BPF_OBJ_NAME_LEN")
    yield Check("tag", bpf_abi.TAG_BYTES, "BPF_TAG_SIZE")
    yield Check("run-time statistics", bpf_abi.STATS_RUN_TIME, "BPF_STATS_RUN_TIME")
    yield Check("CLONE_NEWNS", proc.CLONE_NEWNS, "CLONE_NEWNS")
    yield Check("generic netlink", taskstats_abi.NETLINK_GENERIC, "NETLINK_GENERIC")
    yield Check("SO_RCVBUFFORCE", taskstats_abi.SO_RCVBUFFORCE, "SO_RCVBUFFORCE")
    yield Check("GENL_ID_CTRL", taskstats_abi.GENL_ID_CTRL, "GENL_ID_CTRL")
    yield Check("CTRL_CMD_GETFAMILY", taskstats_abi.CTRL_CMD_GETFAMILY, "CTRL_CMD_GETFAMILY")
    yield Check("CTRL_ATTR_FAMILY_ID", taskstats_abi.CTRL_ATTR_FAMILY_ID, "CTRL_ATTR_FAMILY_ID")
    yield Check("union fits", 1, f"sizeof(union bpf_attr) <= {bpf_abi.ATTR_BYTES}")


def _layout_checks(layout: Layout) -> Iterator[Check]:
    for name, field in layout.fields.items():
        if name.startswith("_"):
            continue
        path = layout.prefix + name
        what = f"{layout.c_type} {path}"
        yield Check(f"offset of {what}", field.offset, f"offsetof({layout.c_type}, {path})")
        size = f"sizeof((({layout.c_type} *)0)->{path})"
        yield Check(f"size of {what}", field.size, size)


def compare(items: Iterable[Check], compiler: str = "cc") -> Verdict:
    """Compile and run one program that prints the header's numbers.

    A line that does not compile is something these headers do not know: it is left out and the
    rest compiled again.
    """
    remaining = list(items)
    absent: list[str] = []
    with tempfile.TemporaryDirectory() as directory:
        while True:
            lines = _compile(remaining, directory, compiler)
            if not lines:
                break
            absent += [remaining[line].what for line in sorted(lines)]
            remaining = [item for at, item in enumerate(remaining) if at not in lines]
        output = subprocess.run(
            [f"{directory}/abi"], capture_output=True, text=True, check=True, timeout=60
        ).stdout.split()
    differences = [
        f"{item.what}: {item.ours} here, {theirs} in the headers"
        for item, theirs in zip(remaining, map(int, output))
        if item.ours != theirs
    ]
    return Verdict(tuple(differences), len(remaining) - len(differences), tuple(absent))


_PREAMBLE = """
#define ATTR_BITS(member, value) ({ struct perf_event_attr a; unsigned long long bits; \\
    memset(&a, 0, sizeof a); a.member = (value); \\
    memcpy(&bits, (char *)&a + offsetof(struct perf_event_attr, read_format) + 8, 8); bits; })
int main(void) {
"""


def _compile(items: list[Check], directory: str, compiler: str) -> set[int]:
    """Compile the program; the indices of the items the compiler refuses, empty when it is made."""
    head = "".join(f"#include <{name}>\n" for name in HEADERS) + _PREAMBLE
    body = "".join(f'printf("%lld\\n", (long long)({item.expression}));\n' for item in items)
    source = Path(directory) / "abi.c"
    source.write_text(head + body + "return 0; }\n", encoding="ascii")
    first = head.count("\n") + 1
    done = subprocess.run(
        [compiler, "-fmax-errors=0", "-w", "-o", f"{directory}/abi", str(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == 0:
        return set()
    found = re.findall(r"abi\.c:(\d+):\d+: error", done.stderr)
    refused = {int(line) - first for line in found}
    wrong = {line for line in refused if 0 <= line < len(items)}
    if not wrong:
        raise RuntimeError(f"{compiler} cannot compile the check:\n{done.stderr}")
    return wrong


def generic_differences(text: str) -> list[str]:
    """What differs between our aarch64 system calls and asm-generic/unistd.h."""
    found = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text))
    return [
        f"aarch64 system call {name}: {number} here, {found[name]} in asm-generic"
        for name, number in asdict(numbers.AARCH64).items()
        if name in found and int(found[name]) != number
    ]


def main() -> int:
    """Print the verdict; 1 when something differs, 2 without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("no C compiler: nothing was compared", file=sys.stderr)
        return 2
    verdict = compare(checks(), compiler)
    differences = list(verdict.differences)
    if GENERIC_NUMBERS.exists():
        differences += generic_differences(GENERIC_NUMBERS.read_text(encoding="ascii"))
    for line in differences:
        print(line)
    print(
        f"{verdict.agreed} agree, {len(differences)} differ, {len(verdict.absent)} not in headers"
    )
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
