"""Outside oracles of the assembler: llvm-objdump's and the verifier's words in ours."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

OBJDUMP = "llvm-objdump-19"
_CORPUS = Path(__file__).with_name("asm_corpus.txt")


class Case(NamedTuple):
    """One encoding: the lowest ISA level that has it, its bytes, its text."""

    level: int
    code: bytes
    text: str


def corpus() -> list[Case]:
    """Every encoding of ISA v1 to v4, once each."""
    cases = []
    for line in _CORPUS.read_text().splitlines():
        level, code, text = line.split(None, 2)
        cases.append(Case(int(level[1:]), bytes.fromhex(code), text))
    return cases


def require_objdump() -> None:
    """Skip without llvm-objdump; fail instead where the run must be complete."""
    if shutil.which(OBJDUMP):
        return
    if os.environ.get("SYSTEMSCOPE_REQUIRE_KERNEL") == "1":
        pytest.fail(f"{OBJDUMP} is missing: install the llvm-19 package")
    pytest.skip(f"{OBJDUMP} is missing")


def elf_object(code: bytes) -> bytes:
    """A minimal ELF64 relocatable object for EM_BPF (247) with ``code`` as .text."""
    names = b"\0.text\0.shstrtab\0"
    body = code + names
    body += bytes(-len(body) % 8)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 1, 247, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 3, 2
    )
    text = struct.pack("<IIQQQQIIQQ", 1, 1, 6, 0, 64, len(code), 0, 0, 8, 0)
    strings = struct.pack("<IIQQQQIIQQ", 7, 3, 0, 0, 64 + len(code), len(names), 0, 0, 1, 0)
    return header + body + bytes(64) + text + strings


def objdump(code: bytes, directory: Path) -> dict[int, str]:
    """llvm-objdump's text by slot."""
    path = directory / "program.o"
    path.write_bytes(elf_object(code))
    command = [OBJDUMP, "-d", "--mattr=+alu32", "--no-show-raw-insn", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = re.findall(r"^\s*(\d+):\t(.*)$", done.stdout, re.MULTILINE)
    return {int(slot): text for slot, text in lines}


def from_llvm(text: str) -> str:
    """llvm-objdump's syntax in the common form of :func:`common`."""
    text = re.sub(r"\s*<\.text[^>]*>$", "", text.strip())
    text = re.sub(r"goto ([+-])", r"goto pc\1", text).replace("gotol ", "gotol pc")
    text = re.sub(r"x?cmpxchg32_32\((.*?), w0, ", r"atomic_cmpxchg((u32 *)(\1), r0, ", text)
    text = re.sub(r"cmpxchg_64\((.*?), r0, ", r"atomic64_cmpxchg((u64 *)(\1), r0, ", text)
    text = re.sub(r"xchg32_32\((.*?), ", r"atomic_xchg((u32 *)(\1), ", text)
    text = re.sub(r"xchg_64\((.*?), ", r"atomic64_xchg((u64 *)(\1), ", text)
    text = re.sub(r"atomic_(fetch_\w+)\(\(u64", r"atomic64_\1((u64", text)
    text = re.sub(r"^ld_pseudo\t(r\d+), (\w+), (\w+)$", r"\1 = pseudo \2 \3", text)
    return common(text)


def common(text: str) -> str:
    """One spelling for what llvm, the verifier and the listing spell differently.

    Numbers become decimal, blanks inside parentheses go. Memory and atomics lose the width of
    their registers (their size says it).
    """
    text = re.sub(r"-?\b0x[0-9a-f]+", lambda match: str(int(match.group(), 16)), text)
    text = re.sub(r"([+-]) (\d)", r"\1\2", text)
    text = re.sub(r"= -(\d+) ll$", lambda m: f"= {(1 << 64) - int(m.group(1))} ll", text)
    if "*)(" in text or "*)skb" in text:
        text = re.sub(r"\bw(\d+)", r"r\1", text)
    return text


def as_llvm(text: str) -> str:
    """Our text, in the common form, without what llvm-objdump does not print: the kind of a call
    and its name, the high half of a pseudo immediate, the offset of an indirect packet load."""
    text = re.sub(r"skb\[(r\d+) [+-]?\d+\]", r"skb[\1]", common(text))
    call = re.match(r"call (?:\w+#|pc\+)?(-?\d+)$", text)
    if call:
        return f"call {call.group(1)}"
    pseudo = re.match(r"(r\d+) = (map_fd|map_value|btf_id) (\d+) ll$", text)
    if pseudo:
        number = ("map_fd", "map_value", "btf_id").index(pseudo.group(2)) + 1
        return f"{pseudo.group(1)} = pseudo {number} {int(pseudo.group(3)) & 0xFFFFFFFF}"
    return re.sub(r"^(r\d+) = func pc\+(\d+)$", r"\1 = pseudo 4 \2", text)


def from_verifier(text: str) -> str:
    """The verifier's syntax in the common form: its immediates are unsigned in jumps and plain
    in 64-bit loads."""
    text = re.sub(r"\bbpf_(\w+#)", r"\1", text.strip()).replace("+ -", "-")
    if text.startswith("if "):
        text = re.sub(
            r"0x([89a-f][0-9a-f]{7})\b", lambda m: str(int(m.group(1), 16) - (1 << 32)), text
        )
    text = re.sub(r"^(r\d+ = 0x[0-9a-f]+)$", r"\1 ll", text)
    return common(text)
