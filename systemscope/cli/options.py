"""The options of a profiling command, read and checked: what to collect, select and write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

from systemscope.cli import values
from systemscope.cli.destination import choose_format, fit, is_special, refuse_states
from systemscope.cli.lines import Lines, read_lines
from systemscope.cli.naming import Naming, read_naming
from systemscope.cli.profile_usage import usage
from systemscope.cli.usage import parse
from systemscope.collectors.request import (
    DEFAULT_FREQUENCY,
    DEFAULT_MIN_BLOCK_NS,
    DEFAULT_UNWIND_BYTES,
    MAX_STACK_DEPTH,
    MAX_UNWIND_BYTES,
    MIN_UNWIND_BYTES,
    Request,
    Unwind,
    usual_cache_directory,
)
from systemscope.errors import UsageError
from systemscope.exporters.formats import ExportOptions, Format, formats
from systemscope.model.filters import IdleThreads, Selection, ThreadKind
from systemscope.model.states import BLOCKED_STATES, State

OFF_CPU = BLOCKED_STATES | {State.RUNNABLE}


@dataclass(frozen=True)
class Options:
    """Everything a profiling command was told."""

    command: str
    request: Request
    selection: Selection
    format: Format
    export: ExportOptions
    naming: Naming
    path: str  # "" is standard output
    quiet: bool
    verbose: bool
    verifier_log: bool
    lines: Lines = Lines()


def read_options(command: str, arguments: Sequence[str]) -> Options:
    """Read the words after ``systemscope COMMAND``. Raises UsageError and usage.HelpShown."""
    parsed = parse(usage(command, tuple(one.name for one in formats())), command, arguments)
    given = parsed.options
    if parsed.rest is not None and not parsed.rest:
        raise UsageError("there is no command after '--'", "add one, as in: -- sleep 1")
    _refuse_conflicts(given, parsed.rest)
    path = "" if given["-o"] in (None, "-") else values.word("-o", given["-o"])
    form = choose_format(given["--output"] or "", path)
    request = _request(command, given, parsed.rest or (), form, path)
    return Options(
        command=command,
        request=request,
        selection=_selection(command, given, request.system_wide),
        format=form,
        export=fit(
            ExportOptions(
                per_thread=given["--per-thread"],
                state=not given["--no-state"],
                annotate=given["--annotate"],
                min_slice_ns=_min_slice_ns(given["--min-slice"]),
            ),
            path,
        ),
        naming=read_naming(given),
        path=path,
        quiet=given["--quiet"],
        verbose=given["--verbose"],
        verifier_log=given["--verifier-log"],
        lines=read_lines(given, form.names),
    )


def _refuse_conflicts(given: dict[str, Any], command: Optional[tuple[str, ...]]) -> None:
    for one, other in (
        ("--user-stacks-only", "--kernel-stacks-only"),
        ("--user-threads-only", "--kernel-threads-only"),
        ("--quiet", "--verbose"),
    ):
        if given[one] and given[other]:
            raise UsageError(f"{one} and {other} exclude each other", "give one of them or none")
    _refuse_unwinding_of_nothing(given)
    for option in ("--pid", "--tid", "--comm", "--cgroup"):
        if command and given[option] is not None:
            raise UsageError(
                f"{option} and a command to start exclude each other",
                f"leave out {option} or what follows '--'",
            )


def _refuse_unwinding_of_nothing(given: dict[str, Any]) -> None:
    """What is about unwind tables makes no sense where none are used."""
    reasons = [one for one in ("--kernel-stacks-only", "--kernel-threads-only") if given[one]]
    method = given["--unwind"]
    if reasons and method not in (None, Unwind.AUTO.value):
        raise UsageError(
            f"--unwind {method} and {reasons[0]}, which leaves user stacks out, exclude each other",
            "give one of them",
        )
    if method == Unwind.FRAME_POINTERS.value:
        reasons.append("--unwind fp")
    if reasons and given["--unwind-memory"] is not None:
        raise UsageError(
            f"--unwind-memory and {reasons[0]}, which needs no unwind tables, exclude each other",
            "give one of them",
        )


def _unwind(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request that say how stacks are walked."""
    method, memory, depth = (
        given[f"--{name}"] for name in ("unwind", "unwind-memory", "max-stack")
    )
    choices = tuple(one.value for one in Unwind)
    wanted = Unwind(values.choice("--unwind", method, choices)) if method else Unwind.AUTO
    size = DEFAULT_UNWIND_BYTES
    if memory is not None:
        size = values.size_bytes("--unwind-memory", memory, MIN_UNWIND_BYTES, MAX_UNWIND_BYTES)
    most = MAX_STACK_DEPTH
    if depth is not None:
        most = values.integer("--max-stack", depth, 1, MAX_STACK_DEPTH)
    uses_tables = wanted is not Unwind.FRAME_POINTERS and not given["--kernel-stacks-only"]
    kept = uses_tables and not given["--no-cache"]
    return {
        "unwind": wanted,
        "unwind_bytes": size,
        "max_stack": most,
        "cache_directory": usual_cache_directory() if kept else "",
    }


