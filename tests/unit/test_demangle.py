"""Demangled names: against what compilers meant, against other demanglers, against malice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systemscope.symbolizer.demangle import Demangler
from systemscope.symbolizer.rust_legacy import demangle_legacy
from systemscope.symbolizer.rust_v0 import demangle_v0
from systemscope.syscalls import cxxabi
from systemscope.syscalls.cxxabi import CxxDemangler

needs_cxx = pytest.mark.skipif(cxxabi.load_demangler() is None, reason="needs libstdc++")

#: From the rustc book and RFC 2603, and of rustc's own libraries.
V0 = {
    "_RNvCskwGfYPst2Cb_3foo16example_function": "foo::example_function",
    "_RNvCs1234_7mycrate3foo": "mycrate::foo",
    "_RNCNvCs1234_7mycrate3foo0": "mycrate::foo::{closure#0}",
    "_RNCNvCs1234_7mycrate3foos_0": "mycrate::foo::{closure#1}",
    "_RNvMs_Cs1234_7mycrateNtB4_3Foo3bar": "<mycrate::Foo>::bar",
    "_RNvXs_Cs1234_7mycrateNtB4_3FooNtB4_5Trait3bar": "<mycrate::Foo as mycrate::Trait>::bar",
    "_RNvYNtCs1234_7mycrate3FooNtB4_5Trait3bar": "<mycrate::Foo as mycrate::Trait>::bar",
    "_RINvCs1234_7mycrate3foolNtB2_3FooE": "mycrate::foo::<i32, mycrate::Foo>",
    "_RINvCs1234_7mycrate3fooKj7b_E": "mycrate::foo::<123>",
    "_RINvCs1234_7mycrate3fooKan7_E": "mycrate::foo::<-7>",
    "_RINvCs1234_7mycrate3fooKb1_E": "mycrate::foo::<true>",
    "_RINvCs1234_7mycrate3fooKc61_E": "mycrate::foo::<'a'>",
    "_RINvCs1234_7mycrate3fooKRe616263_E": 'mycrate::foo::<"abc">',
    "_RINvCs1234_7mycrate3fooAhj8_SRQhTllETlEE": (
        "mycrate::foo::<[u8; 8], [&&mut u8], (i32, i32), (i32,)>"
    ),
    "_RINvCs1234_7mycrate3fooFUKCPhOhEuE": (
        'mycrate::foo::<unsafe extern "C" fn(*const u8, *mut u8)>'
    ),
    "_RINvCs1234_7mycrate3fooFG_RL0_hEBo_E": "mycrate::foo::<for<'a> fn(&'a u8) -> &'a u8>",
    "_RINvCs1234_7mycrate3fooDNtB2_5TraitEL_E": "mycrate::foo::<dyn mycrate::Trait>",
    "_RINvCs1234_7mycrate3fooDINtB2_5TraithEp4ItemlEL_E": (
        "mycrate::foo::<dyn mycrate::Trait<u8, Item = i32>>"
    ),
    "_RNvNtCs1234_4coreu8gdel_5qa3bar": "core::gödel::bar",
    "_RNvCs1234_7mycrate3foo.llvm.123456": "mycrate::foo",
    "_RNvCs1234_7mycrate3foo.cold": "mycrate::foo.cold",
}  # fmt: skip
LEGACY = {
    "_ZN4core3fmt5write17h0123456789abcdefE": "core::fmt::write",
    "_ZN3foo17h05af221e174051e9E.llvm.1234": "foo",
    "_ZN3foo17h05af221e174051e9E.cold": "foo.cold",
    (
        "_ZN71_$LT$Test$u20$$u2b$$u20$$u27$static$u20$as$u20$foo..Bar$LT$Test$GT$$GT$3bar"
        "17h05af221e174051e9E"
    ): "<Test + 'static as foo::Bar<Test>>::bar",
    "_ZN28_$u7b$$u7b$closure$u7d$$u7d$17h05af221e174051e9E": "{{closure}}",
    "_ZN12test$BP$test4foob17h05af221e174051e9E": "test*test::foob",
}  # fmt: skip


def sequence(number: int) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    text = ""
    while True:
        text = digits[number % 36] + text
        number //= 36
        if not number:
            return text


def bomb(levels: int) -> str:
    """A C++ name that stands for 2 ** levels pairs."""
    pairs = (f"S_IS{sequence(i)}_S{sequence(i)}_E" for i in range(levels))
    return "_Z1f1AIiiE" + "".join(pairs)


@pytest.mark.parametrize("name", V0)
def test_rust_v0(name: str) -> None:
    assert demangle_v0(name) == V0[name]


@pytest.mark.parametrize("name", LEGACY)
def test_rust_legacy(name: str) -> None:
    assert demangle_legacy(name) == LEGACY[name]


@needs_cxx
def test_each_language_by_its_own_rules() -> None:
    with Demangler() as demangler:
        found = demangler.names([*V0, *LEGACY, "_ZN3foo3barEi", "_ZN3foo3barEv.cold", "main", "i"])
        assert demangler.note == ""
    assert {name: found[name] for name in V0} == V0
    assert {name: found[name] for name in LEGACY} == LEGACY
    assert found["_ZN3foo3barEi"] == "foo::bar(int)"
    assert found["_ZN3foo3barEv.cold"] == "foo::bar() [clone .cold]"
    assert "main" not in found and "i" not in found  # "i" is C++'s int: no function


@pytest.mark.parametrize(
    "name",
    [
        "", "_R", "_RN", "_RNv", "_Rxyz", "_RB_", "_RBa_", "_RNvB_3foo", "_RNvCs_3fo", "_RC99999a",
        "_RINvC1a1bKj_E" + "f" * 50, "_RC3f\nb", "_ZN3foo17hzzzzzzzzzzzzzzzzE",
        "_ZN17h0123456789abcdefE",
        "_ZN99foo17h0123456789abcdefE", "_ZN³foo17h0123456789abcdefE", "_RINvC1a1bKc110000_E",
        "_RINvC1a1bKcd800_E", "_RC4u0_-",
    ],
)  # fmt: skip
def test_what_is_no_rust_name(name: str) -> None:
    for found in (demangle_v0(name), demangle_legacy(name)):
        assert found == "" or found.encode("utf-8")  # no lone surrogate


def test_rust_bombs_are_bounded() -> None:
    nested = "_RINvC1a1b" + "R" * 4000 + "hE"
    # Each pair repeats the one before it twice, by back references.
    double, body, last = "", "INvC1a1bThhE", "7"
    for _ in range(60):
        here = len(body)
        body += f"TB{last}_B{last}_E"
        last = number62(here)
    double = "_R" + body + "E"
    began = time.process_time()
    assert demangle_v0(nested) == ""
    assert demangle_v0(double) == ""
    assert time.process_time() - began < 5


def number62(value: int) -> str:
    digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    value -= 1
    text = ""
    while value:
        text = digits[value % 62] + text
        value //= 62
    return text or "0"


@settings(max_examples=400, deadline=None)
@given(st.text("_RNvCsIKBTADFGLEpuj0123459abMXY.$", max_size=60))
def test_arbitrary_rust(text: str) -> None:
    for name in ("_R" + text, "_RNvC1a" + text, "_RINvC1a1b" + text + "E", "_ZN" + text):
        assert len(demangle_v0(name)) <= 20_000
        demangle_legacy(name)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(V0)), st.integers(0, 80), st.characters())
def test_damaged_rust(name: str, position: int, character: str) -> None:
    at = position % len(name)
    found = demangle_v0(name[:at] + character + name[at + 1 :])
    assert isinstance(found, str)


@needs_cxx
def test_a_cxx_bomb_costs_one_name() -> None:
    demangler = CxxDemangler()
    began = time.monotonic()
    found = demangler.demangle(["_ZN1a1bEv", bomb(30), "_ZN1a1cEv", bomb(28), "_ZN1a1dEv"])
    assert found == {"_ZN1a1bEv": "a::b()", "_ZN1a1cEv": "a::c()", "_ZN1a1dEv": "a::d()"}
    assert demangler.problem == "" and time.monotonic() - began < 60
    demangler.demangle([bomb(30 + i) for i in range(10)])
    assert "fails" in demangler.problem
    assert demangler.demangle(["_ZN1a1bEv"]) == {}
    demangler.close()


@needs_cxx
def test_nothing_is_left_behind() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    demangler = CxxDemangler()
    assert demangler.demangle(["_ZN1a1bEv"])
    assert demangler.demangle([]) == {}
    demangler.close()
    assert demangler.demangle(["_ZN1a1bEv"])  # it may be used again
    demangler.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@needs_cxx
def test_a_child_that_dies_or_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cxxabi, "_CHILD", "import time; time.sleep(60)")
    demangler = CxxDemangler(patience_seconds=0.2)
    assert demangler.demangle(["_ZN1a1bEv"]) == {} and demangler.problem
    monkeypatch.setattr(cxxabi, "_CHILD", "raise SystemExit")
    demangler = CxxDemangler()
    assert demangler.demangle(["_ZN1a1bEv"]) == {} and demangler.problem
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    demangler = CxxDemangler()
    assert demangler.demangle(["_ZN1a1bEv"]) == {} and "cannot start" in demangler.problem


@needs_cxx
@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ZNKS01_aIiE3fooTDpLvSt", max_size=40), max_size=8))
def test_arbitrary_cxx(tails: list[str]) -> None:
    with Demangler() as demangler:
        found = demangler.names([f"_Z{tail}" for tail in tails] + ["_ZN1a1bEv"])
    assert found["_ZN1a1bEv"] == "a::b()"


def other_demangler(command: list[str], names: list[str]) -> list[str]:
    text = "".join(f"{name}\n" for name in names)
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def exported(path: str, start: str, limit: int) -> list[str]:
    ran = subprocess.run(["nm", "-D", path], capture_output=True, text=True, check=False)
    words = (line.split()[-1].split("@")[0] for line in ran.stdout.splitlines() if line)
    return sorted({word for word in words if word.startswith(start)})[:limit]


@needs_cxx
@pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs binutils")
def test_agrees_with_binutils_on_libstdcxx() -> None:
    path = next((str(p) for p in Path("/usr/lib").glob("*/libstdc++.so.6")), "")
    names = exported(path, "_Z", 6000) if path else []
    if not names:
        pytest.skip("needs libstdc++ and nm")
    with Demangler() as demangler:
        found = demangler.names(names)
    # -i: "std::string", not "std::basic_string<char, ...>", as the library has it.
    expected = other_demangler(["c++filt", "-i"], names)
    wrong = [(n, e) for n, e in zip(names, expected) if found.get(n, n) != e]
    assert len(wrong) * 500 <= len(names), wrong[:5]


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="needs binutils")
def test_rust_agrees_with_binutils() -> None:
    names = [name for name in V0 if "." not in name]
    expected = other_demangler(["c++filt", "-i", "-s", "rust"], names)
    # Some releases of binutils do not know constants that are text.
    known = [(name, text) for name, text in zip(names, expected) if text != name]
    assert len(known) > 10
    assert [(name, demangle_v0(name)) for name, _ in known] == known
