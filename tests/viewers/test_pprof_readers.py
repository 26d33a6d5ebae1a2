"""pprof files in two more readers that others wrote, and one real run read by all of them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from systemscope.exporters.folded import FoldedOptions
from systemscope.exporters.folded import write as write_folded
from systemscope.importers.pprof import read
from systemscope.model import State
from tests.e2e.support import Workload, parse_folded
from tests.viewers.browser import in_speedscope, pprof_format, refuse, require
from tests.viewers.test_pprof import MS, four, run, saved
from tests.workloads.build import NoCompiler, build

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SUMS = Path(__file__).with_name("pprof_sums.cjs")


def in_node(file: str) -> dict[str, Any]:
    """What the npm package pprof-format reads of ``file``."""
    argv = [require("node"), str(SUMS), str(pprof_format()), file]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    got: dict[str, Any] = json.loads(ran.stdout)
    return got


def test_pprof_format_agrees(tmp_path: Path) -> None:
    made = four()
    got = in_node(saved(made, tmp_path / "a.pb.gz"))
    wall, cpu = got["types"].index("wall/nanoseconds"), got["types"].index("cpu/nanoseconds")
    assert {key: int(sums[wall]) for key, sums in got["sums"].items() if int(sums[wall])} == {
        "11 running": 60 * MS,
        "11 runnable": 30 * MS,
        "11 disk": 10 * MS,
        "12 sleeping": 40 * MS,
    }
    assert sum(int(sums[cpu]) for sums in got["sums"].values()) == 60 * MS
    assert got["stacks"][:2] == [["inner", "work", "main"], ["[not sampled]"]]
    assert "command: make all" in got["comments"]


def test_speedscope_agrees(browser: Browser, tmp_path: Path) -> None:
    file = Path(saved(four(), tmp_path / "a.pb.gz"))
    with in_speedscope(browser, file) as opened:
        [only] = opened.profiles
        assert not opened.tab.errors
    assert (only.unit, only.total) == ("nanoseconds", 140 * MS)
    assert only.roots == {"main": 90 * MS, "[not sampled]": 10 * MS, "nap": 40 * MS}
    # Of a location's several lines speedscope shows the outermost function alone.
    assert only.leaves["work"] == 80 * MS and only.leaves["schedule"] == 40 * MS


@pytest.mark.kernel
def test_a_real_run_is_the_same_to_all(browser: Browser, tmp_path: Path) -> None:
    from systemscope import api

    try:
        program = build() / "four"
    except NoCompiler as error:
        refuse(str(error))
    with Workload(program) as workload:
        made = api.profile(pid=workload.pid, duration=2)
    file = saved(made, tmp_path / "four.pb.gz")
    expected = Counter[str]()
    for sample in made.samples:
        expected[f"{sample.thread.tid} {sample.state.name.lower()}"] += sample.nanoseconds
    for thread in made.capture.threads:
        ours = sum(ns for key, ns in expected.items() if key.startswith(f"{thread.tid} "))
        assert ours == sum(thread.time.values())
    _node_agrees(file, expected)
    _go_agrees(file, expected)
    _folded_agrees(made, expected)
    with open(file, "rb") as stream:
        again = read(stream)
    assert [(s.state, s.nanoseconds, s.count, s.gap) for s in again.samples] == [
        (s.state, s.nanoseconds, s.count, s.gap) for s in made.samples
    ]
    with in_speedscope(browser, Path(file)) as opened:
        [only] = opened.profiles
    assert only.total == sum(expected.values())
    burning = sum(s.nanoseconds for s in made.samples if s.state is State.RUNNING)
    assert burning > 0 and "burn_until_stopped" in run("-top", "-sample_index=cpu", file)


def _node_agrees(file: str, expected: Counter[str]) -> None:
    got = in_node(file)
    wall = got["types"].index("wall/nanoseconds")
    assert {key: int(sums[wall]) for key, sums in got["sums"].items()} == expected


def _go_agrees(file: str, expected: Counter[str]) -> None:
    """-raw prints each sample's values in full, and its labels."""
    report = run("-raw", file)
    wall = report.split("Samples:\n")[1].split("\n")[0].split().index("wall/nanoseconds[dflt]")
    got = Counter[str]()
    ns = 0
    text = report.split("Samples:\n")[1].split("Locations\n")[0]
    tid = ""
    state = ""
    for line in text.split("\n")[1:]:
        values = re.match(r"^ *(\d[\d ]*):", line)
        if values:
            ns = int(values[1].split()[wall])
        state = (re.search(r"\bstate:\[(\w+)\]", line) or ["", state])[1]
        found = re.search(r"\btid:\[(\d+)\]", line)
        if found:  # numeric labels come last
            tid = found[1]
            got[f"{tid} {state}"] += ns
    assert got == expected


def _folded_agrees(made: Any, expected: Counter[str]) -> None:
    stream = io.StringIO()
    write_folded(made, stream, FoldedOptions(per_thread=True))
    got = Counter[str]()
    for line in parse_folded(stream.getvalue()):
        got[f"{line.tid} {line.state}"] += line.microseconds
    for key, ns in expected.items():
        assert abs(got[key] - ns / 1000) <= len(made.samples) / 2 + 1, key
    for thread in made.capture.threads:
        folded = sum(us for key, us in got.items() if key.startswith(f"{thread.tid} "))
        assert abs(folded * 1000 - sum(thread.time.values())) <= 500


def test_the_command_line_writes_it(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        refuse("needs root")
    path = tmp_path / "x.pb.gz"
    words = [
        "-m",
        "systemscope",
        "oncpu",
        "-q",
        "-o",
        str(path),
        "--",
        "python3",
        "-c",
        "sum(range(10**7))",
    ]
    subprocess.run([sys.executable, *words], check=True, timeout=60)
    report = run("-top", str(path))
    assert "Type: cpu" in report and "python3" in report
