"""The profile that tools.bench writes in every format."""

from __future__ import annotations

import io

import pytest

from systemscope.exporters.formats import ExportOptions, Format, formats
from tools.bench.encode import bare_message, synthetic


def test_its_stacks_are_distinct_and_its_threads_add_up() -> None:
    made = synthetic(500)
    assert len({sample.frames for sample in made.samples}) == 500
    for thread in made.capture.threads:
        mine = [s.nanoseconds for s in made.samples if s.thread is thread]
        assert sum(mine) == sum(thread.time.values()) == thread.elapsed
    for entry, sample in zip(made.capture.entries, made.samples):
        stack = made.capture.stacks[entry.stack]
        assert (*stack.kernel, *stack.user) == tuple(f.address for f in sample.frames)


@pytest.mark.parametrize(
    "form", [one for one in formats() if not one.timeline], ids=lambda one: one.name
)
def test_every_format_writes_it(form: Format) -> None:
    stream = io.BytesIO()
    form.write_bytes(synthetic(50), stream, ExportOptions())
    assert stream.getvalue()


def test_the_bare_message() -> None:
    stream = io.BytesIO()
    bare_message(synthetic(50), stream)
    assert stream.getvalue()
