"""Rust's older mangling: C++'s nested names with a hash as the last part.

Source: rustc_symbol_mangling, ``legacy.rs``, and the escapes of its ``sanitize()``.
"""

from __future__ import annotations

import re

_HASH = re.compile(r"17h[0-9a-f]{16}E")
#: What a symbol may carry behind its name: ".llvm.1234", ".cold", ".isra.0".
_SUFFIX = re.compile(r"(?:\.llvm\.[0-9A-Fa-f]+)?((?:\.[A-Za-z0-9_.$]+)?)$")
_ESCAPE = re.compile(r"\$(SP|BP|RF|LT|GT|LP|RP|C|u[0-9a-f]{1,6})\$|\.\.")
_MEANS = {"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}
_MAX_PARTS = 512


def demangle_legacy(name: str) -> str:
    """The path in ``name`` without its hash; "" if it is no such name."""
    found = _HASH.search(name)
    if not name.startswith("_ZN") or found is None:
        return ""
    suffix = _SUFFIX.match(name, found.end())
    if suffix is None:
        return ""
    parts: list[str] = []
    position = 3
    while position < found.start() and len(parts) < _MAX_PARTS:
        digits = position
        while name[digits : digits + 1].isdigit() and digits - position < 5:
            digits += 1
        if digits == position or not name[position:digits].isascii():
            return ""
        end = digits + int(name[position:digits])
        if end > found.start() or end == digits:
            return ""
        parts.append(_plain(name[digits:end]))
        position = end
    return "::".join(parts) + suffix[1] if parts and position == found.start() else ""


def _plain(part: str) -> str:
    if part.startswith("_$"):
        part = part[1:]
    return _ESCAPE.sub(_meaning, part)


def _meaning(match: re.Match[str]) -> str:
    code = match[1]
    if code is None:
        return "::"
    if not code.startswith("u"):
        return _MEANS[code]
    number = int(code[1:], 16)
    character = chr(number) if number < 0x110000 else ""
    return character if character.isprintable() and character else match[0]
