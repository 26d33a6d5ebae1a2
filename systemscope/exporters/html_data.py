"""The data of an HTML page: one JSON object, written piece by piece.

Columns rather than objects: ``samples.thread[i]``, ``samples.state[i]``, and so on belong together.
Times are split into whole milliseconds (``ms``) and the nanoseconds left (``ns``): the page can add
up either exactly, where a double alone loses nanoseconds beyond 2^53 (104 days of thread time).
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Optional, TextIO

from systemscope.errors import OutputError
from systemscope.exporters.formats import ExportOptions
from systemscope.exporters.html_tables import Frames, Stacks, Strings, bounded_text
from systemscope.exporters.summary import losses, summary_rows
from systemscope.model import DelayKind, Profile, Sample, State, Thread, state_name

_MILLISECOND = 1_000_000
_EXACT = 1 << 53  # integers beyond are not exact in JavaScript
_CHUNK = 8192
_TITLE = 500
_NAME = 200
_KINDS = tuple(DelayKind)


def script_json(value: object) -> str:
    """``value`` as JSON that may stand in a <script> element: ASCII, and no ``<`` to end it."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


class Document:
    """One profile, or two to compare, on its way to a page.

    Two profiles have no threads in common: there, threads of the same name in processes of the same
    name are one row.
    """

    def __init__(self, options: ExportOptions, difference: bool = False) -> None:
        self._options = options
        self._difference = difference
        self._strings = Strings()
        self._frames = Frames(self._strings)
        self._stacks = Stacks(self._frames)
        self._sides: list[dict[str, Any]] = []
        self._processes: dict[object, tuple[int, int, str]] = {}
        self._threads: dict[object, dict[str, Any]] = {}
        self._samples = {
            "side": array("B"),
            "thread": array("I"),
            "state": array("B"),
            "stack": array("I"),
            "ms": array("Q"),
            "ns": array("I"),
            "count": array("Q"),
        }

    def add(self, profile: Profile) -> None:
        """Take ``profile``'s samples, threads and summary in. It must stay alive until written.

        Raises OutputError for a time or count that the page could not show exactly.
        """
        side = len(self._sides)
        self._sides.append(_side(profile))
        stacks: dict[tuple[int, object], int] = {}
        for sample in profile.samples:
            # The symbolizer gives equal stacks one tuple of frames.
            key = (id(sample.frames), sample.gap)
            stack = stacks.get(key)
            if stack is None:
                stack = self._stacks.number(reversed(sample.frames), sample.gap)
                stacks[key] = stack
            self._add_sample(side, sample, stack)
        for thread in profile.capture.threads:
            process = profile.capture.processes.get(thread.tgid)
            self._thread(side, thread, process.comm if process is not None else "")

    def _add_sample(self, side: int, sample: Sample, stack: int) -> None:
        milliseconds, rest = divmod(sample.nanoseconds, _MILLISECOND)
        if not (0 <= milliseconds < _EXACT and 0 <= sample.count < _EXACT):
            raise OutputError(
                f"an html page cannot show {sample.nanoseconds} ns, {sample.count} times",
                "use another format: here, times are 0 to 2^53 ms and counts 0 to 2^53",
            )
        columns = self._samples
        columns["side"].append(side)
        columns["thread"].append(self._thread(side, sample.thread, sample.process_comm))
        columns["state"].append(int(sample.state))
        columns["stack"].append(stack)
        columns["ms"].append(milliseconds)
        columns["ns"].append(rest)
        columns["count"].append(sample.count)

    def _thread(self, side: int, thread: Thread, process_comm: str) -> int:
        """The number of ``thread``, taken in at its first call."""
        name = bounded_text(thread.comm, _NAME)
        process = bounded_text(process_comm, _NAME) or name
        key: object = (process, name) if self._difference else (side, id(thread))
        row = self._threads.get(key)
        if row is None:
            row = self._threads[key] = {
                "number": len(self._threads),
                "process": self._process(thread.tgid, process),
                "tid": thread.tid,
                "name": name,
                "elapsed": [0, 0],
                "flags": int(thread.ran) | int(thread.born) << 1 | int(thread.died) << 2,
                "preempted": 0,
                "delays": None,
                "known": set(),
            }
        if id(thread) not in row["known"]:
            row["known"].add(id(thread))
            row["elapsed"][side] += max(0, thread.elapsed)
            row["preempted"] += thread.preemptions
            row["delays"] = _delays(thread) or row["delays"]
        return int(row["number"])

    def _process(self, tgid: int, name: str) -> int:
        """The number of a process, taken in at the first call."""
        key: object = name if self._difference else tgid
        return self._processes.setdefault(key, (len(self._processes), tgid, name))[0]

    def write(self, stream: TextIO) -> None:
        """Write the object to ``stream``. Raises what the stream raises."""
        tree = self._stacks.tree()
        samples = self._samples
        columns: dict[str, Iterable[int]] = dict(samples)
        columns["node"] = map(tree.node_of.__getitem__, samples["stack"])
        del columns["stack"]
        if not self._difference:
            del columns["side"]
        head = {
            "version": 1,
            "difference": self._difference,
            "options": {
                "perThread": self._options.per_thread,
                "state": self._options.state,
                "normalize": self._options.normalize,
            },
            "sides": self._sides,
            "states": [state_name(state) for state in State],
            "delayKinds": [kind.value for kind in _KINDS],
        }
        stream.write(script_json(head)[:-1])
        _write_array(stream, ',"strings":', map(script_json, self._strings))
        _write_columns(stream, "frames", self._frames.columns)
        _write_columns(stream, "nodes", {"up": tree.up, "frame": tree.frame})
        processes = list(self._processes.values())
        names = {"tgid": [one[1] for one in processes], "name": [one[2] for one in processes]}
        stream.write(f',"processes":{script_json(names)}')
        _write_array(stream, ',"threads":', map(_thread_json, self._threads.values()))
        _write_columns(stream, "samples", columns)
        stream.write("}")


