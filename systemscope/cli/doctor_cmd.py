"""``systemscope doctor``: what this kernel offers, what is missing, what that costs, what to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from systemscope.cli.exit_codes import ExitCode, exit_code_for
from systemscope.cli.usage import HelpShown, parse
from systemscope.errors import OutputError, SystemScopeError

if TYPE_CHECKING:
    from systemscope.kernel.capabilities import Examination
    from systemscope.kernel.probing import Finding, Probe

_USAGE = """
Show what this kernel offers to a profiler, what is missing, what each missing piece costs and
what to do about it, and how SystemScope would profile here.

Usage:
  systemscope doctor [options]

Exits with 0 when profiling is possible, 4 when a right is missing, 5 when the kernel lacks
something indispensable.

Options:
  --json       The same as one JSON object.
  --debug      Show the traceback of an error.
  -h, --help   Show this.
"""

#: Not a feature: told in the headline.
_FACT = "memlock_charged"
_TITLE_WIDTH = 58


def run(arguments: Sequence[str]) -> int:
    """Run ``systemscope doctor ARGUMENTS``; the exit code. Raises SystemScopeError."""
    try:
        options = parse(_USAGE, "doctor", arguments).options
    except HelpShown as shown:
        return shown.code
    if sys.stdout is None:
        raise OutputError("standard output is closed", "open it, or redirect it to a file")
    try:
        code = doctor(bool(options["--json"]), sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if isinstance(error, SystemScopeError):
            raise
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error
    return code


def doctor(json_output: bool, stream: TextIO) -> int:
    """Examine this machine and write the report; the exit code."""
    from systemscope.kernel.capabilities import examine

    report = make_report(examine())
    if json_output:
        import json

        json.dump(report.as_json(), stream, indent=2)
        stream.write("\n")
    else:
        stream.write("\n".join(report.lines()) + "\n")
    return report.code


@dataclass(frozen=True)
class Verdict:
    """Whether profiling is possible; if not, why and what to do."""

    code: ExitCode
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Report:
    """All that doctor tells."""

    examination: Examination
    questions: tuple[Probe, ...]
    verdict: Verdict
    strategy: dict[str, str]
    notes: tuple[str, ...]

    @property
    def code(self) -> int:
        """The exit code."""
        return int(self.verdict.code)

    def as_json(self) -> dict[str, Any]:
        """The report as plain values; ``features`` in the order of the table."""
        found = self.examination.findings
        return {
            "possible": self.verdict.code is ExitCode.OK,
            "reason": self.verdict.reason,
            "remedy": self.verdict.remedy,
            "strategy": self.strategy,
            "notes": list(self.notes),
            "system": _system(self.examination),
            "features": [_feature(one, found[one.field]) for one in self.questions],
        }

    def lines(self) -> list[str]:
        """The report for people."""
        lines = self._headline()
        lines += ["", f"{'FEATURE':<{_TITLE_WIDTH}}{'HERE':<14}SINCE"]
        for question in self.questions:
            lines += _rows(question, self.examination.findings[question.field])
        unsure = sum(f.state.value == "inconclusive" for f in self.examination.findings.values())
        if unsure:
            lines += ["", f"{unsure} questions found no answer here: run it as root to have them."]
        return lines

    def _headline(self) -> list[str]:
        from systemscope.version import VERSION

        facts = self.examination.capabilities
        lines = [f"SystemScope {VERSION} on Linux {facts.release} ({facts.arch})"]
        if self.verdict.code is ExitCode.OK:
            lines.append("Profiling is possible here:")
        else:
            lines.append(f"Profiling is NOT possible here: {self.verdict.reason}.")
            lines += [f"What to do: {self.verdict.remedy}."] if self.verdict.remedy else []
        told = {**self.strategy, **_words(self.examination)}
        lines += [f"  {name:<16} {text}" for name, text in told.items()]
        lines += [f"  note: {note}" for note in self.notes]
        return lines


def make_report(examination: Examination) -> Report:
    """Judge the findings: the same choice as a profile of the whole system would make."""
    from systemscope.kernel.capabilities import probes

    verdict, strategy, notes = _judge(examination)
    questions = tuple(one for one in probes() if one.field != _FACT)
    return Report(examination, questions, verdict, strategy, notes)


def _judge(examination: Examination) -> tuple[Verdict, dict[str, str], tuple[str, ...]]:
    from systemscope.cli.preflight import require
    from systemscope.collectors.plan import make_plan
    from systemscope.collectors.request import Request
    from systemscope.collectors.unwind_method import unwind_method

    facts = examination.capabilities
    try:
        require(examination.privileges)
        plan = make_plan(facts, Request())
    except SystemScopeError as error:
        code = exit_code_for(error)
        return Verdict(code, error.message.rstrip("."), error.remedy.rstrip(".")), {}, ()
    event = _event(examination)
    strategy = {
        "scheduler": plan.config.hook.value,
        "stacks of waits": plan.config.walk.value,
        "thread records": plan.config.storage.value,
        "stacks": plan.config.stack_table.value,
        "user stacks": unwind_method(plan.config.unwind),
        "silent threads": _seeds(plan.seed_iterator, plan.wait_iterator),
        "on-CPU samples": event or "none",
    }
    return _without_event(examination) if not event else Verdict(ExitCode.OK), strategy, plan.notes


def _event(examination: Examination) -> str:
    facts = examination.capabilities
    if facts.perf_cycles:
        return "hardware cycles"
    return "cpu-clock (a timer: there is no cycles event)" if facts.perf_cpu_clock else ""


def _without_event(examination: Examination) -> Verdict:
    from systemscope.kernel.probing import State

    finding = examination.findings["perf_cpu_clock"]
    unsure = finding.state is State.INCONCLUSIVE
    return Verdict(
        ExitCode.PERMISSION if unsure else ExitCode.KERNEL,
        f"no perf event can be opened ({finding.detail})",
        "lower kernel.perf_event_paranoid, or run with CAP_PERFMON; containers often forbid "
        "perf_event_open by seccomp",
    )


def _seeds(seed_iterator: bool, wait_iterator: bool) -> str:
    if wait_iterator:
        return "sleepable iterator: kernel and user stacks"
    return "iterator and /proc: kernel stacks" if seed_iterator else "/proc: kernel stacks"


def _feature(question: Probe, finding: Finding) -> dict[str, Any]:
    return {
        "name": question.field,
        "title": question.title,
        "state": finding.state.value,
        "value": finding.value,
        "detail": finding.detail,
        "since": question.since,
        "cost": "" if finding.available else question.missing,
        "remedy": "" if finding.available else question.remedy,
    }


def _rows(question: Probe, finding: Finding) -> list[str]:
    from systemscope.kernel.probing import State

    title = f"{question.title:<{_TITLE_WIDTH - 1}} "
    rows = [f"{title}{finding.state.value:<14}{question.since}"]
    if finding.available:
        return rows
    if finding.detail and finding.detail != "EPERM":  # that, the last line explains
        rows.append(f"    because: {finding.detail}")
    if finding.state is State.MISSING:
        rows += [f"    costs:   {question.missing}", f"    do:      {question.remedy}"]
    return rows


def _system(examination: Examination) -> dict[str, Any]:
    """Facts about the machine and this process's rights."""
    import resource
    from dataclasses import asdict

    from systemscope.kernel.privileges import sysctl

    facts = asdict(examination.capabilities)
    for question in examination.findings:
        if question != _FACT:
            facts.pop(question, None)
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    facts["memlock_limit"] = None if limit == resource.RLIM_INFINITY else limit
    facts["seccomp"] = examination.privileges.seccomp.name.lower()
    facts["initial_user_namespace"] = examination.privileges.initial_user_namespace
    facts["unprivileged_bpf_disabled"] = sysctl("kernel/unprivileged_bpf_disabled")
    return facts


