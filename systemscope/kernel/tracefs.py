"""Tracepoint formats, from a tracefs that is mounted or mounted for us alone.

Where no tracefs is mounted, one thread leaves the shared mount namespace, mounts it there, opens
its directory and ends. The namespace goes with the thread, the mount lives on behind the open
descriptor, and the host's mount table never sees it: nothing is left however this process ends.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from typing import Optional, Union

from systemscope.errors import KernelError, SystemScopeError, Unsupported
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.proc import MountFlag, mount, unshare

PRIVATE = "private"
_USUAL = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_SPOTS = ("/sys/kernel/tracing", "/sys/kernel/debug", "/sys", "/proc")
_MAX_MOUNTS_BYTES = 1 << 20
_MAX_FORMAT_BYTES = 1 << 16
_MAX_FIELDS = 256
_MAX_OFFSET = 1 << 16
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\Z")
_FIELD = re.compile(
    r"\tfield:(?P<declaration>[^;]{1,400});\toffset:(?P<offset>\d{1,6});"
    r"\tsize:(?P<size>\d{1,6});(?:\tsigned:(?P<signed>[01]);)?\Z"
)
_DECLARATION = re.compile(r"(?P<type>.*?)(?P<name>[A-Za-z_]\w*)(?P<array>\[[^\]]*\])?\Z", re.ASCII)


@dataclass(frozen=True)
class Field:
    """A field of an event's record: bytes from its start, bytes long."""

    offset: int
    size: int
    signed: bool


@dataclass(frozen=True)
class Format:
    """An event: the id perf_event_open() takes as config, and its fields by name."""

    id: int
    fields: dict[str, Field]


class Tracefs:
    """An accessible tracefs. Close it, or use it as a context manager.

    ``path`` leads to its root; for a private one it is under /proc/self/fd and holds until
    :meth:`close`.
    """

    def __init__(self, root: Union[str, Fd]) -> None:
        self._fd: Optional[Fd] = root if isinstance(root, Fd) else None
        self.path = f"/proc/self/fd/{root.number}" if isinstance(root, Fd) else root

    @property
    def private(self) -> bool:
        """True when it was mounted for this object alone."""
        return self._fd is not None

    def format(self, category: str, event: str) -> Format:
        """Read ``events/CATEGORY/EVENT/format``.

        Raises Unsupported when there is no such event, SystemScopeError for text that is no
        format.
        """
        for name in (category, event):
            if not _NAME.match(name):
                raise ValueError(f"{name!r} is no name of an event")
        subject = f"{category}:{event}"
        try:
            text = _read(self._path(f"events/{category}/{event}/format"), _MAX_FORMAT_BYTES)
        except FileNotFoundError:
            raise Unsupported(f"the tracepoint {subject}") from None
        except OSError as error:
            raise KernelError(
                "read",
                f"the format of {subject}",
                error.errno or 0,
                "Root is needed; lockdown in confidentiality mode refuses it even then.",
            ) from error
        return parse_format(text, subject)

    def exists(self, name: str) -> bool:
        """True when the tracefs has a file of that name, such as ``kprobe_events``."""
        return os.path.exists(self._path(name))

    def close(self) -> None:
        """Let a private mount go."""
        if self._fd is not None:
            self._fd.close()

    def __enter__(self) -> Tracefs:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _path(self, name: str) -> str:
        return f"{self.path}/{name}"


def mounted() -> str:
    """Where a readable tracefs is mounted, empty when there is none."""
    for path in (*_USUAL, *_mount_points()):
        if os.path.isfile(f"{path}/events/sched/sched_switch/format"):
            return path
    return ""


def tracefs(allow_private: bool = True) -> Tracefs:
    """The mounted tracefs, else one mounted for us alone.

    Raises Unsupported when the kernel has none, KernelError when mounting is refused.
    """
    path = mounted()
    if path:
        return Tracefs(path)
    if not allow_private:
        raise Unsupported(
            "a mounted tracefs", remedy="mount -t tracefs tracefs /sys/kernel/tracing"
        )
    return Tracefs(mount_privately())


