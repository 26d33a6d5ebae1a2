"""doctor's report on machines that are not this one."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Optional

import pytest

from systemscope.cli.doctor_cmd import Report, make_report
from systemscope.cli.exit_codes import ExitCode
from systemscope.collectors.unwind_method import unwind_method
from systemscope.kernel.capabilities import Capabilities, Examination, probes
from systemscope.kernel.privileges import Privileges, SeccompMode
from systemscope.kernel.probing import Finding
from systemscope.programs.config import Loop, UnwindConfig

ALL = (1 << 41) - 1


def _examination(
    effective: int = ALL, clock: Optional[Finding] = None, uid: int = 0
) -> Examination:
    """A kernel without anything, where the timer event answers ``clock``."""
    findings = {one.field: Finding.no("EINVAL") for one in probes()}
    findings["tracefs"] = Finding.unsure("EPERM", "")
    findings["perf_cpu_clock"] = clock or Finding.yes()
    facts = replace(
        Capabilities(release="4.9.0", arch="x86_64"),
        perf_cpu_clock=findings["perf_cpu_clock"].available,
        root=uid == 0,
    )
    rights = Privileges(effective, uid, True, SeccompMode.FILTER, False)
    return Examination(facts, findings, rights)


def _json(report: Report) -> dict[str, object]:
    loaded = json.loads(json.dumps(report.as_json()))
    assert isinstance(loaded, dict)
    return loaded


def test_a_kernel_with_nothing() -> None:
    report = make_report(_examination())
    text = "\n".join(report.lines())
    assert report.code == ExitCode.KERNEL
    assert "Profiling is NOT possible here" in text
    assert "seccomp filter" in text
    assert "costs:" in text and "do:" in text
    assert "1 questions found no answer here" in text
    plain = _json(report)
    assert plain["possible"] is False
    assert plain["reason"] and plain["strategy"] == {}


def test_no_rights() -> None:
    report = make_report(_examination(effective=0, uid=1000))
    assert report.code == ExitCode.PERMISSION
    assert "sudo" in report.verdict.remedy
    assert "uid 1000; no capability that matters here" in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("clock", "code"),
    [
        (Finding.unsure("EACCES: kernel.perf_event_paranoid is 3"), ExitCode.PERMISSION),
        (Finding.no("ENOENT"), ExitCode.KERNEL),
        (Finding.yes(), ExitCode.OK),
    ],
)
def test_a_kernel_whose_only_doubt_is_perf(
    monkeypatch: pytest.MonkeyPatch, clock: Finding, code: ExitCode
) -> None:
    from systemscope.collectors import plan
    from systemscope.programs.config import Hook, StackTable, Storage, Walk

    config = SimpleNamespace(
        hook=Hook.TRACEPOINT,
        walk=Walk.SWITCH_OUT,
        storage=Storage.HASH,
        stack_table=StackTable.STACK_ID,
        unwind=UnwindConfig(loop=Loop.TAIL_CALLS),
    )
    made = SimpleNamespace(config=config, seed_iterator=False, wait_iterator=False, notes=("x",))
    monkeypatch.setattr(plan, "make_plan", lambda capabilities, request: made)
    report = make_report(_examination(clock=clock))
    assert report.code == code
    assert clock.detail in report.verdict.reason if report.code else not report.verdict.reason
    assert report.strategy["scheduler"] == "tracepoint"
    assert report.strategy["stacks of waits"] == "switch-out"
    assert "note: x" in "\n".join(report.lines())
    assert report.strategy["user stacks"].startswith("by unwind tables (tail calls): ")


@pytest.mark.parametrize(
    ("loop", "missing"),
    [
        (Loop.CALLBACK, ""),
        (Loop.BOUNDED, "bpf_loop, Linux 5.17"),
        (Loop.TAIL_CALLS, "a loop, Linux 5.3"),
    ],
)
def test_the_way_to_unwind_and_what_a_better_one_needs(loop: Loop, missing: str) -> None:
    told = unwind_method(UnwindConfig(loop=loop))
    assert told.startswith(f"by unwind tables ({loop.value}): ")
    assert missing in told and "\n" not in told
    assert ("missing" in told) == bool(missing)
    assert unwind_method(None) == "by frame pointers only"


def test_every_feature_is_told() -> None:
    report = make_report(_examination())
    features = _json(report)["features"]
    assert isinstance(features, list)
    names = [one["name"] for one in features]
    assert names == [one.field for one in probes() if one.field != "memlock_charged"]
    for one in features:
        assert one["state"] in ("available", "missing", "inconclusive")
        assert bool(one["cost"]) == (one["state"] != "available")
    text = "\n".join(report.lines())
    assert all(one["title"] in text for one in features)
