"""The kernels to try, oldest first, and what the profiler is expected to choose on each."""

from __future__ import annotations

from dataclasses import dataclass, replace

SCHED_EXIT = "sched_exit_tp"
KPROBE = "kprobe on finish_task_switch"
SWITCH_OUT = "switch-out"

#: Where Python and its libraries for every guest come from.
GUEST_SUITE = "bookworm"


@dataclass(frozen=True)
class Kernel:
    """A kernel as Debian packages it, and how to boot it.

    ``package`` is a meta package that depends on the image; ``walk`` is where stacks of waits
    should be taken there; ``append`` is added to the kernel's command line.
    """

    name: str
    arch: str
    suite: str
    package: str
    walk: str
    append: str = ""

    @property
    def image_name(self) -> str:
        """The same for kernels that differ in their command lines alone."""
        return f"{self.suite}-{self.arch}"


def _cloud(series: str, arch: str, suite: str, walk: str = KPROBE) -> Kernel:
    return Kernel(f"{series}-{arch}", arch, suite, f"linux-image-cloud-{arch}", walk)


def _with(name: str, kernel: Kernel, append: str, walk: str) -> Kernel:
    return replace(kernel, name=f"{kernel.name}-{name}", append=append, walk=walk)


_TRIXIE = _cloud("6.12", "amd64", "trixie")
KERNELS = (
    _cloud("5.10", "amd64", "bullseye"),
    _cloud("6.1", "amd64", "bookworm"),
    _TRIXIE,
    # No tracefs, no kprobes, no reading of kernel memory by helpers.
    _with("lockdown", _TRIXIE, "lockdown=confidentiality", SWITCH_OUT),
    _with("preempt", _TRIXIE, "preempt=full", KPROBE),
    _cloud("newest", "amd64", "sid", SCHED_EXIT),
    _cloud("5.10", "arm64", "bullseye"),
    _cloud("6.1", "arm64", "bookworm"),
    _cloud("6.12", "arm64", "trixie"),
    _cloud("newest", "arm64", "sid", SCHED_EXIT),
)


def chosen(names: list[str]) -> list[Kernel]:
    """The kernels called ``names``, or all. KeyError for a name that is not one."""
    known = {kernel.name: kernel for kernel in KERNELS}
    return [known[name] for name in names] if names else list(KERNELS)
