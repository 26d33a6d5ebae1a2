"""A verifier rejection told in the Python lines that emitted the program."""

from __future__ import annotations

import errno
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Optional

from systemscope.bpfasm.types import ProgramSpec, SourceLine

# "17: (95) exit", with the register state after ';' at log level 2.
_INSN = re.compile(r"^(\d{1,7}): (\([0-9a-f]{2}\) .*?)(?:\s*;.*)?$")
# Register states, notes and sums, which are never the reason.
_NOISE = re.compile(
    r"^(?:processed \d|verification time|stack depth|insns? |peak_states|max_states|"
    r"mark_precise|from \d+ to \d+|propagating|last_idx|parent |regs=|func#\d+ @|\d+: R\d|; |"
    r"arg#\d+ reference type|Live regs before insn|\s*\d+: [.\d]{10} |Func#\d+ |"
    r"Validating |caller:|callee:|returning from|frame\d+:|(?:frame\d+: )?R\d+(?:_\w+)?=)"
)
# Where the control-flow check names the instruction instead of printing it.
_NAMED = re.compile(r"(?:insn|instruction|from insn|at insn|insn_idx|code at) (\d{1,7})(?!\d)")
_SLOT_BYTES = 8


@dataclass(frozen=True)
class Rejection:
    """Why the verifier refused: its ``message``, the slot it stood on and that slot's text.

    ``instruction`` is None when the log names none; ``omitted`` counts the log's other lines.
    """

    message: str
    instruction: Optional[int]
    text: str
    omitted: int


def parse(log: str) -> Rejection:
    """The reason in a verifier's log of any kernel; hostile or cut text gives an empty message."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    instruction: Optional[int] = None
    text = ""
    message = ""
    for line in lines:
        match = _INSN.match(line)
        if match:
            instruction, text = int(match.group(1)), match.group(2).strip()
        elif not _NOISE.match(line):
            message = line.strip()
    named = _NAMED.search(message)
    if named and not text:
        instruction = int(named.group(1))
    shown = (1 if message else 0) + (1 if text else 0)
    return Rejection(message, instruction, text, len(lines) - shown)


def source_line(spec: ProgramSpec, slot: int) -> Optional[SourceLine]:
    """The Python line that emitted the instruction at ``slot``."""
    lines = sorted(spec.lines, key=lambda line: line.index)
    position = bisect_right([line.index for line in lines], slot)
    return lines[position - 1] if position else None


def explain(spec: ProgramSpec, number: int, log: str) -> str:
    """The rejection in a few lines: program, errno, reason, Python line, instruction."""
    rejection = parse(log)
    name = errno.errorcode.get(number, str(number))
    reason = rejection.message or "the verifier gave no reason"
    told = [f"the kernel rejected program '{spec.name}' ({name}): {reason}"]
    slot = rejection.instruction
    line = source_line(spec, slot) if slot is not None else None
    if line is not None:
        told.append(f"  {line.file}:{line.line}   {line.text.strip()}")
    if slot is not None:
        text = rejection.text or _opcode(spec, slot)
        told.append(f"    insn {slot}: {text}")
    if rejection.omitted:
        lines = "line" if rejection.omitted == 1 else "lines"
        told.append(f"  ({rejection.omitted} verifier {lines} omitted; --verifier-log shows them)")
    return "\n".join(told)


def _opcode(spec: ProgramSpec, slot: int) -> str:
    """The instruction's bytes, when the log does not show it."""
    raw = spec.code[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES]
    return f"({raw[0]:02x}) bytes {raw.hex()}" if raw else "(beyond the program's end)"
