"""Map and program types of the BPF UAPI, and the specs that describe them before they are loaded.

A spec is a blueprint: pure data, no descriptor. ``systemscope.bpf`` turns it into kernel objects.
Numbers are those of ``include/uapi/linux/bpf.h``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Optional


class MapType(IntEnum):
    """enum bpf_map_type."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERF_EVENT_ARRAY = 4
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    QUEUE = 22
    STACK = 23
    RINGBUF = 27
    TASK_STORAGE = 29
    BLOOM_FILTER = 30


class MapFlag(IntFlag):
    """Flags of BPF_MAP_CREATE."""

    NO_PREALLOC = 1 << 0
    NO_COMMON_LRU = 1 << 1
    NUMA_NODE = 1 << 2
    RDONLY = 1 << 3
    WRONLY = 1 << 4
    RDONLY_PROG = 1 << 7
    WRONLY_PROG = 1 << 8
    MMAPABLE = 1 << 10


class ProgramType(IntEnum):
    """enum bpf_prog_type."""

    SOCKET_FILTER = 1
    KPROBE = 2
    TRACEPOINT = 5
    PERF_EVENT = 7
    RAW_TRACEPOINT = 17
    TRACING = 26
    SYSCALL = 31


class AttachType(IntEnum):
    """The members of enum bpf_attach_type that SystemScope uses."""

    NONE = 0
    TRACE_RAW_TP = 23
    TRACE_FENTRY = 24
    TRACE_FEXIT = 25
    TRACE_ITER = 28
    PERF_EVENT = 41


class ProgramFlag(IntFlag):
    """Flags of BPF_PROG_LOAD."""

    STRICT_ALIGNMENT = 1 << 0
    ANY_ALIGNMENT = 1 << 1
    SLEEPABLE = 1 << 4


@dataclass(frozen=True, eq=False)
class MapSpec:
    """A map to be created. Identity, not value, tells two specs apart: it is the link symbol.

    ``key_size``, ``value_size`` in bytes; ``value_size`` is that of one CPU for per-CPU maps.
    TASK_STORAGE needs BTF ids of its key and value: the loader makes them. ``inner`` is what the
    maps in a map of maps are like.
    """

    name: str
    type: MapType
    key_size: int
    value_size: int
    max_entries: int
    flags: MapFlag = MapFlag(0)
    inner: Optional[MapSpec] = None


class RelocKind(IntEnum):
    """What is patched into an instruction at load."""

    MAP_FD = 1  # 64-bit immediate: pseudo source 1, imm = map descriptor
    MAP_VALUE = 2  # 64-bit immediate: pseudo source 2, imm = descriptor, next imm = offset
    KFUNC = 3  # call: pseudo source 2, imm = BTF id of the named kernel function
    KSYM = 4  # 64-bit immediate: address of a kernel variable by BTF id (pseudo source 3)


@dataclass(frozen=True)
class Reloc:
    """``kind`` at instruction slot ``index``; ``target`` is a MapSpec or a kernel symbol's name."""

    index: int
    kind: RelocKind
    map: Optional[MapSpec] = None
    symbol: str = ""
    offset: int = 0


@dataclass(frozen=True)
class SourceLine:
    """The Python line that emitted the instruction at slot ``index`` (8-byte slots)."""

    index: int
    file: str  # path relative to the package, such as "programs/oncpu.py"
    line: int
    text: str


@dataclass(frozen=True)
class Subprogram:
    """A BPF function: its first instruction slot, name and number of u64 arguments.

    ``callback`` marks a bpf_loop callback: its arguments are (u32 index, void *context).
    ``apart`` makes it a global function, whose arguments are numbers: the verifier (5.6) looks at
    it once, by itself, and not again at each call; before, the kernel refuses the information. All
    functions return a scalar.
    """

    index: int
    name: str
    arguments: int
    callback: bool = False
    apart: bool = False


@dataclass(frozen=True)
class ProgramSpec:
    """An assembled program: bytes, what to patch, where each instruction came from.

    ``code`` is little-endian ``struct bpf_insn`` slots. ``attach_to`` is what a TRACING program
    binds to at load ("sched_switch" for tp_btf, "task" for an iterator): ``systemscope.bpf`` and
    ``kernel`` find its BTF id. ``license`` must be GPL-compatible for the tracing helpers.
    """

    name: str
    type: ProgramType
    code: bytes
    relocs: tuple[Reloc, ...] = ()
    lines: tuple[SourceLine, ...] = ()
    subprograms: tuple[Subprogram, ...] = ()
    maps: tuple[MapSpec, ...] = ()
    attach_to: str = ""
    attach_type: AttachType = AttachType.NONE
    flags: ProgramFlag = ProgramFlag(0)
    isa: int = 4
    license: str = field(default="Dual MIT/GPL")

    @property
    def slots(self) -> int:
        """Number of 8-byte instruction slots."""
        return len(self.code) // 8
