"""The ABI of ``perf_event_open()``: attr, flag bits, event numbers, ioctls, records.

Source: include/uapi/linux/perf_event.h. ``tools/abi_check.py`` compares this file with the
compiled header.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from systemscope.syscalls.layout import Layout


class PerfType(IntEnum):
    """enum perf_type_id: the fixed ones (a PMU of sysfs has its own number)."""

    HARDWARE = 0
    SOFTWARE = 1
    TRACEPOINT = 2


class Hardware(IntEnum):
    """enum perf_hw_id, as far as it is used."""

    CPU_CYCLES = 0
    INSTRUCTIONS = 1
    REF_CPU_CYCLES = 9


class Software(IntEnum):
    """enum perf_sw_ids, as far as it is used."""

    CPU_CLOCK = 0
    TASK_CLOCK = 1
    CONTEXT_SWITCHES = 3
    CPU_MIGRATIONS = 4
    DUMMY = 9
    BPF_OUTPUT = 10


class SampleType(IntFlag):
    """enum perf_event_sample_format."""

    IP = 1 << 0
    TID = 1 << 1
    TIME = 1 << 2
    ADDR = 1 << 3
    READ = 1 << 4
    CALLCHAIN = 1 << 5
    ID = 1 << 6
    CPU = 1 << 7
    PERIOD = 1 << 8
    STREAM_ID = 1 << 9
    RAW = 1 << 10
    BRANCH_STACK = 1 << 11
    REGS_USER = 1 << 12
    STACK_USER = 1 << 13
    IDENTIFIER = 1 << 16


class ReadFormat(IntFlag):
    """enum perf_event_read_format."""

    TOTAL_TIME_ENABLED = 1 << 0
    TOTAL_TIME_RUNNING = 1 << 1
    ID = 1 << 2
    GROUP = 1 << 3
    LOST = 1 << 4


class AttrFlag(IntFlag):
    """The bit-field of struct perf_event_attr. PRECISE_IP_1 and _2 are its two-bit member."""

    NONE = 0
    DISABLED = 1 << 0
    INHERIT = 1 << 1
    PINNED = 1 << 2
    EXCLUSIVE = 1 << 3
    EXCLUDE_USER = 1 << 4
    EXCLUDE_KERNEL = 1 << 5
    EXCLUDE_HV = 1 << 6
    EXCLUDE_IDLE = 1 << 7
    MMAP = 1 << 8
    COMM = 1 << 9
    FREQ = 1 << 10
    INHERIT_STAT = 1 << 11
    ENABLE_ON_EXEC = 1 << 12
    TASK = 1 << 13
    WATERMARK = 1 << 14
    PRECISE_IP_1 = 1 << 15
    PRECISE_IP_2 = 1 << 16
    MMAP_DATA = 1 << 17
    SAMPLE_ID_ALL = 1 << 18
    EXCLUDE_HOST = 1 << 19
    EXCLUDE_GUEST = 1 << 20
    EXCLUDE_CALLCHAIN_KERNEL = 1 << 21
    EXCLUDE_CALLCHAIN_USER = 1 << 22
    MMAP2 = 1 << 23
    COMM_EXEC = 1 << 24
    USE_CLOCKID = 1 << 25
    CONTEXT_SWITCH = 1 << 26
    WRITE_BACKWARD = 1 << 27
    NAMESPACES = 1 << 28
    KSYMBOL = 1 << 29
    BPF_EVENT = 1 << 30
    AUX_OUTPUT = 1 << 31
    CGROUP = 1 << 32
    TEXT_POKE = 1 << 33
    BUILD_ID = 1 << 34
    INHERIT_THREAD = 1 << 35
    REMOVE_ON_EXEC = 1 << 36
    SIGTRAP = 1 << 37


class RecordType(IntEnum):
    """enum perf_event_type: what the ring's records are."""

    MMAP = 1
    LOST = 2
    COMM = 3
    EXIT = 4
    THROTTLE = 5
    UNTHROTTLE = 6
    FORK = 7
    READ = 8
    SAMPLE = 9
    MMAP2 = 10
    AUX = 11
    ITRACE_START = 12
    LOST_SAMPLES = 13
    SWITCH = 14
    SWITCH_CPU_WIDE = 15
    NAMESPACES = 16
    KSYMBOL = 17
    BPF_EVENT = 18
    CGROUP = 19
    TEXT_POKE = 20


class Misc(IntFlag):
    """Bits of the ``misc`` member of a record's header."""

    MMAP_DATA = 1 << 13
    COMM_EXEC = 1 << 13  # the same bit, in a COMM record
    FORK_EXEC = 1 << 13  # and in a FORK record
    MMAP_BUILD_ID = 1 << 14


class OpenFlag(IntFlag):
    """Flags of perf_event_open()."""

    FD_NO_GROUP = 1 << 0
    FD_OUTPUT = 1 << 1
    PID_CGROUP = 1 << 2
    FD_CLOEXEC = 1 << 3


class Ioctl(IntEnum):
    """PERF_EVENT_IOC_*: the same on x86-64 and aarch64."""

    ENABLE = 0x2400
    DISABLE = 0x2401
    REFRESH = 0x2402
    RESET = 0x2403
    PERIOD = 0x40082404
    SET_OUTPUT = 0x2405
    SET_FILTER = 0x40082406
    ID = 0x80082407
    SET_BPF = 0x40042408
    PAUSE_OUTPUT = 0x40042409


ATTR = Layout(
    "struct perf_event_attr",
    ("type", "I"),
    ("size", "I"),
    ("config", "Q"),
    ("sample_period", "Q"),
    ("sample_type", "Q"),
    ("read_format", "Q"),
    ("_flags", "Q"),
    ("wakeup_events", "I"),
    ("bp_type", "I"),
    ("config1", "Q"),
    ("config2", "Q"),
    ("branch_sample_type", "Q"),
    ("sample_regs_user", "Q"),
    ("sample_stack_user", "I"),
    ("clockid", "i"),
    ("sample_regs_intr", "Q"),
    ("aux_watermark", "I"),
    ("sample_max_stack", "H"),
    ("_reserved_2", "H"),
    ("aux_sample_size", "I"),
    ("_reserved_3", "I"),
    ("sig_data", "Q"),
    ("config3", "Q"),
)
# The sizes the struct grew through: an attr is handed over in the shortest that holds it.
ATTR_SIZES = (64, 72, 80, 96, 104, 112, 120, 128, 136)

RING_PAGE = Layout(
    "struct perf_event_mmap_page",
    ("data_head", "Q"),
    ("data_tail", "Q"),
    ("data_offset", "Q"),
    ("data_size", "Q"),
    start=1024,
)
RECORD_HEADER = Layout("struct perf_event_header", ("type", "I"), ("misc", "H"), ("size", "H"))

LAYOUTS = (ATTR, RING_PAGE, RECORD_HEADER)
