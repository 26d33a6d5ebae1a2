"""``systemscope disasm`` shows what this kernel would be given, and the kernel reads it alike."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from systemscope.bpf.map import Map
from systemscope.bpf.program import Program
from systemscope.bpfasm.listing import instructions
from systemscope.bpfasm.parser import parse
from systemscope.bpfasm.types import ProgramType
from systemscope.cli.disasm_cmd import programs_here
from systemscope.collectors.request import Request
from systemscope.errors import UsageError
from tests.unit.asm_oracles import common, from_verifier

pytestmark = pytest.mark.kernel

_PRINTED = re.compile(r"^(\d+): \(([0-9a-f]{2})\) (.*?)(?:\s*;.*)?$", re.MULTILINE)


def _disasm(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "systemscope", "disasm", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_as_a_user_runs_it() -> None:
    listed = _disasm("--list")
    assert (listed.returncode, listed.stderr) == (0, "")
    names = [line.split()[1] for line in listed.stdout.splitlines()[1:-1]]
    assert {"sched_switch", "oncpu_sampler"} <= set(names)
    one = _disasm("oncpu_sampler")
    assert one.returncode == 0
    assert parse(one.stdout).name == "oncpu_sampler"
    assert "; programs/sampler.py:" in one.stdout
    wrong = _disasm("no_such_program")
    assert wrong.returncode == 2
    assert "there is no program 'no_such_program'" in wrong.stderr
    assert all(name in wrong.stderr for name in names)


def test_features_done_without_change_the_programs() -> None:
    plain = {spec.name: spec.type for spec in programs_here(Request())}
    assert plain["oncpu_sampler"] is ProgramType.PERF_EVENT
    names = {spec.name for spec in programs_here(Request(), ["task_iterator"])}
    assert names < set(plain)
    with pytest.raises(UsageError, match="'task_iterater' is no kernel feature") as caught:
        programs_here(Request(), ["task_iterater"])
    assert "did you mean 'task_iterator'?" in caught.value.remedy


def test_the_verifier_prints_the_sampler_as_we_list_it() -> None:
    (spec,) = (one for one in programs_here(Request()) if one.name == "oncpu_sampler")
    maps = {one: Map.create(one) for one in spec.maps}
    try:
        log = Program.verify_log(spec, maps)
    finally:
        for one in maps.values():
            one.close()
    printed = {int(slot): words for slot, _, words in _PRINTED.findall(log)}
    compared = 0
    for slot, text in instructions(spec):
        if slot not in printed or re.search(r"map\[| func |^call pc", text):
            continue  # an address or a branch never taken
        if printed[slot].strip().startswith("call pc"):
            continue  # a function, which we call by its name
        ours = re.sub(r"(goto|gotol) L\d+$", r"\1 ", common(text))
        theirs = re.sub(r"(goto|gotol) pc[+-]\d+$", r"\1 ", from_verifier(printed[slot]))
        assert ours == theirs
        compared += 1
    assert compared > len(instructions(spec)) * 0.8
