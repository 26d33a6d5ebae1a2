"""Words, numbers and signs of a listing, one line at a time, with their columns."""

from __future__ import annotations

import json
import re
from typing import NamedTuple, Optional

from systemscope.bpfasm.errors import AssemblyError
from systemscope.bpfasm.syntax import WORD

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+)
      | (?P<comment>;.*)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>(?:0x[0-9a-fA-F]+|[0-9]+)(?![A-Za-z0-9_]))
      | (?P<sign>s>>=|s>=|s<=|s/=|s%=|s>|s<|<<=|>>=|[-+*/|&%^=!<>]=|[-+*/&<>=()\[\],:\#.])
      | (?P<word>"""
    + WORD
    + ")",
    re.VERBOSE,
)
_REGISTER = re.compile(r"([rw])([0-9]+)\Z")


class ParseError(AssemblyError):
    """A listing that cannot be read: ``file``, ``line``, ``column`` (from 1), what was expected."""

    def __init__(self, problem: str, file: str, line: int, column: int) -> None:
        super().__init__(problem, file, line)
        self.message = f"{file}:{line}:{column}: {problem}"
        self.remedy = ""
        self.column = column


class Token(NamedTuple):
    """``kind`` is word, string, number, sign or end."""

    kind: str
    text: str
    column: int


class Register(NamedTuple):
    """A register as written: its number and whether as 64-bit r or 32-bit w."""

    number: int
    wide: bool


class Line:
    """The tokens of one line, read from left to right."""

    def __init__(self, text: str, file: str, number: int) -> None:
        self.file, self.line_number = file, number
        self.tokens = self._split(text)
        self.position = 0

    def _split(self, text: str) -> list[Token]:
        tokens, at = [], 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                problem = f"expected an instruction, label or directive, found {text[at]!r}"
                raise ParseError(problem, self.file, self.line_number, at + 1)
            kind = str(match.lastgroup)
            if kind not in ("space", "comment"):
                tokens.append(Token(kind, match.group(), at + 1))
            at = match.end()
        tokens.append(Token("end", "", len(text) + 1))
        return tokens

    # -- looking

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or the one ``ahead`` of it; the end stays the end."""
        return self.tokens[min(self.position + ahead, len(self.tokens) - 1)]

    def at(self, text: str, ahead: int = 0) -> bool:
        """True when the next token is this word or sign."""
        token = self.peek(ahead)
        return token.text == text and token.kind in ("word", "sign")

    def at_register(self, ahead: int = 0) -> bool:
        """True when the next token names a register, existing or not."""
        token = self.peek(ahead)
        return token.kind == "word" and _REGISTER.match(token.text) is not None

    # -- taking

    def take(self) -> Token:
        """The next token, gone past."""
        token = self.peek()
        self.position += 1
        return token

    def accept(self, text: str) -> bool:
        """Go past this word or sign if it is next."""
        if not self.at(text):
            return False
        self.position += 1
        return True

    def expect(self, text: str) -> None:
        """Go past this word or sign, which must be next."""
        if not self.accept(text):
            raise self.expected(f"'{text}'")

    def end(self) -> None:
        """Nothing may follow."""
        if self.peek().kind != "end":
            raise self.expected("the end of the line")

    def name(self, what: str) -> str:
        """A bare word or a JSON string."""
        token = self.peek()
        if token.kind == "string":
            self.take()
            try:
                return str(json.loads(token.text))
            except ValueError:
                raise self.error(f"{token.text} is no JSON string", token) from None
        if token.kind != "word" or self.at_register():
            raise self.expected(what)
        return self.take().text

    def number(self, what: str = "a number") -> int:
        """A number with an optional sign."""
        negative = self.accept("-")
        if not negative:
            self.accept("+")
        token = self.peek()
        if token.kind != "number":
            raise self.expected(what)
        self.take()
        value = int(token.text, 16 if token.text.startswith("0x") else 10)
        return -value if negative else value

    def displacement(self) -> int:
        """A number that must carry its sign, as in ``pc+5`` or ``(r1 +8)``."""
        if not (self.at("+") or self.at("-")):
            raise self.expected("'+' or '-'")
        return self.number()

    def register(self, what: str = "a register", wide: Optional[bool] = None) -> Register:
        """r0-r10 or w0-w10; ``wide`` demands one of the two."""
        if not self.at_register():
            raise self.expected(what)
        token = self.take()
        match = _REGISTER.match(token.text)
        assert match is not None
        found = Register(int(match.group(2)), match.group(1) == "r")
        if found.number > 10:
            raise self.error(f"there is no register {token.text}", token)
        if wide is not None and found.wide != wide:
            wanted = ("r" if wide else "w") + match.group(2)
            raise self.error(f"expected a register of {64 if wide else 32} bits ({wanted})", token)
        return found

    # -- complaining

    def expected(self, what: str) -> ParseError:
        """The error that the next token is not ``what``."""
        token = self.peek()
        found = "the end of the line" if token.kind == "end" else f"'{token.text}'"
        return self.error(f"expected {what}, found {found}", token)

    def error(self, problem: str, token: Token) -> ParseError:
        """``problem`` at ``token``."""
        return ParseError(problem, self.file, self.line_number, token.column)