def mount_privately() -> Fd:
    """A descriptor of the root of a tracefs that nobody else sees.

    Raises Unsupported when this kernel has no tracefs, KernelError without CAP_SYS_ADMIN.
    """
    outcome: list[Union[Fd, SystemScopeError]] = []
    worker = threading.Thread(target=_mount_in_thread, args=(outcome,), name="tracefs")
    worker.start()
    worker.join()
    result = outcome[0] if outcome else Unsupported("mounting tracefs")
    if isinstance(result, Fd):
        return result
    raise result


def _mount_in_thread(outcome: list[Union[Fd, SystemScopeError]]) -> None:
    """Runs in a thread of its own: unshare() moves only the calling thread."""
    try:
        unshare()
        # Without this, a mount would spread to the host wherever its mounts are shared.
        mount("none", "/", "", MountFlag.REC | MountFlag.PRIVATE)
        outcome.append(_mount_somewhere())
    except SystemScopeError as error:
        outcome.append(error)
    except OSError as error:
        outcome.append(KernelError("open", "a private tracefs", error.errno or 0))


def _mount_somewhere() -> Fd:
    flags = MountFlag.NOSUID | MountFlag.NODEV | MountFlag.NOEXEC
    failure: SystemScopeError = Unsupported("tracefs", "4.1")
    for spot in _SPOTS:
        if not os.path.isdir(spot):
            continue
        try:
            mount("tracefs", spot, "tracefs", flags)
        except KernelError as error:
            failure = error
            continue
        number = os.open(spot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return Fd(number, "private tracefs")
    raise failure


def parse_format(text: str, subject: str = "an event") -> Format:
    """The text of a ``format`` file. Raises SystemScopeError when it is anything else.

    Fields end at the line ``print fmt``, which is not read.
    """
    if len(text) > _MAX_FORMAT_BYTES:
        raise _unreadable(subject, "it is too long")
    lines = text.split("\n")
    event_id = _header_id(lines, subject)
    fields: dict[str, Field] = {}
    for line in lines[3:]:
        if line.startswith("print fmt:"):
            return Format(event_id, fields)
        if not line:
            continue
        name, field = _parse_field(line, subject)
        if name in fields or len(fields) >= _MAX_FIELDS:
            raise _unreadable(subject, f"field {name!r} is one too many")
        fields[name] = field
    raise _unreadable(subject, "it ends within its fields")


def _header_id(lines: list[str], subject: str) -> int:
    if len(lines) < 3 or not lines[0].startswith("name: ") or lines[2] != "format:":
        raise _unreadable(subject, "its first lines are not name, ID and format")
    key, _, number = lines[1].partition(": ")
    if key != "ID" or not (number.isascii() and number.isdecimal() and len(number) <= 9):
        raise _unreadable(subject, f"{lines[1]!r} is no id")
    return int(number)


def _parse_field(line: str, subject: str) -> tuple[str, Field]:
    match = _FIELD.match(line)
    declaration = _DECLARATION.match(match["declaration"]) if match else None
    if match is None or declaration is None:
        raise _unreadable(subject, f"{line[:80]!r} is no field")
    offset, size = int(match["offset"]), int(match["size"])
    if offset + size > _MAX_OFFSET:
        raise _unreadable(subject, f"field {declaration['name']!r} lies beyond any record")
    return declaration["name"], Field(offset, size, match["signed"] == "1")


def _unreadable(subject: str, why: str) -> SystemScopeError:
    return SystemScopeError(
        f"the format of {subject} cannot be understood: {why}",
        "report it with the kernel's version",
    )


def _mount_points() -> list[str]:
    try:
        text = _read("/proc/self/mounts", _MAX_MOUNTS_BYTES)
    except OSError:
        return []
    return parse_mounts(text)


def parse_mounts(text: str) -> list[str]:
    """Mount points of type tracefs in the text of /proc/mounts, octal escapes decoded."""
    found = []
    for line in text.split("\n"):
        parts = line.split(" ")
        if len(parts) >= 3 and parts[2] == "tracefs":
            found.append(re.sub(r"\\([0-7]{3})", lambda hit: chr(int(hit[1], 8)), parts[1]))
    return found


def _read(path: str, limit: int) -> str:
    """At most ``limit`` characters, one more to show that there are too many."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read(limit + 1)
