"""Rust's newer mangling, "v0": names that begin with ``_R``.

Source: Rust RFC 2603 and the rustc book, "v0 Symbol Format". Crate hashes and the types of
constants are left out. A name may refer back to parts of itself, so what one stands for can be far
longer than the name: text, nesting and steps are bounded.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Callable, Optional, TypeVar

from systemscope.symbolizer.rust_reader import (
    Malformed,
    Reader,
    boolean,
    character,
    number,
    string,
)

_Result = TypeVar("_Result")
#: A mark of link-time optimisation, which says nothing to people.
_LLVM = re.compile(r"\.llvm\.[0-9A-Fa-f]+(?=\.|$)")

BASIC = {
    "a": "i8", "b": "bool", "c": "char", "d": "f64", "e": "str", "f": "f32", "h": "u8",
    "i": "isize", "j": "usize", "l": "i32", "m": "u32", "n": "i128", "o": "u128", "p": "_",
    "s": "i16", "t": "u16", "u": "()", "v": "...", "x": "i64", "y": "u64", "z": "!",
}  # fmt: skip
_UNSIGNED, _SIGNED = frozenset("htmyoj"), frozenset("aslxni")


def demangle_v0(name: str) -> str:
    """What ``name`` stands for; "" if it is no such name."""
    if not name.startswith("_R") or not name[2:3].isupper() or not name.isascii():
        return ""
    body, dot, suffix = name[2:].partition(".")
    reader = _Grammar(body)
    try:
        reader.path(value=True)
        if reader.peek().isupper():  # the crate that instantiated a generic function
            with reader.silence():
                reader.path(value=False)
        rest = body[reader.position :]
    except (Malformed, IndexError, ValueError, OverflowError, RecursionError):
        return ""
    if rest and not rest.startswith("$"):
        return ""
    return "".join(reader.text) + rest + _LLVM.sub("", dot + suffix)


class _Grammar(Reader):
    """The productions of the grammar; what each reads becomes text."""

    def __init__(self, body: str) -> None:
        super().__init__(body)
        self._lifetimes = 0  # named by the binders around

    def path(self, value: bool, keep_open: bool = False) -> bool:
        """A path. ``value`` says it is an expression, whose generic arguments follow "::".
        ``keep_open`` leaves the bracket of generic arguments open; the result says it is."""
        with self.deeper():
            tag = self.take()
            if tag == "C":
                self.optional62("s")
                self.put(self.identifier())
            elif tag == "N":
                self._nested(value)
            elif tag in "MXY":
                self._implementation(tag)
            elif tag == "I":
                self.path(value)
                self.put("::<" if value else "<")
                self._list(self._argument)
                if keep_open:
                    return True
                self.put(">")
            elif tag == "B":
                return self._back(lambda: self.path(value, keep_open)) or False
            else:
                raise Malformed
            return False

    def _nested(self, value: bool) -> None:
        space = self.take()
        if not space.isalpha():
            raise Malformed
        self.path(value)
        number = self.optional62("s")
        name = self.identifier()
        if space.isupper():
            kind = {"C": "closure", "S": "shim"}.get(space, space)
            self.put(f"::{{{kind}{':' if name else ''}{name}#{number}}}")
        elif name:
            self.put(f"::{name}")

    def _implementation(self, tag: str) -> None:
        if tag != "Y":
            self.optional62("s")
            with self.silence():
                self.path(value=False)
        self.put("<")
        self.type()
        if tag != "M":
            self.put(" as ")
            self.path(value=False)
        self.put(">")

    def _argument(self) -> None:
        if self.eat("L"):
            self._lifetime(self.base62())
        elif self.eat("K"):
            self.constant(inside=False)
        else:
            self.type()

    def _list(self, item: Callable[[], object], separator: str = ", ") -> int:
        count = 0
        while not self.eat("E"):
            if count:
                self.put(separator)
            item()
            count += 1
        return count

    def _back(self, read: Callable[[], _Result]) -> Optional[_Result]:
        """Read what the name has at an earlier place, if its text is wanted."""
        here = self.position - 1
        target = self.base62()
        if target >= here:
            raise Malformed
        if self.silent:
            return None
        behind, self.position = self.position, target
        result = read()
        self.position = behind
        return result

    def _lifetime(self, index: int) -> None:
        depth = self._lifetimes - index
        if depth < 0 and not self.silent:
            raise Malformed
        if not index:
            self.put("'_")
        else:
            self.put(f"'{chr(ord('a') + depth)}" if depth < 26 else f"'_{depth}")

    def _binder(self, read: Callable[[], object]) -> None:
        """``read`` below the lifetimes that a ``for<'a>`` names, if there is one."""
        count = self.optional62("G")
        if count > 100:
            raise Malformed
        if count:
            self.put("for<")
            for number in range(count):
                self.put(", " if number else "")
                self._lifetimes += 1
                self._lifetime(1)
            self.put("> ")
        read()
        self._lifetimes -= count

    def type(self) -> None:
        """A type, which may be a path."""
        with self.deeper():
            tag = self.take()
            if tag in BASIC:
                self.put(BASIC[tag])
            elif tag in "RQ":
                self._reference(tag)
            elif tag in "PO":
                self.put("*const " if tag == "P" else "*mut ")
                self.type()
            elif tag in "AS":
                self._sequence(tag)
            elif tag == "T":
                self.put("(")
                self.put(",)" if self._list(self.type) == 1 else ")")
            elif tag == "F":
                self._binder(self._function)
            elif tag == "D":
                self._dynamic()
            elif tag == "B":
                self._back(self.type)
            else:
                self.position -= 1
                self.path(value=False)

    def _reference(self, tag: str) -> None:
        self.put("&")
        if self.eat("L"):
            lifetime = self.base62()
            if lifetime:
                self._lifetime(lifetime)
                self.put(" ")
        self.put("mut " if tag == "Q" else "")
        self.type()

    def _sequence(self, tag: str) -> None:
        self.put("[")
        self.type()
        if tag == "A":
            self.put("; ")
            self.constant(inside=True)
        self.put("]")

    def _function(self) -> None:
        self.put("unsafe " if self.eat("U") else "")
        if self.eat("K"):
            abi = "C" if self.eat("C") else self.identifier().replace("_", "-")
            self.put(f'extern "{abi}" ')
        self.put("fn(")
        self._list(self.type)
        self.put(")")
        if not self.eat("u"):
            self.put(" -> ")
            self.type()

    def _dynamic(self) -> None:
        self.put("dyn ")
        self._binder(lambda: self._list(self._trait, " + "))
        if not self.eat("L"):
            raise Malformed
        lifetime = self.base62()
        if lifetime:
            self.put(" + ")
            self._lifetime(lifetime)

    def _trait(self) -> None:
        opened = self.path(value=False, keep_open=True)
        while self.eat("p"):
            self.put(", " if opened else "<")
            opened = True
            self.put(f"{self.identifier()} = ")
            self.type()
        self.put(">" if opened else "")

    # -- constants --------------------------------------------------------------------------

    def constant(self, inside: bool) -> None:
        """A constant; what is no single word gets braces, unless it stands ``inside`` another."""
        with self.deeper():
            tag = self.take()
            if tag == "p":
                self.put("_")
            elif tag in _UNSIGNED or tag in _SIGNED:
                self.put("-" if tag in _SIGNED and self.eat("n") else "")
                self.put(number(self.hexadecimal()))
            elif tag in "bc":
                self.put(
                    boolean(self.hexadecimal()) if tag == "b" else character(self.hexadecimal())
                )
            elif tag == "B":
                self._back(lambda: self.constant(inside))
            elif tag == "R" and self.eat("e"):
                self.put(string(self.hexadecimal()))
            else:
                self.put("" if inside else "{")
                self._structure(tag)
                self.put("" if inside else "}")

    def _structure(self, tag: str) -> None:
        item: Callable[[], object] = partial(self.constant, inside=True)
        if tag == "e":
            self.put("*" + string(self.hexadecimal()))
        elif tag in "RQ":
            self.put("&" if tag == "R" else "&mut ")
            item()
        elif tag == "A":
            self.put("[")
            self._list(item)
            self.put("]")
        elif tag == "T":
            self.put("(")
            self.put(",)" if self._list(item) == 1 else ")")
        elif tag == "V":
            self.path(value=True)
            self._fields(item)
        else:
            raise Malformed

    def _fields(self, item: Callable[[], object]) -> None:
        kind = self.take()
        if kind == "T":
            self.put("(")
            self._list(item)
            self.put(")")
        elif kind == "S":
            self.put(" { ")
            self._list(self._named_field)
            self.put(" }")
        elif kind != "U":
            raise Malformed

    def _named_field(self) -> None:
        self.optional62("s")
        self.put(f"{self.identifier()}: ")
        self.constant(inside=True)
