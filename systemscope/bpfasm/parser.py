"""From the listing back to a program: the inverse of ``listing``, and an assembler of its own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Callable, Optional

from systemscope.bpfasm.assembler import Function
from systemscope.bpfasm.checks import problem_of
from systemscope.bpfasm.flow import check_registers
from systemscope.bpfasm.grammar import instruction
from systemscope.bpfasm.layout import lay_out
from systemscope.bpfasm.lexer import Line, ParseError, Token
from systemscope.bpfasm.render import RawSlot
from systemscope.bpfasm.source import Location
from systemscope.bpfasm.types import (
    AttachType,
    MapFlag,
    MapSpec,
    MapType,
    ProgramFlag,
    ProgramSpec,
    ProgramType,
)

_RAW = re.compile(r"(\s*(?:[0-9]+:\s*)?)\.raw\s+(\S*)\s*(?:;.*)?\Z")


def parse(
    text: str,
    file: str = "listing",
    *,
    maps: Optional[Mapping[str, MapSpec]] = None,
    check: bool = True,
) -> ProgramSpec:
    """The program a listing describes. Its source lines are those of the listing.

    ``maps`` are maps made elsewhere, by the listing's names: a ``.map`` line of the same name adds
    nothing. ``check`` demands what :class:`Assembler` does of each instruction and of registers;
    without it any bytes can be written. Raises :class:`ParseError` with line and column, or
    :class:`AssemblyError` with the line.
    """
    return _Parser(file, dict(maps or {}), check).read(text)


class _Parser:
    def __init__(self, file: str, maps: dict[str, MapSpec], check: bool) -> None:
        self.file, self.check = file, check
        self.given = frozenset(maps)
        self.maps = maps
        self.declared: list[MapSpec] = []
        self.spec = ProgramSpec("program", ProgramType.SOCKET_FILTER, b"")
        # Instructions before the first .function: of the program itself, and no function.
        self.plain = Function("", 1, False, Location(file, 1))
        self.functions: dict[str, Function] = {}
        self.current = self.plain

    def read(self, text: str) -> ProgramSpec:
        """Read every line, then lay the program out."""
        for number, content in enumerate(text.split("\n"), 1):
            raw = _RAW.match(content)
            if raw:
                self._raw(raw, number)
            else:
                self._line(Line(content, self.file, number), Location(self.file, number))
        return self._finish()

    def _finish(self) -> ProgramSpec:
        functions = dict(self.functions)
        if self.plain.insns or self.plain.labels:
            functions = {"": self.plain, **functions}
        if self.check:
            callees = {one.name: one.arguments for one in functions.values() if one.name}
            for one in functions.values():
                name = one.name or self.spec.name
                check_registers(name, one.insns, one.labels, one.arguments, callees)
        spec = self.spec
        laid = lay_out(
            spec.name,
            functions,
            spec.type,
            spec.attach_to,
            spec.attach_type,
            spec.flags,
            spec.isa,
        )
        used = [one for one in laid.maps if one not in self.declared]
        return dataclasses.replace(
            laid,
            subprograms=tuple(one for one in laid.subprograms if one.name),
            maps=(*self.declared, *used),
            license=spec.license,
        )

    # -- lines

    def _line(self, line: Line, where: Location) -> None:
        if line.at("."):
            self._directive(line)
            return
        if line.peek().kind == "number" and line.at(":", 1):
            line.take()
            line.take()
        if line.at(":", 1):
            token = line.peek()
            name = line.name("a label")
            line.expect(":")
            if name in self.current.labels:
                raise line.error(f"label '{name}' stands twice in the function", token)
            self.current.labels[name] = len(self.current.insns)
        if line.peek().kind == "end":
            return
        insn = instruction(line, self.maps)
        insn.location = where
        problem = problem_of(insn, self.spec.isa) if self.check else ""
        if problem:
            raise insn.fail(problem)
        self.current.insns.append(insn)

    def _raw(self, match: re.Match[str], number: int) -> None:
        digits = match.group(2)
        if not re.match(r"[0-9a-fA-F]{16}\Z", digits):
            problem = f"expected 16 hex digits, found '{digits}'"
            raise ParseError(problem, self.file, number, match.start(2) + 1)
        where = Location(self.file, number)
        self.current.insns.append(RawSlot(bytes.fromhex(digits), where))

    def _directive(self, line: Line) -> None:
        line.expect(".")
        known: dict[str, Callable[[Line], None]] = {
            "program": self._program,
            "map": self._map,
            "function": self._function,
        }
        token = line.peek()
        if token.text not in known:
            raise line.expected("one of .program, .map, .function, .raw")
        line.take()
        known[token.text](line)
        line.end()

    def _program(self, line: Line) -> None:
        name = line.name("the program's name")
        values = _settings(line, ("type", "isa", "attach_type", "attach_to", "flags", "license"))
        isa = _number(line, values, "isa", 4)
        if not 1 <= isa <= 4:
            raise line.error(f"ISA level {isa} does not exist (1 to 4)", values["isa"][0])
        spec = dataclasses.replace(self.spec, name=name, isa=isa)
        if "type" in values:
            spec = dataclasses.replace(spec, type=ProgramType(_member(line, values, ProgramType)))
        if "attach_type" in values:
            kind = AttachType(_member(line, values, AttachType, "attach_type"))
            spec = dataclasses.replace(spec, attach_type=kind)
        flags = ProgramFlag(_number(line, values, "flags", 0))
        attach_to, license = (
            str(values.get(key, (None, default))[1])
            for key, default in (("attach_to", ""), ("license", spec.license))
        )
        self.spec = dataclasses.replace(spec, flags=flags, attach_to=attach_to, license=license)

    def _map(self, line: Line) -> None:
        token = line.peek()
        alias = line.name("the map's name")
        known = ("type", "key", "value", "entries", "flags", "name")
        values = _settings(line, known + _INNER)
        if alias in self.given:
            self.declared.append(self.maps[alias])
            return
        if alias in self.maps:
            raise line.error(f"map '{alias}' is declared twice", token)
        for needed in ("type", "key", "value", "entries"):
            if needed not in values:
                raise line.expected(f"{needed}=")
        spec = MapSpec(
            str(values.get("name", (None, alias))[1]),
            MapType(_member(line, values, MapType)),
            _number(line, values, "key", 0),
            _number(line, values, "value", 0),
            _number(line, values, "entries", 0),
            MapFlag(_number(line, values, "flags", 0)),
            _inner(line, values),
        )
        self.maps[alias] = spec
        self.declared.append(spec)

    def _function(self, line: Line) -> None:
        token = line.peek()
        name = line.name("the function's name")
        if name in self.functions:
            raise line.error(f"function '{name}' stands twice", token)
        values = _settings(line, ("arguments",))
        arguments = _number(line, values, "arguments", 0)
        callback = line.accept("callback")
        apart = not callback and line.accept("apart")
        where = Location(self.file, line.line_number)
        self.functions[name] = Function(name, arguments, callback, where, apart)
        self.current = self.functions[name]


_Settings = dict[str, tuple[Token, object]]
_INNER = ("inner", "inner_key", "inner_value", "inner_entries")


def _inner(line: Line, values: _Settings) -> Optional[MapSpec]:
    """What the maps in a map of maps are like."""
    if "inner" not in values:
        return None
    kind = MapType(_member(line, values, MapType, "inner"))
    key, value, entries = (_number(line, values, name, 0) for name in _INNER[1:])
    return MapSpec("inner", kind, key, value, entries)


def _settings(line: Line, keys: tuple[str, ...]) -> _Settings:
    """``key=value`` pairs, each key once; value is a number or a name."""
    found: _Settings = {}
    while line.peek().kind == "word" and line.at("=", 1):
        token = line.take()
        if token.text not in keys or token.text in found:
            wanted = ", ".join(f"{key}=" for key in keys if key not in found)
            raise line.error(f"expected one of {wanted}, found '{token.text}='", token)
        line.expect("=")
        value_token = line.peek()
        is_number = value_token.kind == "number" or value_token.text in ("-", "+")
        value: object = line.number() if is_number else line.name("a value")
        found[token.text] = (value_token, value)
    return found


def _number(line: Line, values: _Settings, key: str, default: int) -> int:
    if key not in values:
        return default
    token, value = values[key]
    if not isinstance(value, int):
        raise line.error(f"expected a number for {key}=, found '{value}'", token)
    return value


def _member(
    line: Line,
    values: _Settings,
    kind: type[MapType] | type[ProgramType] | type[AttachType],
    key: str = "type",
) -> int:
    token, value = values[key]
    if str(value) not in kind.__members__:
        known = ", ".join(kind.__members__)
        raise line.error(f"expected one of {known}, found '{value}'", token)
    return int(kind[str(value)])
