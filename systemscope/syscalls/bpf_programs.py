"""Commands on programs: load, run once, attach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from systemscope.syscalls import bpf_abi as abi
from systemscope.syscalls.bpf_abi import Command, TestRunFlag
from systemscope.syscalls.bpf_call import attr, bpf, checked, object_name, opened
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.raw import Buffer, c_string

# The largest log every kernel takes: 5.1 and older refuse 16 MiB.
MAX_LOG_BYTES = (1 << 24) - 1


@dataclass(frozen=True)
class LoadRequest:
    """Everything BPF_PROG_LOAD takes. Zero and empty mean "not given", as in the kernel.

    ``fd_array`` are map or BTF descriptors; ``kern_version`` matters to KPROBE before 5.0.
    """

    type: int
    code: bytes
    license: str = "GPL"
    name: str = ""
    flags: int = 0
    expected_attach_type: int = 0
    kern_version: int = 0
    btf_fd: int = 0
    func_info: bytes = b""
    func_info_rec_size: int = 0
    line_info: bytes = b""
    line_info_rec_size: int = 0
    attach_btf_id: int = 0
    attach_btf_obj_fd: int = 0
    fd_array: tuple[int, ...] = ()
    log_level: int = 0
    log_size: int = 0


@dataclass(frozen=True)
class LoadResult:
    """``fd`` when the verifier accepted, else ``errno``; ``log`` is what it wrote."""

    fd: Optional[Fd]
    errno: int
    log: str


def prog_load(request: LoadRequest) -> LoadResult:
    """BPF_PROG_LOAD, tried once; refusals are told in the result, not raised.

    ENOSPC with a log asked for means that the log did not fit.
    """
    code = Buffer(request.code)
    license_text = c_string(request.license)
    log = Buffer(min(request.log_size, MAX_LOG_BYTES) if request.log_level else 0)
    functions = Buffer(request.func_info)
    lines = Buffer(request.line_info)
    descriptors = Buffer(b"".join(n.to_bytes(4, "little") for n in request.fd_array))
    buffer = attr(
        abi.PROG_LOAD,
        prog_type=request.type,
        insn_cnt=len(request.code) // 8,
        insns=code.address,
        license=license_text.address,
        log_level=request.log_level,
        log_size=log.size,
        log_buf=log.address,
        kern_version=request.kern_version,
        prog_flags=request.flags,
        prog_name=object_name(request.name),
        expected_attach_type=request.expected_attach_type,
        prog_btf_fd=request.btf_fd,
        func_info_rec_size=request.func_info_rec_size,
        func_info=functions.address,
        func_info_cnt=_records(request.func_info, request.func_info_rec_size),
        line_info_rec_size=request.line_info_rec_size,
        line_info=lines.address,
        line_info_cnt=_records(request.line_info, request.line_info_rec_size),
        attach_btf_id=request.attach_btf_id,
        attach_btf_obj_fd=request.attach_btf_obj_fd,
        fd_array=descriptors.address,
    )
    result = bpf(Command.PROG_LOAD, buffer, abi.PROG_LOAD.end)
    text = bytes(log.data).split(b"\0", 1)[0].decode("utf-8", "replace")
    if result < 0:
        return LoadResult(None, -result, text)
    return LoadResult(Fd(result, f"program '{request.name}'"), 0, text)


def _records(table: bytes, record_size: int) -> int:
    return len(table) // record_size if record_size else 0


@dataclass(frozen=True)
class TestRun:
    """What a run answered: r0, what it left in its data or context, mean duration in ns."""

    __test__ = False  # not a test class, whatever pytest thinks of the name

    retval: int
    data: bytes
    context: bytes
    duration_ns: int


def prog_test_run(
    fd: int,
    data: bytes = b"",
    context: bytes = b"",
    repeat: int = 0,
    flags: TestRunFlag = TestRunFlag.NONE,
    cpu: int = 0,
) -> TestRun:
    """BPF_PROG_TEST_RUN: run a program once on given data (SOCKET_FILTER: 14 bytes at least) or
    context (RAW_TRACEPOINT since 5.10: the u64 arguments; SYSCALL). Other types answer ENOTSUPP.
    """
    data_in, data_out = Buffer(data), Buffer(max(len(data), 1) * 2 if data else 0)
    context_in = Buffer(context)
    context_out = Buffer(0)
    buffer = attr(
        abi.TEST_RUN,
        prog_fd=fd,
        data_size_in=data_in.size,
        data_size_out=data_out.size,
        data_in=data_in.address,
        data_out=data_out.address,
        repeat=repeat,
        ctx_size_in=context_in.size,
        ctx_size_out=context_out.size,
        ctx_in=context_in.address,
        ctx_out=context_out.address,
        flags=flags,
        cpu=cpu,
    )
    checked(Command.PROG_TEST_RUN, buffer, abi.TEST_RUN.end, "program")
    answer = abi.TEST_RUN.unpack(buffer.data)
    return TestRun(
        retval=answer["retval"],
        data=bytes(data_out.data[: answer["data_size_out"]]),
        context=bytes(context_in.data),
        duration_ns=answer["duration"],
    )


def raw_tracepoint_open(program_fd: int, name: str = "") -> Fd:
    """BPF_RAW_TRACEPOINT_OPEN: attach a RAW_TRACEPOINT program to tracepoint ``name``.

    An empty name attaches a TRACING program to what it was bound to at load (tp_btf, fentry,
    fexit). The descriptor is the attachment: it ends when the descriptor closes.
    """
    text = c_string(name) if name else Buffer(0)
    buffer = attr(abi.RAW_TRACEPOINT, name=text.address, prog_fd=program_fd)
    subject = f"raw tracepoint '{name}'" if name else "BTF tracepoint"
    return opened(Command.RAW_TRACEPOINT_OPEN, buffer, abi.RAW_TRACEPOINT.end, subject)


def link_create_perf_event(program_fd: int, event_fd: int, attach_type: int, cookie: int = 0) -> Fd:
    """BPF_LINK_CREATE of a program to a perf event (5.15)."""
    buffer = attr(abi.LINK_CREATE, prog_fd=program_fd, target_fd=event_fd, attach_type=attach_type)
    abi.LINK_CREATE_PERF.pack_into(buffer.data, bpf_cookie=cookie)
    size = abi.LINK_CREATE_PERF.end
    return opened(Command.LINK_CREATE, buffer, size, "perf event link")


def link_create_iterator(program_fd: int, attach_type: int, pid: int = 0, tid: int = 0) -> Fd:
    """BPF_LINK_CREATE of an iterator program (5.8), over all tasks, or (6.1) those of process
    ``pid`` or thread ``tid`` alone.
    """
    buffer = attr(abi.LINK_CREATE, prog_fd=program_fd, attach_type=attach_type)
    if not (pid or tid):
        return opened(Command.LINK_CREATE, buffer, abi.LINK_CREATE_ITER.end, "iterator link")
    info = Buffer(abi.ITER_TASK.size)
    abi.ITER_TASK.pack_into(info.data, tid=tid, pid=pid)
    abi.LINK_CREATE_ITER.pack_into(buffer.data, iter_info=info.address, iter_info_len=info.size)
    return opened(Command.LINK_CREATE, buffer, abi.LINK_CREATE_ITER.end, "iterator link")


def link_create_tracing(program_fd: int, attach_type: int, cookie: int = 0) -> Fd:
    """BPF_LINK_CREATE of a TRACING program to what it was bound to at load, with a cookie (5.18
    and later; without one :func:`raw_tracepoint_open` does the same on every kernel).
    """
    buffer = attr(abi.LINK_CREATE, prog_fd=program_fd, attach_type=attach_type)
    abi.LINK_CREATE_TRACING.pack_into(buffer.data, cookie=cookie)
    return opened(Command.LINK_CREATE, buffer, abi.LINK_CREATE_TRACING.end, "tracing link")


def link_detach(fd: int) -> None:
    """BPF_LINK_DETACH (5.9): end the attachment while the link stays. EOPNOTSUPP on most kinds."""
    buffer = attr(abi.LINK_DETACH, link_fd=fd)
    checked(Command.LINK_DETACH, buffer, abi.LINK_DETACH.end, "link")


def iter_create(link_fd: int) -> Fd:
    """BPF_ITER_CREATE: a descriptor whose reads run the iterator program once from the start."""
    buffer = attr(abi.ITER_CREATE, link_fd=link_fd)
    return opened(Command.ITER_CREATE, buffer, abi.ITER_CREATE.end, "iterator")
