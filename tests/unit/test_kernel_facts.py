"""CPU lists, rights, settings and symbols, from text."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemscope.kernel.cpus import MAX_CPUS, parse_cpu_list
from systemscope.kernel.privileges import (
    Capability,
    Privileges,
    SeccompMode,
    parse_lockdown,
    parse_status,
    read_text,
    sysctl,
)
from systemscope.kernel.symbols import find_symbol, kallsyms_readable


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0\n", (0,)),
        ("0-3\n", (0, 1, 2, 3)),
        ("0-1,4,6-7\n", (0, 1, 4, 6, 7)),
        ("3,1,1-2", (1, 2, 3)),
        ("", ()),
        ("\n", ()),
    ],
)
def test_cpu_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        *("a", "1-", "-1", "1--2", "3-1", "1,,2", "0x1", "1 2", "+1", "٣", "0-3:2/4"),
        *(f"0-{MAX_CPUS}", "99999999999999999999", "0," * 8 * MAX_CPUS),
    ],
)
def test_strange_cpu_lists(text: str) -> None:
    with pytest.raises(ValueError):
        parse_cpu_list(text)


def _rights(effective: int, initial: bool = True) -> Privileges:
    return Privileges(effective, 1000, initial, SeccompMode.DISABLED, False)


def test_capabilities_are_bits_of_the_mask() -> None:
    rights = _rights(1 << 38 | 1 << 39)
    assert rights.has(Capability.BPF)
    assert rights.has(Capability.PERFMON)
    assert not rights.has(Capability.SYS_ADMIN)


def test_a_user_namespace_gives_nothing() -> None:
    assert not _rights((1 << 64) - 1, initial=False).has(Capability.BPF)


def test_status_lines() -> None:
    text = (
        "Name:\tx\\nCapEff:\t1\nState:\tR (running)\nCapEff:\t000001ffffffffff\nodd\nCapEff:\t0\n"
    )
    fields = parse_status(text)
    assert fields["CapEff"] == "000001ffffffffff"
    assert fields["State"] == "R (running)"
    assert "odd" not in fields


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("none [integrity] confidentiality\n", "integrity"),
        ("[none] integrity confidentiality\n", "none"),
        ("", ""),
        ("none\n", ""),
    ],
)
def test_lockdown(text: str, mode: str) -> None:
    assert parse_lockdown(text) == mode


def test_absent_settings_have_a_default(tmp_path: Path) -> None:
    assert sysctl("kernel/there_is_no_such_setting", -7) == -7
    assert read_text(str(tmp_path / "absent")) == ""
    assert read_text(str(tmp_path)) == "", "a directory is no text"


KALLSYMS = """\
ffffffff81000000 T _text
ffffffff810a0000 t finish_task_switcher
ffffffff810a0100 t finish_task_switch.cold
ffffffff810a0200 d finish_task_switch
ffffffff810a0300 t {}
ffffffff810a0400 T schedule
"""


@pytest.mark.parametrize(
    "name",
    [
        "finish_task_switch",
        "finish_task_switch.isra.0",
        "finish_task_switch.constprop.0",
        "finish_task_switch.isra.0.constprop.12",
    ],
)
def test_the_compilers_spelling(tmp_path: Path, name: str) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS.format(name))
    assert find_symbol("finish_task_switch", str(path)) == name


@pytest.mark.parametrize(
    "name",
    ["finish_task_switch.cold", "finish_task_switch\t[module]", "finish_task_switch.isra", "x"],
)
def test_what_is_not_the_function(tmp_path: Path, name: str) -> None:
    path = tmp_path / "kallsyms"
    path.write_text(KALLSYMS.format(name))
    assert find_symbol("finish_task_switch", str(path)) == ""


def test_a_symbol_across_blocks(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    filler = "".join(f"ffffffff8100{n:04x} t symbol_{n}\n" for n in range(30_000))
    path.write_text(filler + "ffffffff81ffffff t wanted.isra.0\n" + "x" * 5000)
    assert find_symbol("wanted", str(path)) == "wanted.isra.0"
    assert find_symbol("unwanted", str(path)) == ""
    assert find_symbol("wanted", str(tmp_path / "absent")) == ""


def test_hidden_addresses(tmp_path: Path) -> None:
    path = tmp_path / "kallsyms"
    path.write_text("0000000000000000 T _text\n0000000000000000 T schedule\n")
    assert not kallsyms_readable(str(path))
    path.write_text(KALLSYMS)
    assert kallsyms_readable(str(path))
    assert not kallsyms_readable(str(tmp_path / "absent"))
