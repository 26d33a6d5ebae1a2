"""What another machine must know of this one to name a capture's addresses: gathered, not named.

Only what the capture's addresses lie in is looked at: the build IDs of mapped files while the
files can still be reached, the kernel's symbols at these addresses, and the vdso.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from systemscope.elf import ElfError
from systemscope.elf.notes import find_build_id
from systemscope.errors import SystemScopeError
from systemscope.model import Capture, GeneratedSymbol, HostFacts, KernelSymbol, Mapping
from systemscope.processes.vdso import read_vdso
from systemscope.symbolizer.generated import GeneratedCode
from systemscope.symbolizer.kallsyms import KernelSymbols
from systemscope.symbolizer.modules import Module, ModuleReader, open_image
from systemscope.symbolizer.options import FileOpener, SymbolizerOptions
from systemscope.symbolizer.user import UserNamer

#: The notes of the running kernel's image, as in its ELF file (kernel/ksysfs.c, notes_read()).
_KERNEL_NOTES = "/sys/kernel/notes"
_MAX_NOTES = 65_536
_CORE = "[kernel]"

FileKey = tuple[str, tuple[int, int, int, int]]


def file_key(mapping: Mapping) -> FileKey:
    """The key of a mapping's file in HostFacts.build_ids."""
    file = mapping.file
    if file is None:
        return mapping.path, (0, 0, 0, 0)
    return mapping.path, (file.major, file.minor, file.inode, file.generation)


def gather_facts(
    capture: Capture, opener: FileOpener, options: Optional[SymbolizerOptions] = None
) -> HostFacts:
    """Facts about the addresses of ``capture``'s entries, on the machine it was made on.

    Never raises for what is wrong with a target's files: they have no build ID then.
    """
    options = options or SymbolizerOptions()
    facts = HostFacts(kernel_build_id=kernel_build_id())
    used = {entry.stack for entry in capture.entries}
    kernel = {address for number in used for address in capture.stacks[number].kernel}
    if kernel:
        symbols = KernelSymbols.read(options.kallsyms, options.modules)
        facts.kernel_symbols = _covering(symbols, kernel)
        if symbols.problem:
            facts.notes.append(symbols.problem)
    user = _asked(capture, options, opener)
    facts.generated = _generated(capture, user, opener)
    for mapping, module in user.asked():
        if mapping.path == "[vdso]":
            facts.vdso = facts.vdso or read_vdso() or b""
        elif file_key(mapping) not in facts.build_ids:
            found = module.build_id
            if found is None:
                found = module.build_id = _build_id(module, opener)
            if found:
                facts.build_ids[file_key(mapping)] = found
    return facts


def kernel_build_id(path: str = _KERNEL_NOTES) -> str:
    """The running kernel's build ID in hex, "" where it is not told."""
    try:
        with open(path, "rb", buffering=0) as file:
            return find_build_id(file.read(_MAX_NOTES) or b"", 4).hex()
    except OSError:
        return ""


def _asked(capture: Capture, options: SymbolizerOptions, opener: FileOpener) -> UserNamer:
    """A namer that has been asked for all user addresses of the capture."""
    user = UserNamer(capture, options, ModuleReader(options, opener, same_kernel=True))
    for entry in capture.entries:
        addresses = capture.stacks[entry.stack].user
        if addresses:
            user.ask(user.space(capture.threads[entry.thread].tgid, entry.time), addresses)
    return user


def _generated(capture: Capture, user: UserNamer, opener: FileOpener) -> list[GeneratedSymbol]:
    found: dict[GeneratedSymbol, None] = {}
    with GeneratedCode(capture.processes, opener) as code:
        for tgid, address in user.in_no_file():
            one = code.find(tgid, address)
            if one is not None:
                found[GeneratedSymbol(tgid, one.start, one.start + one.size, one.name)] = None
    return list(found)


def _build_id(module: Module, opener: FileOpener) -> str:
    for tgid, mapping in module.where:
        try:
            opened = opener(tgid, mapping)
        except (OSError, SystemScopeError):
            continue
        if opened is not None:
            try:
                with open_image(opened) as image:
                    return image.build_id
            except ElfError:
                return ""
    return ""


def _covering(symbols: KernelSymbols, addresses: Iterable[int]) -> list[KernelSymbol]:
    """The symbols at ``addresses`` and at the byte before each, where a call may lie."""
    found: dict[int, KernelSymbol] = {}
    for address in addresses:
        for place in (address, address - 1):
            symbol = symbols.find(place)
            if symbol is not None and symbol.start not in found:
                module = "" if symbol.module == _CORE else symbol.module.strip("[]")
                end = symbols.end_of(place)
                found[symbol.start] = KernelSymbol(symbol.start, end, symbol.name, module)
    return sorted(found.values(), key=_start)


def _start(symbol: KernelSymbol) -> int:
    return symbol.start
