"""Switching capabilities off, what refusals mean, and the registry of questions."""

from __future__ import annotations

import errno
from dataclasses import fields, replace

import pytest

from systemscope.kernel.capabilities import (
    LEGACY_4_9,
    RESTS_ON,
    Capabilities,
    probes,
    switchable,
)
from systemscope.kernel.probing import Finding, State

FACTS = {f.name for f in fields(Capabilities)} - set(switchable())


def everything() -> Capabilities:
    """A kernel that has it all."""
    on = {
        f.name: True
        for f in fields(Capabilities)
        if isinstance(f.default, bool) and f.name not in FACTS
    }
    return replace(
        Capabilities(),
        **on,  # type: ignore[arg-type]
        isa=4,
        max_instructions=1_000_000,
        tracefs="/sys/kernel/tracing",
        finish_task_switch="finish_task_switch.isra.0",
        pid_max=32768,
        arch="x86_64",
    )


def test_one_is_switched_off_alone() -> None:
    changed = everything().without("ring_buffer")
    assert changed == replace(everything(), ring_buffer=False)


def test_nothing_is_switched_off() -> None:
    assert everything().without() == everything()


def test_what_rests_on_it_goes_with_it() -> None:
    left = everything().without("btf")
    for name in (
        *("btf", "tp_btf", "sched_exit_tp", "task_iterator", "sleepable_iterator"),
        *("copy_from_user_task", "task_storage", "get_task_stack", "task_pt_regs"),
    ):
        assert not getattr(left, name), name
    assert left.raw_tracepoint
    assert left.tracepoint
    assert everything().without("tracefs").tracepoint is False
    assert everything().without("kprobe").finish_task_switch == ""


@pytest.mark.parametrize("name", switchable())
def test_dependencies_hold_after_any_switch(name: str) -> None:
    left = everything().without(name)
    for field, needs in RESTS_ON.items():
        assert not getattr(left, field) or all(getattr(left, need) for need in needs)


def test_numbers_are_limited() -> None:
    assert everything().without("isa>2").isa == 2
    assert everything().without("isa>1", "isa>3").isa == 1
    assert everything().without("isa").isa == 1
    assert everything().without("isa>3", "isa").isa == 1
    assert everything().without("isa>0").isa == 1, "never below what every kernel has"
    assert everything().without("max_instructions>4096").max_instructions == 4096
    assert replace(everything(), isa=2).without("isa>3").isa == 2, "a limit gives nothing"


@pytest.mark.parametrize(
    "name",
    ["", "nothing", "lockdown", "root", "pid_max", "btf>1", "isa>", "isa>x", "isa>-1", "tracefs>1"],
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(ValueError, match="not a capability"):
        everything().without(name)


def test_linux_4_9_is_left() -> None:
    left = everything().without(*LEGACY_4_9)
    on = {f.name for f in fields(left) if getattr(left, f.name) is True}
    assert on == {"tracepoint", "perf_cycles", "perf_cpu_clock", "kallsyms", "tail_calls"}
    assert (left.isa, left.max_instructions) == (1, 4095)
    assert left.tracefs == "/sys/kernel/tracing"
    assert left.finish_task_switch == ""
    assert left.pid_max == 32768, "facts stay"


def test_nothing_is_the_default() -> None:
    assert everything().without(*switchable()) == replace(
        Capabilities(), pid_max=32768, arch="x86_64"
    )


def test_every_capability_has_its_question() -> None:
    asked = [one.field for one in probes()]
    assert len(asked) == len(set(asked))
    assert set(asked) == set(switchable()) | {"memlock_charged"}
    for one in probes():
        assert one.title and one.since and one.missing and one.remedy, one.field


def test_a_question_follows_those_it_builds_on() -> None:
    order = [one.field for one in probes()]
    for field, needs in RESTS_ON.items():
        for need in needs:
            assert order.index(need) < order.index(field), (need, field)


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (errno.EINVAL, State.MISSING),
        (errno.EACCES, State.MISSING),
        (errno.E2BIG, State.MISSING),
        (errno.ENOSYS, State.MISSING),
        (524, State.MISSING),
        (errno.EPERM, State.INCONCLUSIVE),
        (errno.ENOMEM, State.INCONCLUSIVE),
        (errno.EMFILE, State.INCONCLUSIVE),
        (errno.EAGAIN, State.INCONCLUSIVE),
    ],
)
def test_what_a_refusal_means(number: int, state: State) -> None:
    finding = Finding.refused(number, "why")
    assert finding.state is state
    assert not finding.available
    assert finding.value is False
    assert "why" in finding.detail
