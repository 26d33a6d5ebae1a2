"""Option values: what is taken, and what a refusal says."""

from __future__ import annotations

import pytest

from systemscope.cli import values
from systemscope.errors import UsageError
from systemscope.model import State


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("5", 5 * 10**9), ("0.5", 5 * 10**8), (".001", 10**6), ("2.", 2 * 10**9), ("1.5", 15 * 10**8)],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert values.duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "nan", "inf", "1e3", "5s", " 5", "5\n", "٣", "9" * 40, "0.0001", "1,5"]
)
def test_bad_durations(text: str) -> None:
    with pytest.raises(UsageError, match="--duration") as caught:
        values.duration_ns(text)
    assert caught.value.remedy


def test_min_block_takes_zero() -> None:
    assert values.min_block_ns("0") == 1
    assert values.min_block_ns("1000") == 1_000_000
    assert values.min_block_ns("0.5") == 500


def test_ids() -> None:
    assert values.id_list("--pid", "3, 1,3") == (3, 1)
    for bad in ("", ",", "1,", "0", "-5", "x", "1 2", "5000000", "1.5"):
        with pytest.raises(UsageError):
            values.id_list("--pid", bad)


def test_frequency_and_the_kernels_limit() -> None:
    assert values.frequency("999", 0) == 999
    assert values.frequency("999", 999) == 999
    with pytest.raises(UsageError, match="limit of 100") as caught:
        values.frequency("999", 100)
    assert "perf_event_max_sample_rate=999" in caught.value.remedy
    for bad in ("0", "10001", "99.5", "-1", ""):
        with pytest.raises(UsageError):
            values.frequency(bad, 0)


def test_cpu_lists() -> None:
    assert values.cpu_list("0-2,5,1", (0, 1, 2, 3, 5)) == (0, 1, 2, 5)
    assert values.cpu_list("3", ()) == (3,)
    for bad in ("", "a", "1-", "-1", "2-1", "1--2", "0-99999999999", "0x1"):
        with pytest.raises(UsageError):
            values.cpu_list(bad, ())
    with pytest.raises(UsageError, match="CPU 4, which is not online") as caught:
        values.cpu_list("1-9", (0, 1, 2, 3, 7))
    assert "0-3,7" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1048576", 1 << 20),
        ("2048k", 2 << 20),
        ("64M", 64 << 20),
        ("1g", 1 << 30),
        ("4GiB", 4 << 30),
        ("5MB", 5 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert values.size_bytes("--unwind-memory", text, 1 << 20, 4 << 30) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "512k", "5G", "-1M", "1.5G", "64 M", "64Mi", "64MM", "9B", "M", "9" * 40, "٣M"],
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError, match=r"--unwind-memory .* not a size from 1M to 4G") as caught:
        values.size_bytes("--unwind-memory", text, 1 << 20, 4 << 30)
    assert "64M" in caught.value.remedy


def test_states() -> None:
    assert values.state_list("running,[Sleeping]") == {State.RUNNING, State.SLEEPING}
    with pytest.raises(UsageError) as caught:
        values.state_list("asleep")
    assert "sleeping" in caught.value.remedy


def test_words() -> None:
    assert values.word("--comm", "ng*x") == "ng*x"
    for bad in ("", "a\nb", "\x1b"):
        with pytest.raises(UsageError):
            values.word("--comm", bad)
