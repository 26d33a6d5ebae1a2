"""One capture named where it was made, and again from its file: the same names."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

import systemscope
from systemscope.collectors.request import Request
from systemscope.collectors.wallclock import collect
from systemscope.exporters.formats import ExportOptions, by_name
from systemscope.model import FrameKind, Profile
from systemscope.processes.files import FileStore
from systemscope.symbolizer import symbolize
from systemscope.symbolizer.facts import gather_facts, kernel_build_id
from tests.e2e.support import Workload

pytestmark = pytest.mark.kernel


def folded(profile: Profile) -> list[str]:
    stream = io.BytesIO()
    options = ExportOptions(per_thread=True, annotate=True)
    by_name("folded").write_bytes(profile, stream, options)
    return stream.getvalue().decode().splitlines()


def test_names_from_the_file_are_those_given_at_once(binaries: Path, tmp_path: Path) -> None:
    with Workload(binaries / "four") as four, FileStore() as files:
        request = Request(pids=(four.pid,), duration_ns=1_000_000_000)
        capture = collect(request, lambda: False, None, None, files)
        facts = gather_facts(capture, files.open)
        at_once = symbolize(capture, opener=files.open)
    assert facts.build_ids and facts.kernel_symbols
    assert facts.kernel_build_id == kernel_build_id()
    unnamed = Profile(replace(capture, facts=facts))
    systemscope.write(unnamed, tmp_path / "a.ssc")
    again = systemscope.load(tmp_path / "a.ssc")
    assert folded(again) == folded(at_once)
    for one, other in zip(again.samples, at_once.samples):
        assert one.frames == other.frames
    kernel = {f.name for s in again.samples for f in s.frames if f.kind is FrameKind.KERNEL}
    assert "schedule" in kernel


def test_a_profile_without_names_has_facts(tmp_path: Path) -> None:
    profile = systemscope.profile(command=["sleep", "0.3"], names=False)
    assert profile.samples == []
    assert profile.capture.facts is not None
    systemscope.write(profile, tmp_path / "a.ssc")
    named = systemscope.load(tmp_path / "a.ssc")
    slept = [s for s in named.samples if any("nanosleep" in f.name for f in s.frames)]
    assert sum(sample.nanoseconds for sample in slept) > 250_000_000