def _write_columns(stream: TextIO, name: str, columns: Mapping[str, Iterable[int]]) -> None:
    stream.write(f',"{name}":')
    opening = "{"
    for column, values in columns.items():
        _write_array(stream, f'{opening}"{column}":', map(str, values))
        opening = ","
    stream.write("}")


def _write_array(stream: TextIO, before: str, items: Iterable[str]) -> None:
    """``before`` and the JSON array of ``items``, which are JSON themselves."""
    stream.write(before + "[")
    rest = iter(items)
    separator = ""
    while True:
        chunk = ",".join(islice(rest, _CHUNK))
        if not chunk:
            break
        stream.write(separator + chunk)
        separator = ","
    stream.write("]")


def _thread_json(row: dict[str, Any]) -> str:
    shown = ("process", "tid", "name", "elapsed", "flags", "preempted", "delays")
    return script_json([row[name] for name in shown])


def _delays(thread: Thread) -> Optional[list[int]]:
    """Count and nanoseconds of each kind of delay in turn; None where there are no accounts."""
    if thread.delays is None:
        return None
    flat: list[int] = []
    for kind in _KINDS:
        delay = thread.delays.get(kind)
        flat += (delay.count, delay.nanoseconds) if delay is not None else (0, 0)
    return flat


def _side(profile: Profile) -> dict[str, Any]:
    """What there is to say of a whole profile, its summary and losses first."""
    capture = profile.capture
    wall_start = capture.wall_start if math.isfinite(capture.wall_start) else 0.0
    return {
        "command": bounded_text(capture.command, _TITLE),
        "host": bounded_text(capture.hostname, _NAME),
        "kernel": bounded_text(capture.kernel, _NAME),
        "start": wall_start,
        "window": max(0, capture.end - capture.start),
        "event": bounded_text(capture.event, _NAME),
        "frequency": capture.frequency,
        "summary": _bounded_rows(summary_rows(capture, notes=profile.notes, verbose=True)),
        "losses": losses(capture.losses),
    }


def _bounded_rows(rows: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [[what, bounded_text(words, _TITLE)] for what, words in rows]
