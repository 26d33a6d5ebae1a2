"""``systemscope disasm`` without a kernel: the table, the listings, the refusals."""

from __future__ import annotations

import io
import re

import pytest

from systemscope.bpfasm.parser import parse
from systemscope.bpfasm.types import ProgramSpec
from systemscope.cli import disasm_cmd
from systemscope.errors import UsageError
from systemscope.programs import lifecycle, sampler, switch
from systemscope.programs.config import ProgramConfig
from systemscope.programs.maps import profiler_maps


@pytest.fixture(scope="module")
def specs() -> list[ProgramSpec]:
    """Some of the real programs, for a kernel with everything."""
    config = ProgramConfig()
    maps = profiler_maps(config)
    return [
        lifecycle.sched_process_exit(config, maps),
        switch.sched_switch(config, maps),
        sampler.oncpu_sampler(config, maps),
    ]


def _shown(specs: list[ProgramSpec], **options: object) -> str:
    stream = io.StringIO()
    disasm_cmd.show(specs, stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def test_the_table_counts(specs: list[ProgramSpec]) -> None:
    lines = _shown(specs, table_only=True).splitlines()
    assert len(lines) == 1 + len(specs) + 1
    assert lines[0].split()[1:] == [
        "program",
        "type",
        "attached",
        "to",
        "slots",
        "functions",
        "maps",
    ]
    for spec, line in zip(specs, lines[1:]):
        words = line.split()[1:]
        assert (words[0], words[3]) == (spec.name, str(spec.slots))
    assert lines[-1].split()[1:3] == ["total", str(sum(spec.slots for spec in specs))]


def test_all_programs_are_shown(specs: list[ProgramSpec]) -> None:
    text = _shown(specs)
    assert re.findall(r"^\.program (\w+)", text, re.MULTILINE) == [spec.name for spec in specs]
    assert text.startswith("; program")


def test_one_program_reads_back_with_its_source(specs: list[ProgramSpec]) -> None:
    spec = specs[1]
    text = _shown(specs, program=spec.name)
    assert parse(text).code == spec.code
    comments = re.findall(r"^; (\S+):\d+  ", text, re.MULTILINE)
    assert "programs/switch.py" in comments
    plain = _shown(specs, program=spec.name, source=False)
    assert ";" not in plain
    assert parse(plain).code == spec.code


def test_an_unknown_program_names_those_there_are(specs: list[ProgramSpec]) -> None:
    with pytest.raises(UsageError, match="there is no program 'sched_swich'") as caught:
        _shown(specs, program="sched_swich")
    assert "did you mean 'sched_switch'?" in caught.value.remedy
    assert caught.value.remedy.endswith(", ".join(spec.name for spec in specs))


def test_help_needs_no_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    assert disasm_cmd.run(["--help"]) == 0
    assert "systemscope disasm [options] [<program>]" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--nothing"], ["one", "two"], ["--without"]])
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError):
        disasm_cmd.run(words)
