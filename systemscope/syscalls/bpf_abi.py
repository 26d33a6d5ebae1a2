"""The ABI of ``bpf()``: commands, flags and the members of ``union bpf_attr``, each once.

Source: include/uapi/linux/bpf.h. ``tools/abi_check.py`` compares this file with the compiled
header.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from systemscope.syscalls.layout import Layout

# The kernel may write results beyond a short attr: the buffer is always larger than any union.
ATTR_BYTES = 256
OBJECT_NAME_BYTES = 16
TAG_BYTES = 8


class Command(IntEnum):
    """enum bpf_cmd."""

    MAP_CREATE = 0
    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    MAP_GET_NEXT_KEY = 4
    PROG_LOAD = 5
    PROG_TEST_RUN = 10
    PROG_GET_NEXT_ID = 11
    MAP_GET_NEXT_ID = 12
    PROG_GET_FD_BY_ID = 13
    MAP_GET_FD_BY_ID = 14
    OBJ_GET_INFO_BY_FD = 15
    RAW_TRACEPOINT_OPEN = 17
    BTF_LOAD = 18
    BTF_GET_FD_BY_ID = 19
    TASK_FD_QUERY = 20
    MAP_LOOKUP_AND_DELETE_ELEM = 21
    MAP_FREEZE = 22
    BTF_GET_NEXT_ID = 23
    MAP_LOOKUP_BATCH = 24
    MAP_LOOKUP_AND_DELETE_BATCH = 25
    MAP_UPDATE_BATCH = 26
    MAP_DELETE_BATCH = 27
    LINK_CREATE = 28
    LINK_UPDATE = 29
    LINK_GET_FD_BY_ID = 30
    LINK_GET_NEXT_ID = 31
    ENABLE_STATS = 32
    ITER_CREATE = 33
    LINK_DETACH = 34


class UpdateFlag(IntEnum):
    """What BPF_MAP_UPDATE_ELEM does about an entry that is, or is not, there."""

    ANY = 0
    NOEXIST = 1
    EXIST = 2


class TestRunFlag(IntFlag):
    """Flags of BPF_PROG_TEST_RUN."""

    NONE = 0
    ON_CPU = 1 << 0


class LinkType(IntEnum):
    """enum bpf_link_type."""

    UNSPEC = 0
    RAW_TRACEPOINT = 1
    TRACING = 2
    CGROUP = 3
    ITER = 4
    NETNS = 5
    XDP = 6
    PERF_EVENT = 7


STATS_RUN_TIME = 0

_ATTR = "union bpf_attr"

MAP_CREATE = Layout(
    _ATTR,
    ("map_type", "I"),
    ("key_size", "I"),
    ("value_size", "I"),
    ("max_entries", "I"),
    ("map_flags", "I"),
    ("inner_map_fd", "I"),
    ("numa_node", "I"),
    ("map_name", "16s"),
    ("map_ifindex", "I"),
    ("btf_fd", "I"),
    ("btf_key_type_id", "I"),
    ("btf_value_type_id", "I"),
    ("btf_vmlinux_value_type_id", "I"),
    ("map_extra", "Q"),
)
MAP_ELEM = Layout(_ATTR, ("map_fd", "I"), ("key", "Q"), ("value", "Q"), ("flags", "Q"))
MAP_BATCH = Layout(
    _ATTR,
    ("in_batch", "Q"),
    ("out_batch", "Q"),
    ("keys", "Q"),
    ("values", "Q"),
    ("count", "I"),
    ("map_fd", "I"),
    ("elem_flags", "Q"),
    ("flags", "Q"),
    prefix="batch.",
)
PROG_LOAD = Layout(
    _ATTR,
    ("prog_type", "I"),
    ("insn_cnt", "I"),
    ("insns", "Q"),
    ("license", "Q"),
    ("log_level", "I"),
    ("log_size", "I"),
    ("log_buf", "Q"),
    ("kern_version", "I"),
    ("prog_flags", "I"),
    ("prog_name", "16s"),
    ("prog_ifindex", "I"),
    ("expected_attach_type", "I"),
    ("prog_btf_fd", "I"),
    ("func_info_rec_size", "I"),
    ("func_info", "Q"),
    ("func_info_cnt", "I"),
    ("line_info_rec_size", "I"),
    ("line_info", "Q"),
    ("line_info_cnt", "I"),
    ("attach_btf_id", "I"),
    ("attach_btf_obj_fd", "I"),
    ("core_relo_cnt", "I"),
    ("fd_array", "Q"),
    ("core_relos", "Q"),
    ("core_relo_rec_size", "I"),
)
TEST_RUN = Layout(
    _ATTR,
    ("prog_fd", "I"),
    ("retval", "I"),
    ("data_size_in", "I"),
    ("data_size_out", "I"),
    ("data_in", "Q"),
    ("data_out", "Q"),
    ("repeat", "I"),
    ("duration", "I"),
    ("ctx_size_in", "I"),
    ("ctx_size_out", "I"),
    ("ctx_in", "Q"),
    ("ctx_out", "Q"),
    ("flags", "I"),
    ("cpu", "I"),
    ("batch_size", "I"),
    prefix="test.",
)
GET_ID = Layout(_ATTR, ("start_id", "I"), ("next_id", "I"), ("open_flags", "I"))
GET_INFO = Layout(_ATTR, ("bpf_fd", "I"), ("info_len", "I"), ("info", "Q"), prefix="info.")
RAW_TRACEPOINT = Layout(_ATTR, ("name", "Q"), ("prog_fd", "I"), prefix="raw_tracepoint.")
BTF_LOAD = Layout(
    _ATTR,
    ("btf", "Q"),
    ("btf_log_buf", "Q"),
    ("btf_size", "I"),
    ("btf_log_size", "I"),
    ("btf_log_level", "I"),
)
LINK_CREATE = Layout(
    _ATTR,
    ("prog_fd", "I"),
    ("target_fd", "I"),
    ("attach_type", "I"),
    ("flags", "I"),
    prefix="link_create.",
)
# The three forms that follow the four common members, which overlay one another.
LINK_CREATE_ITER = Layout(
    _ATTR, ("iter_info", "Q"), ("iter_info_len", "I"), prefix="link_create.", start=16
)
LINK_CREATE_PERF = Layout(_ATTR, ("bpf_cookie", "Q"), prefix="link_create.perf_event.", start=16)
LINK_CREATE_TRACING = Layout(
    _ATTR, ("target_btf_id", "I"), ("cookie", "Q"), prefix="link_create.tracing.", start=16
)
LINK_DETACH = Layout(_ATTR, ("link_fd", "I"), prefix="link_detach.")
ENABLE_STATS = Layout(_ATTR, ("type", "I"), prefix="enable_stats.")
ITER_CREATE = Layout(_ATTR, ("link_fd", "I"), ("flags", "I"), prefix="iter_create.")

# union bpf_iter_link_info, its task member: one thread, or all threads of a process.
ITER_TASK = Layout(
    "union bpf_iter_link_info", ("tid", "I"), ("pid", "I"), ("pid_fd", "I"), prefix="task."
)

PROG_INFO = Layout(
    "struct bpf_prog_info",
    ("type", "I"),
    ("id", "I"),
    ("tag", "8s"),
    ("jited_prog_len", "I"),
    ("xlated_prog_len", "I"),
    ("jited_prog_insns", "Q"),
    ("xlated_prog_insns", "Q"),
    ("load_time", "Q"),
    ("created_by_uid", "I"),
    ("nr_map_ids", "I"),
    ("map_ids", "Q"),
    ("name", "16s"),
    ("ifindex", "I"),
    ("_gpl_compatible", "I"),
    ("netns_dev", "Q"),
    ("netns_ino", "Q"),
    ("nr_jited_ksyms", "I"),
    ("nr_jited_func_lens", "I"),
    ("jited_ksyms", "Q"),
    ("jited_func_lens", "Q"),
    ("btf_id", "I"),
    ("func_info_rec_size", "I"),
    ("func_info", "Q"),
    ("nr_func_info", "I"),
    ("nr_line_info", "I"),
    ("line_info", "Q"),
    ("jited_line_info", "Q"),
    ("nr_jited_line_info", "I"),
    ("line_info_rec_size", "I"),
    ("jited_line_info_rec_size", "I"),
    ("nr_prog_tags", "I"),
    ("prog_tags", "Q"),
    ("run_time_ns", "Q"),
    ("run_cnt", "Q"),
    ("recursion_misses", "Q"),
    ("verified_insns", "I"),
    ("attach_btf_obj_id", "I"),
    ("attach_btf_id", "I"),
)
MAP_INFO = Layout(
    "struct bpf_map_info",
    ("type", "I"),
    ("id", "I"),
    ("key_size", "I"),
    ("value_size", "I"),
    ("max_entries", "I"),
    ("map_flags", "I"),
    ("name", "16s"),
    ("ifindex", "I"),
    ("btf_vmlinux_value_type_id", "I"),
    ("netns_dev", "Q"),
    ("netns_ino", "Q"),
    ("btf_id", "I"),
    ("btf_key_type_id", "I"),
    ("btf_value_type_id", "I"),
    ("_padding", "I"),
    ("map_extra", "Q"),
)
BTF_INFO = Layout(
    "struct bpf_btf_info",
    ("btf", "Q"),
    ("btf_size", "I"),
    ("id", "I"),
    ("name", "Q"),
    ("name_len", "I"),
    ("kernel_btf", "I"),
)
LINK_INFO = Layout(
    "struct bpf_link_info",
    ("type", "I"),
    ("id", "I"),
    ("prog_id", "I"),
    ("_hole", "I"),
    ("_kind", "48s"),
)
FUNC_INFO = Layout("struct bpf_func_info", ("insn_off", "I"), ("type_id", "I"))
LINE_INFO = Layout(
    "struct bpf_line_info",
    ("insn_off", "I"),
    ("file_name_off", "I"),
    ("line_off", "I"),
    ("line_col", "I"),
)

LAYOUTS = (
    MAP_CREATE,
    MAP_ELEM,
    MAP_BATCH,
    PROG_LOAD,
    TEST_RUN,
    GET_ID,
    GET_INFO,
    RAW_TRACEPOINT,
    BTF_LOAD,
    LINK_CREATE,
    LINK_CREATE_ITER,
    LINK_CREATE_PERF,
    LINK_CREATE_TRACING,
    LINK_DETACH,
    ENABLE_STATS,
    ITER_CREATE,
    ITER_TASK,
    PROG_INFO,
    MAP_INFO,
    BTF_INFO,
    LINK_INFO,
    FUNC_INFO,
    LINE_INFO,
)
