"""Probe definitions in a tracefs made of plain files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from systemscope.bpf.kprobe_events import Probe
from systemscope.errors import KernelError

DEAD = 1 << 30  # beyond any pid


def tracefs(path: Path, symbol: str) -> Path:
    """A directory with the files a probe on ``symbol`` needs."""
    event = path / "events" / "systemscope" / f"p_{symbol}_0_{os.getpid()}"
    event.mkdir(parents=True)
    (event / "id").write_text("1234\n")
    (path / "kprobe_events").write_text("")
    return path


def definitions(path: Path) -> list[str]:
    return (path / "kprobe_events").read_text().splitlines()


def test_a_probe_is_defined_read_and_removed(tmp_path: Path) -> None:
    root = tracefs(tmp_path, "finish_task_switch_isra_0")
    probe = Probe(str(root), "finish_task_switch.isra.0", 0, False)
    assert probe.id == 1234
    name = f"systemscope/p_finish_task_switch_isra_0_0_{os.getpid()}"
    assert definitions(root) == [f"p:{name} finish_task_switch.isra.0"]
    probe.remove()
    assert definitions(root)[-1] == f"-:{name}"


def test_definitions_of_the_dead_are_removed_and_no_others(tmp_path: Path) -> None:
    root = tracefs(tmp_path, "schedule")
    (root / "kprobe_events").write_text(
        f"p:systemscope/p_schedule_0_{DEAD} schedule\n"
        f"p:systemscope/p_schedule_0_{os.getppid()} schedule\n"
        f"p:kprobes/p_schedule_0_{DEAD} schedule\n"
    )
    Probe(str(root), "schedule", 0, False)
    assert [line for line in definitions(root) if line.startswith("-")] == [
        f"-:systemscope/p_schedule_0_{DEAD}"
    ]


def test_offsets_and_return_probes(tmp_path: Path) -> None:
    root = tracefs(tmp_path, "x")
    (root / "events" / "systemscope" / f"r_schedule_8_{os.getpid()}").mkdir()
    (root / "events" / "systemscope" / f"r_schedule_8_{os.getpid()}" / "id").write_text("7")
    assert Probe(str(root), "schedule", 8, True).id == 7
    assert definitions(root) == [f"r:systemscope/r_schedule_8_{os.getpid()} schedule+8"]


def test_a_probe_without_an_id_is_taken_back(tmp_path: Path) -> None:
    root = tracefs(tmp_path, "other")
    with pytest.raises(KernelError) as caught:
        Probe(str(root), "schedule", 0, False)
    assert caught.value.errno == errno.ENOENT
    assert definitions(root)[-1].startswith("-:systemscope/p_schedule_0_")


def test_without_kprobe_events_the_error_names_the_function(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="schedule"):
        Probe(str(tmp_path / "nowhere"), "schedule", 0, False)
