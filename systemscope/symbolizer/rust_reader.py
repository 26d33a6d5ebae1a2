"""The characters of a Rust v0 name: numbers, identifiers, and the text they add up to, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

MAX_TEXT = 16_384
_MAX_DEPTH = 120
_MAX_STEPS = 20_000
_MAX_PUNYCODE = 1_000
_DIGITS = {c: i for i, c in enumerate("0123456789abcdefghijklmnopqrstuvwxyz")}
_DIGITS.update({c: 36 + i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")})


class Malformed(Exception):
    """The name does not follow the grammar, or stands for too much."""


class Reader:
    """Reads the grammar from ``body``, which is what follows ``_R``, and gathers the text."""

    def __init__(self, body: str) -> None:
        self.body = body
        self.position = 0
        self.text: list[str] = []
        self._length = self._depth = self._steps = self.silent = 0

    # -- characters -------------------------------------------------------------------------

    def peek(self) -> str:
        """The next character, "" at the end."""
        return self.body[self.position : self.position + 1]

    def take(self) -> str:
        """The next character, which must be there."""
        character = self.body[self.position]
        self.position += 1
        return character

    def eat(self, character: str) -> bool:
        """Whether ``character`` is next; it is taken then."""
        if self.peek() != character:
            return False
        self.position += 1
        return True

    def put(self, text: str) -> None:
        """Add to the text."""
        if not self.silent:
            self.text.append(text)
            self._length += len(text)
            if self._length > MAX_TEXT:
                raise Malformed

    @contextmanager
    def silence(self) -> Iterator[None]:
        """Read what follows without taking up its text."""
        self.silent += 1
        try:
            yield
        finally:
            self.silent -= 1

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Count a level of nesting, and a step."""
        self._depth += 1
        self._steps += 1
        if self._depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            raise Malformed
        try:
            yield
        finally:
            self._depth -= 1

    # -- numbers and identifiers ------------------------------------------------------------

    def base62(self) -> int:
        """A number: "_" is 0, "0_" is 1."""
        if self.eat("_"):
            return 0
        value = 0
        while not self.eat("_"):
            value = value * 62 + _digit(self.take())
            if value >> 64:
                raise Malformed
        return value + 1

    def optional62(self, tag: str) -> int:
        """0 without ``tag``, else the number behind it plus one."""
        return self.base62() + 1 if self.eat(tag) else 0

    def identifier(self) -> str:
        """One without its disambiguator."""
        punycode = self.eat("u")
        length = _digit(self.take())
        if length > 9:
            raise Malformed
        if length:
            while self.peek().isdigit():
                length = length * 10 + int(self.take())
                if length > len(self.body):
                    raise Malformed
        self.eat("_")
        part = self.body[self.position : self.position + length]
        self.position += length
        if len(part) != length or not all(c.isalnum() or c == "_" for c in part):
            raise Malformed
        return _unpuny(part) if punycode else part

    def hexadecimal(self) -> str:
        """Digits up to a "_"."""
        end = self.body.index("_", self.position)
        digits = self.body[self.position : end]
        self.position = end + 1
        if not all(c in "0123456789abcdef" for c in digits):
            raise Malformed
        return digits


def _digit(character: str) -> int:
    if character not in _DIGITS:
        raise Malformed
    return _DIGITS[character]


def number(digits: str) -> str:
    stripped = digits.lstrip("0")
    return str(int(stripped or "0", 16)) if len(stripped) <= 16 else f"0x{stripped}"


def boolean(digits: str) -> str:
    if digits not in ("0", "1"):
        raise Malformed
    return "true" if digits == "1" else "false"


def character(digits: str) -> str:
    if len(digits) > 8:
        raise Malformed
    return _quoted(chr(int(digits or "0", 16)), "'")


def string(digits: str) -> str:
    return _quoted(bytes.fromhex(digits).decode("utf-8"), '"')


def _quoted(text: str, quote: str) -> str:
    plain = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0", quote: "\\" + quote}
    return (
        quote
        + "".join(
            plain.get(c, c) if c in plain or c.isprintable() else f"\\u{{{ord(c):x}}}" for c in text
        )
        + quote
    )


def _unpuny(part: str) -> str:
    if len(part) > _MAX_PUNYCODE:
        raise Malformed
    ascii_part, separator, rest = part.rpartition("_")
    text = (ascii_part + "-" if separator else "") + rest
    found = text.encode("ascii").decode("punycode")
    if not found.isprintable():
        raise Malformed
    return found
