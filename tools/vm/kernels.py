"""The kernels to try, oldest first, and what the profiler is expected to choose on each."""

from __future__ import annotations

from dataclasses import dataclass

SCHED_EXIT = "sched_exit_tp"
KPROBE = "kprobe on finish_task_switch"

#: Where Python and its libraries for every guest come from.
GUEST_SUITE = "bookworm"
#: Debian's names of architectures -> the kernel's.
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class Kernel:
    """A kernel as Debian packages it. ``package`` is a meta package that depends on the image;
    ``walk`` is where stacks of waits should be taken there."""

    name: str
    arch: str
    suite: str
    package: str
    walk: str


def _cloud(series: str, arch: str, suite: str, walk: str = KPROBE) -> Kernel:
    return Kernel(f"{series}-{arch}", arch, suite, f"linux-image-cloud-{arch}", walk)


KERNELS = (
    _cloud("5.10", "amd64", "bullseye"),
    _cloud("6.1", "amd64", "bookworm"),
    _cloud("6.12", "amd64", "trixie"),
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
