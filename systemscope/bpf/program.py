"""BPF programs: relocated, loaded, and a refusal told in Python lines."""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Callable, Optional

from systemscope.bpf.map import Map, fdinfo_number
from systemscope.bpf.owned import Owned
from systemscope.bpf.verifier_log import explain
from systemscope.bpfasm.btf import program_btf
from systemscope.bpfasm.types import MapSpec, ProgramSpec, ProgramType, Reloc, RelocKind
from systemscope.errors import KernelError, Unsupported, VerifierError
from systemscope.syscalls import bpf
from systemscope.syscalls.fd import Fd
from systemscope.syscalls.proc import raise_memlock
from systemscope.syscalls.raw import remedy_for

Symbols = Callable[[str], int]

# PROG_LOAD answers EAGAIN when a signal is pending or the verifier's lock is contended.
_ATTEMPTS = 10
_FIRST_LOG_BYTES = 1 << 20
_REGISTERS = struct.Struct("<B")
_IMMEDIATE = struct.Struct("<I")
_PSEUDO = {
    RelocKind.MAP_FD: 1,
    RelocKind.MAP_VALUE: 2,
    RelocKind.KFUNC: 2,
    RelocKind.KSYM: 3,
}


class Program(Owned):
    """One loaded program. It lives while its descriptor or an attachment does."""

    def __init__(self, fd: Fd, spec: ProgramSpec) -> None:
        super().__init__(fd)
        self.spec = spec

    @classmethod
    def load(
        cls,
        spec: ProgramSpec,
        maps: Mapping[MapSpec, Map],
        *,
        attach_btf_id: int = 0,
        symbols: Optional[Symbols] = None,
        with_btf: bool = True,
        named: bool = True,
    ) -> Program:
        """Load ``spec`` with its maps patched in.

        ``attach_btf_id`` is the BTF id a TRACING program binds to; ``symbols`` finds those of
        kfuncs and kernel variables (0: absent, which raises Unsupported). Function and line
        information go along where the kernel takes them, as the name does. VerifierError, with the
        log, when the verifier refuses; KernelError for all else.
        """
        with ExitStack() as stack:
            request = _request(spec, relocate(spec, maps, symbols), attach_btf_id, named)
            full = _with_btf(spec, request, stack) if with_btf else request
            return cls(_load(spec, full, request), spec)

    @staticmethod
    def verify_log(
        spec: ProgramSpec,
        maps: Mapping[MapSpec, Map],
        *,
        attach_btf_id: int = 0,
        symbols: Optional[Symbols] = None,
        with_btf: bool = True,
        log_level: int = 2,
    ) -> str:
        """The verifier's log of ``spec``, accepted or not; nothing stays loaded."""
        with ExitStack() as stack:
            request = _request(spec, relocate(spec, maps, symbols), attach_btf_id, True)
            full = _with_btf(spec, request, stack) if with_btf else request
            result = _logged(full, log_level)
            if result.fd is not None:
                result.fd.close()
            return result.log

    def info(self) -> bpf.ProgramInfo:
        """What the kernel says of it: run figures (while BpfStats is on), sizes, id (4.13)."""
        return bpf.prog_info(self.fd)

    def memory_bytes(self) -> int:
        """The memory the kernel charges for it; 0 when it does not say."""
        return fdinfo_number(self.fd, "memlock")

    def run(self, data: bytes = b"", context: bytes = b"", repeat: int = 0) -> bpf.TestRun:
        """Run it once by BPF_PROG_TEST_RUN, where its type allows that."""
        return bpf.prog_test_run(self.fd, data, context, repeat)


def relocate(
    spec: ProgramSpec, maps: Mapping[MapSpec, Map], symbols: Optional[Symbols] = None
) -> bytes:
    """``spec``'s code with descriptors and BTF ids in place of its symbols."""
    code = bytearray(spec.code)
    for reloc in spec.relocs:
        at = reloc.index * 8
        pseudo = _PSEUDO[reloc.kind]
        _REGISTERS.pack_into(code, at + 1, code[at + 1] & 0x0F | pseudo << 4)
        _IMMEDIATE.pack_into(code, at + 4, _target(spec, reloc, maps, symbols))
        if reloc.kind is RelocKind.MAP_VALUE:
            _IMMEDIATE.pack_into(code, at + 12, reloc.offset)
    return bytes(code)


