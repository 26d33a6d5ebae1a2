"""Programs with debug information, and other readers of it to hold ours against."""

from __future__ import annotations

import posixpath
import random
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Optional

from systemscope.elf import ElfImage, Location, SymbolResolver

#: (function, path of the file, line), innermost first, as an oracle tells it; "" and 0: not known.
Told = list[tuple[str, str, int]]

C_SOURCE = """
#include <stdio.h>
#include <stdlib.h>
struct pair { int first, second; };
static inline __attribute__((always_inline)) int deep(int x) { return x * x + getchar(); }
static inline __attribute__((always_inline)) int middle(int x) {
    int sum = 0;
    for (int i = 0; i < x; i++) {
        struct pair p = { deep(i), deep(i + 1) };
        if (p.first > p.second)
            sum += deep(p.first);
        else
            sum -= p.second;
    }
    return sum;
}
static __attribute__((noinline)) int compare(const void *a, const void *b) {
    return middle(*(const int *)a) - middle(*(const int *)b);
}
int __attribute__((cold, noinline)) failing(int x) { fprintf(stderr, "%d", x); return middle(x); }
int unused(int x) { return deep(x) / 3; }
int main(int argc, char **argv) {
    int numbers[] = { 3, 1, argc, 2 };
    qsort(numbers, 4, sizeof numbers[0], compare);
    if (argc > 100)
        return failing(argc);
    return middle(numbers[0]) + middle(argc);
}
"""

CXX_SOURCE = """
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>
namespace deep { namespace {
template <class T, int N> struct Stack {
    T items[N]; int used = 0;
    void push(T item) { if (used < N) items[used++] = item; }
    template <class F> auto fold(F f) const {
        T sum{};
        for (int i = 0; i < used; i++) sum = f(sum, items[i]);
        return sum;
    }
};
struct Shape { virtual ~Shape() {} virtual double area() const = 0; };
struct Square : Shape {
    double side;
    explicit Square(double s) : side(s) {}
    double area() const override { return side * side; }
};
} }
int work(int count) {
    deep::Stack<int, 64> stack;
    std::map<std::string, std::vector<int>> table;
    for (int i = 0; i < count; i++) {
        stack.push(std::rand());
        table[std::to_string(i % 7)].push_back(i);
    }
    for (auto &entry : table)
        std::sort(entry.second.begin(), entry.second.end(),
                  [](int a, int b) { return a % 5 < b % 5; });
    std::function<int(int)> f = [&](int x) {
        return stack.fold([x](int a, int b) { return a + b * x; });
    };
    struct Local { int value; int twice() const { return value * 2 + std::rand(); } };
    return f(3) + Local{count}.twice();
}
int main(int argc, char **argv) {
    deep::Shape *shape = new deep::Square(argc);
    try { if (work(argc) == 12345) throw argc; } catch (int x) { return x; }
    return static_cast<int>(shape->area());
}
"""


def build(directory: Path, name: str, flags: Sequence[str], source: str = C_SOURCE) -> Path:
    """The program made of ``source`` with ``flags``; raises CalledProcessError where the compiler
    does not take them."""
    cxx = "#include <algorithm>" in source
    path = directory / f"{name}.{'cc' if cxx else 'c'}"
    path.write_text(source)
    program = directory / name
    compiler = "c++" if cxx else "cc"
    command = [compiler, "-O2", "-Wl,--build-id", *flags, "-o", str(program), str(path)]
    subprocess.run(command, check=True, capture_output=True, cwd=directory)
    return program


def code_addresses(image: ElfImage, count: int) -> list[int]:
    """Random addresses in .text that a symbol covers: padding between functions never runs."""
    text = image.section(".text")
    assert text is not None
    symbols = SymbolResolver(image)
    picked = random.Random(text.size)
    every = [text.address + picked.randrange(text.size) for _ in range(count)]
    return sorted({address for address in every if symbols.resolve(address)})


def addr2line(path: Path, addresses: Iterable[int]) -> Optional[dict[int, Told]]:
    """What binutils tells, None where it is not installed."""
    if shutil.which("addr2line") is None:
        return None
    words = "\n".join(map(hex, addresses)) + "\n"
    command = ["addr2line", "-afi", "-e", str(path)]
    output = subprocess.run(command, input=words, capture_output=True, text=True, check=True).stdout
    found: dict[int, Told] = {}
    for block in re.split(r"^(?=0x[0-9a-f]{16}$)", output, flags=re.MULTILINE)[1:]:
        lines = block.splitlines()
        found[int(lines[0], 16)] = _pairs(lines[1:])
    return found


def llvm_symbolizer(path: Path, addresses: Iterable[int]) -> Optional[dict[int, Told]]:
    """What LLVM tells, None where it is not installed."""
    tool = shutil.which("llvm-symbolizer-19") or shutil.which("llvm-symbolizer")
    if tool is None:
        return None
    addresses = list(addresses)
    command = [tool, "--inlines", "--no-demangle", "-e", str(path)]
    words = "\n".join(map(hex, addresses)) + "\n"
    output = subprocess.run(command, input=words, capture_output=True, text=True, check=True).stdout
    blocks = output.split("\n\n")
    return {
        address: _pairs([line for line in block.splitlines() if line])
        for address, block in zip(addresses, blocks)
    }


def _pairs(lines: list[str]) -> Told:
    return [
        ("" if name == "??" else name.split("@")[0], *_place(place))
        for name, place in zip(lines[::2], lines[1::2])
    ]


def _place(text: str) -> tuple[str, int]:
    text = re.sub(r" \(discriminator \d+\)", "", text)
    found = re.fullmatch(r"(.*?):(\d+|\?)(?::\d+)?", text)
    assert found is not None, text
    file, line = found.groups()
    return ("" if file == "??" else posixpath.normpath(file)), (int(line) if line != "?" else 0)


def told_by_us(locations: Iterable[Location]) -> Told:
    """Our answer in the form of an oracle's."""
    return [(x.name, posixpath.normpath(x.file) if x.file else "", x.line) for x in locations]


def disagreement(ours: Told, theirs: Told) -> str:
    """In what our answer differs, "" where not. The function itself we call by its symbol: an
    oracle may use another one of its names, without the end that tells of a clone."""
    if len(ours) != len(theirs):
        return f"{len(ours)} frames, not {len(theirs)}"
    for index, (one, other) in enumerate(zip(ours, theirs)):
        if index < len(ours) - 1 and one[0] != other[0]:
            return f"{one[0]}, not {other[0]}"
        if one[1:] != other[1:]:
            return f"{one[1]}:{one[2]}, not {other[1]}:{other[2]}"
    return ""
