"""Independent decoders of call frame information, to hold unwind tables against."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from systemscope.elf.unwind_table import CfaKind, Rule, SaveKind, UnwindTable

K, S = CfaKind, SaveKind
EXPRESSIONS = {K.PLT, K.STACK_DEREF, K.FRAME_DEREF, K.UNSUPPORTED, K.SIGNAL}


class Row(NamedTuple):
    """One row of a decoded table, in readelf's words; fp and ra are "" where it has no column."""

    start: int
    end: int
    cfa: str
    fp: str
    ra: str


def readelf_rows(path: str, section: str = "", readelf: str = "readelf") -> Iterator[Row]:
    """The rows that readelf interprets from .eh_frame (or a section whose name ends so)."""
    command = [readelf, "--debug-dump=frames-interp", "--wide", path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as running:
        assert running.stdout is not None
        yield from parse_readelf(running.stdout, section)


def parse_readelf(lines: Iterable[str], section: str) -> Iterator[Row]:
    rows: list[list[str]] = []
    columns: list[str] = []
    head: list[str] = []
    initial: dict[str, list[list[str]]] = {}  # tables of CIEs, for FDEs that add nothing
    wanted = not section
    for line in lines:
        if line.startswith("Contents of the "):
            wanted = not section or line.split()[3].endswith(section)
        fields = re.sub(r"(r\d+) \(\w+\)", r"\1", line).split()
        if " FDE " in line or " CIE " in line:
            yield from _rows_of(rows, columns, head, initial)
            rows, head = [], fields if wanted else []
        elif fields[:1] == ["LOC"]:
            columns = fields
        elif head and len(fields) == len(columns) and len(fields[0]) == 16:
            rows.append(fields)
    yield from _rows_of(rows, columns, head, initial)


def _rows_of(
    rows: list[list[str]],
    columns: list[str],
    head: list[str],
    initial: dict[str, list[list[str]]],
) -> Iterator[Row]:
    if not head or head[3] == "CIE":
        if head:
            initial[head[0]] = [columns, *rows]
        return
    begin, _, finish = head[-1][3:].partition("..")
    low, high = int(begin, 16), int(finish, 16)
    if not rows and head[4][4:] in initial:
        columns, *rows = initial[head[4][4:]]
        rows = [[begin, *row[1:]] for row in rows[-1:]]
    starts = [int(row[0], 16) for row in rows]
    for row, start, end in zip(rows, starts, [*starts[1:], high]):
        named = dict(zip(columns, row))
        fp = named.get("rbp", named.get("x29", ""))
        if start < end and low <= start < high:
            yield Row(start, min(end, high), named["CFA"], fp, named.get("ra", ""))


def agrees(rule: Rule, row: Row) -> bool:
    """Whether ``rule`` says what readelf says; of expressions it only says that there is one."""
    aarch64 = row.cfa.startswith(("sp", "x"))
    if rule.cfa == K.ENTRY:
        return row.ra == "u"
    if rule.cfa == K.UNSUPPORTED:
        return row.cfa == "exp"
    if rule.cfa == K.SIGNAL:
        return "exp" in (row.cfa, row.ra) or aarch64
    if aarch64 and rule.ra == S.LOST and not row.ra:
        return _cfa_agrees(rule, row.cfa)  # returns through another register: rawmemchr
    return (
        _cfa_agrees(rule, row.cfa)
        and _save_agrees(rule.fp, rule.fp_offset, row.fp)
        and (_save_agrees(rule.ra, rule.ra_offset, row.ra) and (aarch64 or row.ra != "u"))
    )


def _cfa_agrees(rule: Rule, text: str) -> bool:
    if text == "exp":
        return rule.cfa in EXPRESSIONS
    at = max(text.rfind("+"), text.rfind("-"))
    register, offset = text[:at], int(text[at:])
    kinds = {"rsp": K.STACK, "rbp": K.FRAME, "rbx": K.EXTRA, "sp": K.STACK, "x29": K.FRAME}
    return rule.cfa == kinds.get(register, K.REGISTER) and rule.offset == offset


def _save_agrees(kind: int, offset: int, text: str) -> bool:
    if text.startswith("c"):
        return (kind, offset) == (S.AT_CFA, int(text[1:])) or (
            kind in (S.LOST, S.AT_FRAME) and int(text[1:]) not in range(-0x8000, 0x8000)
        )
    if text in ("", "s"):
        return kind == S.SAME
    if text == "u":
        return kind in (S.SAME, S.LOST)
    if text == "r5":  # rdi, where vfork keeps its return address
        return kind == S.IN_REGISTER
    return kind in (S.LOST, S.AT_FRAME)


def compare(table: UnwindTable, rows: Iterator[Row], step: int = 1) -> tuple[int, list[str]]:
    """(how many rows were looked at, descriptions of those that disagree)."""
    seen, wrong = 0, []
    for number, row in enumerate(rows):
        if number % step:
            continue
        seen += 1
        first, last = table.rule_at(row.start), table.rule_at(row.end - 1)
        if first != last or not agrees(first, row):
            wrong.append(f"{row} but {first} .. {last}")
    return seen, wrong