def _target(
    spec: ProgramSpec, reloc: Reloc, maps: Mapping[MapSpec, Map], symbols: Optional[Symbols]
) -> int:
    """The number that a relocation puts into the instruction."""
    if reloc.kind in (RelocKind.MAP_FD, RelocKind.MAP_VALUE):
        if reloc.map is None or reloc.map not in maps:
            name = reloc.map.name if reloc.map else "?"
            raise ValueError(f"program '{spec.name}' uses map '{name}', which was not given")
        return maps[reloc.map].fd
    number = symbols(reloc.symbol) if symbols else 0
    if not number:
        raise Unsupported(f"the kernel symbol '{reloc.symbol}' of program '{spec.name}'")
    return number


def _request(spec: ProgramSpec, code: bytes, attach_btf_id: int, named: bool) -> bpf.LoadRequest:
    tracing = spec.type is ProgramType.TRACING
    return bpf.LoadRequest(
        type=int(spec.type),
        code=code,
        license=spec.license,
        name=spec.name if named else "",
        flags=int(spec.flags),
        # Other types need none, and kernels before 4.17 refuse what they do not know.
        expected_attach_type=int(spec.attach_type) if tracing else 0,
        kern_version=kernel_version_code() if spec.type is ProgramType.KPROBE else 0,
        attach_btf_id=attach_btf_id,
    )


def _with_btf(spec: ProgramSpec, request: bpf.LoadRequest, stack: ExitStack) -> bpf.LoadRequest:
    """``request`` with function and line information, as far as the kernel takes BTF."""
    btf = program_btf(spec)
    try:
        types = stack.enter_context(bpf.btf_load(btf.blob))
    except KernelError:
        return request  # before 4.18, or not permitted: it is only information
    return replace(
        request,
        btf_fd=types.number,
        func_info=btf.func_info,
        func_info_rec_size=btf.func_info_rec_size,
        line_info=btf.line_info,
        line_info_rec_size=btf.line_info_rec_size if btf.line_info else 0,
    )


def _load(spec: ProgramSpec, full: bpf.LoadRequest, bare: bpf.LoadRequest) -> Fd:
    """Load in the fullest form the kernel takes; the log is asked for only after a refusal."""
    result = _attempt(full)
    if result.errno == errno.EPERM and raise_memlock():
        result = _attempt(full)
    if result.fd is not None:
        return result.fd
    first = result.errno
    for fewer in _fewer(full, bare, first):
        result = _attempt(fewer)
        if result.fd is not None:
            return result.fd
    logged = _logged(full, 1)
    if logged.fd is not None:
        return logged.fd  # the refusal was a passing one
    if not logged.log.strip() and full is not bare:
        logged = _logged(bare, 1)
    if logged.fd is not None:
        return logged.fd
    if not logged.log.strip():
        subject = f"program '{spec.name}'"
        raise KernelError("BPF_PROG_LOAD", subject, first, remedy_for(first))
    number = logged.errno if first == errno.EPERM else first
    raise VerifierError(spec.name, number, logged.log, explain(spec, number, logged.log))


def _fewer(
    full: bpf.LoadRequest, bare: bpf.LoadRequest, number: int
) -> tuple[bpf.LoadRequest, ...]:
    """The same program with less beside the code, for kernels that do not know it.

    E2BIG is how a kernel refuses members that it does not know, EINVAL information it does not
    like. A refusal of the code itself comes back from these too.
    """
    if number not in (errno.E2BIG, errno.EINVAL):
        return ()
    forms = (bare, replace(bare, name="")) if number == errno.E2BIG else (bare,)
    return tuple(form for form in forms if form != full)


def _attempt(request: bpf.LoadRequest) -> bpf.LoadResult:
    for _ in range(_ATTEMPTS):
        result = bpf.prog_load(request)
        if result.errno != errno.EAGAIN:
            break
    return result


def _logged(request: bpf.LoadRequest, level: int) -> bpf.LoadResult:
    """Load with a log, in a buffer grown until the log fits or cannot."""
    size = _FIRST_LOG_BYTES
    while True:
        result = _attempt(replace(request, log_level=level, log_size=size))
        if result.errno != errno.ENOSPC or size >= bpf.MAX_LOG_BYTES:
            return result
        size = min(size * 16, bpf.MAX_LOG_BYTES)


def kernel_version_code() -> int:
    """LINUX_VERSION_CODE of the running kernel, which KPROBE programs had to carry before 5.0.

    Debian tells the true sublevel in the version text, not in the release; sublevels above 255
    are capped by the kernel since 4.14.222 and 4.9.258.
    """
    host = os.uname()
    text = re.search(r"Debian (\d+)\.(\d+)\.(\d+)", host.version)
    match = text or re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", host.release)
    if match is None:
        return 0
    major, minor, sublevel = (int(part or 0) for part in match.groups())
    return (major << 16) + (minor << 8) + min(sublevel, 255)
