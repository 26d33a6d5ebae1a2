"""/proc/PID/maps: the executable mappings of a process."""

from __future__ import annotations

import re

from systemscope.model import FileId, Mapping
from systemscope.processes import proc

MAX_MAPS_BYTES = 32 << 20  # about 300,000 lines; vm.max_map_count is 65,530 unless raised
MAX_MAPPINGS = 65_536
MAX_PATH = 4096 + 16  # PATH_MAX and the " (deleted)" suffix

_DELETED = " (deleted)"

# start-end perms offset major:minor inode   path, only where perms say executable. The path is
# whatever follows the padding: it may end in blanks, and "." stops at newlines alone.
_EXECUTABLE = re.compile(
    rb"^([0-9a-f]{1,16})-([0-9a-f]{1,16}) [r-][w-]x[ps] ([0-9a-f]{1,16})"
    rb" ([0-9a-f]{1,8}):([0-9a-f]{1,8}) ([0-9]{1,20}) *(.*)$",
    re.MULTILINE,
)


def split_deleted(path: str) -> tuple[str, bool]:
    """(path without the kernel's " (deleted)" suffix, whether it had one).

    A file may really be called so; then the file behind the mapping is found by its inode.
    """
    if path.endswith(_DELETED) and not path.startswith("["):
        return path[: -len(_DELETED)], True
    return path, False


def parse_mappings(data: bytes) -> tuple[Mapping, ...]:
    """The executable mappings of a /proc/PID/maps text, sorted by start.

    Newlines in file names, which the kernel writes as ``\\012`` there, are put back. Lines that
    are cut short or malformed are left out; paths are cut at PATH_MAX, the number of mappings at
    ``MAX_MAPPINGS``.
    """
    found: list[Mapping] = []
    files: dict[tuple[bytes, bytes, bytes], FileId] = {}
    for match in _EXECUTABLE.finditer(data):
        start, end, offset, major, minor, inode, name = match.groups()
        begin, finish = int(start, 16), int(end, 16)
        if begin >= finish:
            continue
        file = None
        if inode != b"0":
            file = files.get((major, minor, inode))
            if file is None:
                file = FileId(int(major, 16), int(minor, 16), int(inode))
                files[major, minor, inode] = file
        path = proc.text(name[:MAX_PATH].replace(b"\\012", b"\n"))
        path, deleted = split_deleted(path)
        found.append(Mapping(begin, finish, int(offset, 16), path, file, deleted))
        if len(found) == MAX_MAPPINGS:
            break
    found.sort(key=lambda mapping: mapping.start)
    return tuple(found)


def read_mappings(tgid: int) -> tuple[Mapping, ...]:
    """The executable mappings of a process now, sorted by start; empty when it is gone, has no
    address space (kernel threads, zombies), or may not be looked into."""
    data = proc.read_file(f"/proc/{tgid}/maps", MAX_MAPS_BYTES)
    if not data:
        return ()
    # A text cut at the limit may end inside a line: only whole lines count.
    return parse_mappings(data[: data.rfind(b"\n") + 1])
