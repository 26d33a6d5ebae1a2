"""What a question to the kernel is, what answers there are, and what a prober asks with.

A probe is a function marked with :func:`probe`, named after the field of
:class:`~systemscope.kernel.capabilities.Capabilities` that it fills. It asks the kernel by trying,
never by version. Its answer is conclusive (available, missing) or not: a lack of privilege or of
memory says nothing about the kernel.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Optional, Union

from systemscope.errors import KernelError, SystemScopeError
from systemscope.kernel.btf import BtfKind, KernelBtf
from systemscope.kernel.privileges import Privileges
from systemscope.syscalls import bpf
from systemscope.syscalls.fd import Fd

Value = Union[bool, int, str]

# Refusals that speak of this process or this moment, not of what the kernel can do.
_PASSING = frozenset(
    (errno.EPERM, errno.ENOMEM, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EMFILE, errno.ENFILE)
)
_LOG_BYTES = 1 << 14


class State(Enum):
    """How sure an answer is."""

    AVAILABLE = "available"
    MISSING = "missing"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Finding:
    """One answer. ``value`` fills the capability (its floor unless available); ``detail`` is the
    kernel's reason, or which one was found."""

    state: State
    value: Value
    detail: str = ""

    @classmethod
    def yes(cls, value: Value = True, detail: str = "") -> Finding:
        """Available."""
        return cls(State.AVAILABLE, value, detail)

    @classmethod
    def no(cls, detail: str = "", value: Value = False) -> Finding:
        """Conclusively missing."""
        return cls(State.MISSING, value, detail)

    @classmethod
    def unsure(cls, detail: str = "", value: Value = False) -> Finding:
        """Not to be known here and now."""
        return cls(State.INCONCLUSIVE, value, detail)

    @classmethod
    def refused(cls, number: int, detail: str = "", value: Value = False) -> Finding:
        """What errno ``number`` means: missing, or inconclusive when it says nothing."""
        name = errno.errorcode.get(number, f"errno {number}")
        text = f"{name}: {detail}" if detail else name
        if number in _PASSING:
            return cls.unsure(text, value)
        return cls.no(text, value)

    @property
    def available(self) -> bool:
        """True when the kernel has it."""
        return self.state is State.AVAILABLE


@dataclass(frozen=True)
class Probe:
    """A question: ``field`` of Capabilities, ``title`` for people, ``since`` which Linux has it,
    what the user pays where it is ``missing``, and the ``remedy``."""

    field: str
    title: str
    since: str
    missing: str
    remedy: str
    ask: Callable[[Prober], Finding]


def probe(
    title: str, *, since: str, missing: str, remedy: str = ""
) -> Callable[[Callable[[Prober], Finding]], Probe]:
    """Make a probe of a function, which fills the capability of the function's name."""

    def mark(ask: Callable[[Prober], Finding]) -> Probe:
        upgrade = remedy or f"run Linux {since} or later"
        return Probe(ask.__name__, title, since, missing, upgrade, ask)

    return mark


@dataclass
class Prober:
    """What probes ask with, and what earlier ones found."""

    privileges: Privileges
    btf: Optional[KernelBtf]
    findings: dict[str, Finding] = field(default_factory=dict)
    lockdown: str = ""  # as far as some probe had to know
    kprobe_events: bool = False  # the tracefs that was found defines kprobes

    def has(self, name: str) -> bool:
        """True when an earlier probe found ``name`` available."""
        finding = self.findings.get(name)
        return finding is not None and finding.available

    def lacking(self, name: str, detail: str, value: Value = False) -> Finding:
        """The finding for what cannot be had without ``name``, which is not available."""
        base = self.findings.get(name)
        if base is not None and base.state is State.INCONCLUSIVE:
            return Finding.unsure(base.detail, value)
        return Finding.no(detail, value)

    def type_id(self, name: str, kind: BtfKind) -> int:
        """The kernel's BTF id, 0 without BTF, for absent names and for damaged BTF."""
        try:
            return self.btf.type_id(name, kind) if self.btf is not None else 0
        except SystemScopeError:
            return 0

    def verify(self, request: bpf.LoadRequest) -> Finding:
        """Load a program and let it go."""
        result = bpf.prog_load(request)
        if result.fd is not None:
            result.fd.close()
            return Finding.yes()
        return Finding.refused(result.errno)

    def load(self, request: bpf.LoadRequest) -> Union[Fd, Finding]:
        """Load a program that the caller closes; a Finding when the kernel refuses."""
        result = bpf.prog_load(request)
        return result.fd if result.fd is not None else Finding.refused(result.errno)

    def explain(self, request: bpf.LoadRequest) -> tuple[int, str]:
        """Load with the verifier's log: errno (0 when it loaded) and the text."""
        result = bpf.prog_load(request)
        if result.fd is not None:
            result.fd.close()
        return result.errno, result.log

    def create(self, make: Callable[[], Fd]) -> Finding:
        """Create something that owns a descriptor and let it go."""
        try:
            make().close()
        except KernelError as error:
            return Finding.refused(error.errno or 0)
        return Finding.yes()
