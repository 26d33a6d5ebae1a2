"""What this process may do, and what the system's settings forbid."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntEnum

_LIMIT = 65_536  # bytes read of any of these small files
_LOCKDOWN = "/sys/kernel/security/lockdown"


class Capability(IntEnum):
    """The bits of include/uapi/linux/capability.h that matter here."""

    DAC_READ_SEARCH = 2
    SYS_PTRACE = 19
    SYS_ADMIN = 21
    SYS_RESOURCE = 24
    SYSLOG = 34
    PERFMON = 38
    BPF = 39


class SeccompMode(IntEnum):
    """SECCOMP_MODE_* of include/uapi/linux/seccomp.h; UNKNOWN when /proc does not tell."""

    UNKNOWN = -1
    DISABLED = 0
    STRICT = 1
    FILTER = 2


@dataclass(frozen=True)
class Privileges:
    """Effective rights of this process.

    ``initial_user_namespace`` is False in a user namespace of one's own, where capabilities do
    not reach BPF or perf. ``effective`` is the CapEff mask.
    """

    effective: int
    uid: int
    initial_user_namespace: bool
    seccomp: SeccompMode
    no_new_privs: bool

    def has(self, capability: Capability) -> bool:
        """True when the capability is effective here and counts for the whole system."""
        return self.initial_user_namespace and bool(self.effective >> capability & 1)


def privileges() -> Privileges:
    """Read ``/proc/self/status`` and ``/proc/self/uid_map``."""
    fields = parse_status(read_text("/proc/self/status"))
    return Privileges(
        effective=_integer(fields.get("CapEff", ""), 16, 0),
        uid=os.geteuid(),
        initial_user_namespace=_is_identity(read_text("/proc/self/uid_map")),
        seccomp=_seccomp(fields.get("Seccomp", "")),
        no_new_privs=fields.get("NoNewPrivs") == "1",
    )


def parse_status(text: str) -> dict[str, str]:
    """The ``Key:\\tvalue`` lines of a /proc status file. Lines of another shape are left out.

    The first line of a key counts: a process's name comes first and cannot forge later lines,
    since the kernel escapes newlines in it.
    """
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key, value.strip())
    return fields


def lockdown() -> str:
    """``none``, ``integrity`` or ``confidentiality``; empty when it cannot be known."""
    return parse_lockdown(read_text(_LOCKDOWN))


def parse_lockdown(text: str) -> str:
    """The bracketed word of ``none [integrity] confidentiality``; empty when there is none."""
    for word in text.split():
        if word.startswith("[") and word.endswith("]"):
            return word[1:-1]
    return ""


def sysctl(name: str, default: int = -1) -> int:
    """An integer of /proc/sys by its path, such as ``kernel/perf_event_paranoid``."""
    return _integer(read_text(f"/proc/sys/{name}"), 10, default)


def read_text(path: str) -> str:
    """The start of a small kernel file, empty when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(fd, _LIMIT).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _integer(text: str, base: int, default: int) -> int:
    try:
        return int(text.strip(), base)
    except ValueError:
        return default


def _seccomp(text: str) -> SeccompMode:
    try:
        return SeccompMode(int(text))
    except ValueError:
        return SeccompMode.UNKNOWN


def _is_identity(uid_map: str) -> bool:
    # Kernels without user namespaces have no such file, and nothing but the initial one.
    return not uid_map.strip() or uid_map.split() == ["0", "0", "4294967295"]