def _request(
    command: str, given: dict[str, Any], words: tuple[str, ...], form: Format, path: str
) -> Request:
    def optional(option: str, reader: Any, nothing: Any) -> Any:
        return nothing if given[option] is None else reader(given[option])

    timeline = given["--timeline"] or form.timeline
    refuse_states(given["--state"] is not None, form.timeline or (timeline and not form.names))
    return Request(
        pids=optional("--pid", lambda text: values.id_list("--pid", text), ()),
        tids=optional("--tid", lambda text: values.id_list("--tid", text), ()),
        comm=optional("--comm", lambda text: values.word("--comm", text), ""),
        cgroup=optional("--cgroup", lambda text: values.word("--cgroup", text), ""),
        command=words,
        cpus=optional("--cpu", lambda text: values.cpu_list(text, _online_cpus()), None),
        duration_ns=optional("--duration", values.duration_ns, None),
        frequency=_frequency(given["--frequency"]),
        min_block_ns=optional("--min-block", values.min_block_ns, DEFAULT_MIN_BLOCK_NS),
        oncpu=command != "offcpu",
        offcpu=command != "oncpu",
        user_stacks=not given["--kernel-stacks-only"],
        kernel_stacks=not given["--user-stacks-only"],
        user_threads_only=given["--user-threads-only"],
        kernel_threads_only=given["--kernel-threads-only"],
        timeline=timeline,
        spool_directory=_spool_directory(path) if timeline else "",
        delays=given["--delays"],
        disabled=optional("--without", _features, frozenset()),
        **_unwind(given),
    )


def _selection(command: str, given: dict[str, Any], system_wide: bool) -> Selection:
    states = {"profile": None, "oncpu": frozenset({State.RUNNING}), "offcpu": OFF_CPU}[command]
    if given["--state"] is not None:
        wanted = values.state_list(given["--state"])
        if states is not None and not wanted <= states:
            raise UsageError(
                f"--state {given['--state']!r} asks for time that {command} does not show",
                "use systemscope profile for every state",
            )
        states = wanted
    idle = IdleThreads.HIDE if system_wide else IdleThreads.SHOW
    if given["--idle-threads"] is not None:
        choices = tuple(one.value for one in IdleThreads)
        idle = IdleThreads(values.choice("--idle-threads", given["--idle-threads"], choices))
    kind = ThreadKind.ALL
    if given["--user-threads-only"]:
        kind = ThreadKind.USER
    elif given["--kernel-threads-only"]:
        kind = ThreadKind.KERNEL
    return Selection(states=states, idle=idle, kind=kind)


def _spool_directory(path: str) -> str:
    """Beside the output, where there is room for it too; "" where that is no file."""
    if not path or path.startswith("/dev/") or is_special(path):
        return ""
    return os.path.dirname(os.path.realpath(path))


def _min_slice_ns(text: Optional[str]) -> int:
    return 0 if text is None else values.microseconds_ns("--min-slice", text)


def _features(text: str) -> frozenset[str]:
    """Names of capabilities to do without, checked against those there are."""
    from dataclasses import fields

    from systemscope.kernel.capabilities import Capabilities

    known = {one.name for one in fields(Capabilities)}
    asked = frozenset(part.strip() for part in text.split(","))
    unknown = sorted(asked - known)
    if unknown:
        raise UsageError(
            f"--without {unknown[0]!r} is no kernel feature",
            "systemscope doctor --json lists them",
        )
    return asked


def _frequency(text: Optional[str]) -> int:
    """What was asked for must fit the kernel's limit; the default makes do with less."""
    limit = _sample_rate_limit()
    if text is None:
        return min(DEFAULT_FREQUENCY, limit or DEFAULT_FREQUENCY)
    return values.frequency(text, limit)


def _sample_rate_limit() -> int:
    """The kernel's cap on samples a second, 0 where it does not tell."""
    try:
        with open("/proc/sys/kernel/perf_event_max_sample_rate", encoding="ascii") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return 0


def _online_cpus() -> tuple[int, ...]:
    try:
        with open("/sys/devices/system/cpu/online", encoding="ascii") as file:
            return values.cpu_list(file.read(65_536).strip(), ())
    except OSError:
        return ()
