"""A third reader, where it can read: capstone knows ISA v1 and v2, and no pseudo sources."""

from __future__ import annotations

import re

import pytest

from tests.unit.asm_oracles import Case, corpus

capstone = pytest.importorskip("capstone")

_UNKNOWN = re.compile(r"call (pc|kfunc)|r1 = (map_fd|map_value|btf_id|func) ")
CASES = [case for case in corpus() if case.level <= 2 and not _UNKNOWN.match(case.text)]

_ALU = {"+=": "add", "-=": "sub", "*=": "mul", "/=": "div", "|=": "or", "&=": "and", "%=": "mod"}
_ALU.update({"^=": "xor", "=": "mov", "<<=": "lsh", ">>=": "rsh", "s>>=": "arsh"})
_JUMPS = {"==": "jeq", "!=": "jne", "&": "jset", ">": "jgt", ">=": "jge", "<": "jlt", "<=": "jle"}
_JUMPS.update({f"s{sign}": f"js{name[1:]}" for sign, name in _JUMPS.items() if sign[0] in "<>"})
_SIZES = {"u8": "b", "u16": "h", "u32": "w", "u64": "dw"}
_NUMBER = r"(-?(?:0x[0-9a-f]+|\d+))"


def _hex(text: str, bits: int) -> str:
    """Capstone prints immediates and offsets as unsigned numbers of their field's width."""
    return f"{int(text, 0) & (1 << bits) - 1:#x}"


def _operand(text: str) -> str:
    return text.replace("w", "r") if text[0] in "rw" else _hex(text, 32)


def _in_capstone(text: str) -> str:
    """Our text in capstone's syntax."""
    match = re.match(r"([rw])(\d+) (\S*=) (\S+)$", text)
    if match and match.group(3) in _ALU and not re.match(r"-[rw]", match.group(4)):
        width = "64" if match.group(1) == "r" else ""
        name = _ALU[match.group(3)] + width
        return f"{name} r{match.group(2)}, {_operand(match.group(4))}"
    match = re.match(r"if (r\d+) (\S+) (\S+) goto pc([+-]\d+)$", text)
    if match:
        target = _hex(match.group(4), 16)
        return f"{_JUMPS[match.group(2)]} {match.group(1)}, {_operand(match.group(3))}, +{target}"
    place = re.compile(r"\*\((\w+) \*\)\((r\d+) ([+-]\d+)\)")
    match = place.search(text)
    if match:
        size = _SIZES[match.group(1)]
        where = f"[{match.group(2)}+{_hex(match.group(3), 16)}]"
        if text.startswith("lock"):
            return f"xadd{size} {where}, {text.rsplit(' ', 1)[1]}"
        if match.start():
            return f"ldx{size} {text.split(' ')[0]}, {where}"
        value = text.rsplit(" ", 1)[1]
        return f"{'stx' if value[0] == 'r' else 'st'}{size} {where}, {_operand(value)}"
    rules = (
        (r"([rw])(\d+) = -[rw]\d+$", lambda m: f"neg{'64' if m[1] == 'r' else ''} r{m[2]}"),
        (r"(r\d+) = ([bl]e\d+) r\d+$", lambda m: f"{m[2]} {m[1]}"),
        (
            rf"r0 = \*\((\w+) \*\)skb\[{_NUMBER}\]$",
            lambda m: f"ld{_SIZES[m[1]]} [{_hex(m[2], 32)}]",
        ),
        (
            r"r0 = \*\((\w+) \*\)skb\[(r\d+) \+(\d+)\]$",
            lambda m: f"ld{_SIZES[m[1]]} [{m[2]}+{_hex(m[3], 32)}]",
        ),
        (r"goto pc\+(\d+)$", lambda m: f"jmp +{_hex(m[1], 16)}"),
        (r"call \w+#(\d+)$", lambda m: f"call {_hex(m[1], 32)}"),
        (r"(r\d+) = (0x\w+) ll$", lambda m: f"lddw {m[1]}, {m[2]}"),
        (r"exit$", lambda m: "exit"),
    )
    for pattern, render in rules:
        match = re.match(pattern, text)
        if match:
            return str(render(match))
    raise AssertionError(f"no capstone form for {text!r}")


def test_most_of_the_old_levels_are_covered() -> None:
    assert len(CASES) == 102


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_capstone_reads_it_alike(case: Case) -> None:
    mode = capstone.CS_MODE_BPF_EXTENDED | capstone.CS_MODE_LITTLE_ENDIAN
    (insn,) = capstone.Cs(capstone.CS_ARCH_BPF, mode).disasm(case.code, 0)
    assert f"{insn.mnemonic} {insn.op_str}".strip() == _in_capstone(case.text)