def _words(examination: Examination) -> dict[str, str]:
    """The same facts in a few lines for people."""
    from systemscope.kernel.privileges import SeccompMode

    facts, rights = examination.capabilities, examination.privileges
    held = [name for name in _CAPABILITIES if getattr(facts, name.lower())]
    who = "root" if facts.root else f"uid {rights.uid}"
    text = f"{who}; {', '.join(held) if held else 'no capability that matters here'}"
    if not rights.initial_user_namespace:
        text += "; in a user namespace, where capabilities do not reach BPF"
    if rights.seccomp is SeccompMode.FILTER:
        text += "; under a seccomp filter, which may refuse what the kernel could do"
    charged = examination.findings[_FACT]
    memory = charged.detail or "counted against RLIMIT_MEMLOCK, which is raised for a profile"
    return {
        "rights": text,
        "lockdown": facts.lockdown or "unknown (securityfs is not mounted) or not built in",
        "BPF memory": memory if charged.state.value != "inconclusive" else "cannot be told",
        "settings": f"perf_event_paranoid={facts.perf_event_paranoid} "
        f"kptr_restrict={facts.kptr_restrict} pid_max={facts.pid_max}",
        "CPUs": f"{len(facts.online_cpus)} online, {len(facts.possible_cpus)} possible",
    }


_CAPABILITIES = ("CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYSLOG")
