"""What only the machine of a capture knows, taken along so that another one can name addresses."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class KernelSymbol:
    """[start, end) of the kernel's address space belongs to ``name``; ``module`` "" is vmlinux."""

    start: int
    end: int
    name: str
    module: str = ""


@dataclass(frozen=True)
class GeneratedSymbol:
    """A compiler said that [start, end) of process ``tgid`` holds code called ``name``."""

    tgid: int
    start: int
    end: int
    name: str


@dataclass
class HostFacts:
    """Facts about addresses that occur in the capture, nothing else.

    ``build_ids`` maps (``Mapping.path``, the fields of ``Mapping.file`` or zeros) to the GNU build
    ID in hex.
    ``kernel_symbols`` are sorted by start. ``generated`` is code that lies in no file.
    ``vdso`` is the image the kernel maps into processes.
    """

    build_ids: dict[tuple[str, tuple[int, int, int, int]], str] = field(default_factory=dict)
    kernel_symbols: list[KernelSymbol] = field(default_factory=list)
    kernel_build_id: str = ""
    vdso: bytes = b""
    notes: list[str] = field(default_factory=list)  # why something is not known
    generated: list[GeneratedSymbol] = field(default_factory=list)
