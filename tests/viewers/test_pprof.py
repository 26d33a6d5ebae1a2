"""pprof files in ``go tool pprof``: its text reports, its web pages, its own symbolizer."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from systemscope.exporters.pprof import write
from systemscope.model import (
    Delay,
    DelayKind,
    Frame,
    FrameKind,
    Gap,
    Mapping,
    Profile,
    State,
    UnwindReport,
)
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread
from tests.viewers.browser import refuse, require

MS = SECOND // 1000
_PATIENCE_SECONDS = 60


def run(*arguments: str, **environment: str) -> str:
    """What ``go tool pprof`` prints; it must succeed."""
    go = require("go", "Debian: apt-get install golang-go")
    ran = subprocess.run(
        [go, "tool", "pprof", *arguments],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_SECONDS,
        env={**os.environ, **environment},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def four() -> Profile:
    """Two threads of one process: 60 ms running, 30 runnable, 10 in disk sleep; 40 asleep."""
    waits = {DelayKind.BLOCK_IO: Delay(4, 8 * MS), DelayKind.CPU: Delay(9, 29 * MS)}
    worker, idler = thread(11, "worker", delays=waits), thread(12, "idler")
    inlined = frame("inner", inlined=True)
    made = profile(
        sample(worker, 50 * MS, inlined, frame("work"), frame("main")),
        sample(worker, 10 * MS, gap=Gap.NOT_SAMPLED),
        sample(worker, 30 * MS, frame("work"), frame("main"), state=State.RUNNABLE),
        sample(worker, 10 * MS, _kernel("io_schedule"), frame("main"), state=State.DISK),
        sample(idler, 40 * MS, _kernel("schedule"), frame("nap"), state=State.SLEEPING),
    )
    made.capture.threads = [worker, idler]
    made.capture.command = "make all"
    return made


def _kernel(name: str) -> Frame:
    return Frame(name, FrameKind.KERNEL, 0xFFFFFFFF81000000 + len(name), "[kernel]")


def saved(made: Profile, path: Path) -> str:
    with open(path, "wb") as stream:
        write(made, stream)
    return str(path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return saved(four(), tmp_path / "a.pb.gz")


def flat(report: str) -> dict[str, tuple[int, int]]:
    """Function: (flat, cumulative) milliseconds of a -top report in ms."""
    rows = re.findall(
        r"^ *(-?[\d.]+)(?:ms)? .*?% +(-?[\d.]+)(?:ms)? +[-\d.]+% +(.+)$", report, re.M
    )
    return {name: (round(float(own)), round(float(all_))) for own, all_, name in rows}


def test_top_of_every_sample_type(file: str) -> None:
    report = run("-top", "-unit=ms", file)
    assert "Type: wall" in report and "140ms total" in report
    assert "command: make all" in report and "File: app" in report
    got = flat(report)
    assert got["inner (inline)"] == (50, 50)
    assert got["work"] == (30, 80)
    assert got["main"] == (0, 90)
    assert got["[not sampled]"] == (10, 10)
    assert got["schedule"] == (40, 40)
    for kind, whole in (("cpu", 60), ("runnable", 30), ("blocked", 50), ("delay", 37)):
        report = run("-top", "-unit=ms", f"-sample_index={kind}", file)
        assert f"{whole}ms total" in report, kind
    assert "% of 2 total" in run("-top", "-sample_index=samples", file)
    delays = flat(run("-top", "-unit=ms", "-sample_index=delay", file))
    assert delays["[delay: block I/O]"] == (8, 8) and delays["[delay: cpu]"] == (29, 29)
    assert set(delays) == {"[delay: block I/O]", "[delay: cpu]"}


def test_tags(file: str) -> None:
    report = run("-tags", file)
    for words in (
        *(r"pid: Total 140\.0ms\n +140\.0ms \( +100%\): 100\n", r"100\.0ms \(71\.43%\): 11\n"),
        *(r"60\.0ms \(42\.86%\): running\n", r"40\.0ms \(28\.57%\): idler\n"),
        r"comm: Total 140\.0ms\n +140\.0ms \( +100%\): app\n",
    ):
        assert re.search(words, report), report


def test_traces(file: str) -> None:
    report = run("-traces", "-unit=ms", file)
    first = report.split("-----------+-----")[1]
    for words in ("pid:100", "tid:11", "comm:app", "thread_comm:worker", "state:running"):
        assert re.search(rf"\b{words}", re.sub(r": +", ":", first)), report
    assert re.search(r"50ms +inner \(inline\)\n +work\n +main", first), report


@pytest.mark.parametrize(
    ("focus", "whole"),
    [
        ("state=running", 60),
        ("tid=11", 100),
        ("tid=12", 40),
        ("thread_comm=idler", 40),
        ("state=disk|sleeping", 50),
    ],
)
def test_focus_on_a_tag(file: str, focus: str, whole: int) -> None:
    report = run("-top", "-unit=ms", f"-tagfocus={focus}", file)
    assert f"{whole}ms, " in report, report


def test_threads_as_roots(file: str) -> None:
    got = flat(run("-top", "-unit=ms", "-tagroot=thread_comm,state", file))
    assert got["worker"] == (0, 100) and got["idler"] == (0, 40)


def test_differences(file: str, tmp_path: Path) -> None:
    later = four()
    later.samples[0] = replace(later.samples[0], nanoseconds=75 * MS)
    after = saved(later, tmp_path / "b.pb.gz")
    got = flat(run("-top", "-unit=ms", f"-diff_base={file}", after))
    assert got["inner (inline)"] == (25, 25)
    assert got.get("schedule", (0, 0)) == (0, 0)
    assert "165ms total" in run("-top", "-unit=ms", after)
    assert "305ms total" in run("-top", "-unit=ms", file, after)  # merged


def test_raw(file: str) -> None:
    report = run("-raw", file)
    assert "PeriodType: cpu nanoseconds\nPeriod: 10101010\n" in report
    assert "samples/count wall/nanoseconds[dflt] cpu/nanoseconds runnable/nanoseconds" in report
    assert "/bin/app" in report and "[kernel.kallsyms]" in report


def test_stacks_without_a_root(tmp_path: Path) -> None:
    mark = Frame("[no unwind table]", FrameKind.PSEUDO)
    mapping = Mapping(0x400000, 0x500000, 0, "/bin/app")
    work = Frame("work", FrameKind.USER, 0x400123, "app", mapping=mapping)
    made = profile(sample(thread(1), 9 * MS, work, mark))
    made.capture.unwinding = UnwindReport("bpf_loop")
    file = saved(made, tmp_path / "a.pb.gz")
    assert flat(run("-unit=ms", "-top", file)) == {"work": (9, 9), "[no unwind table]": (0, 9)}
    told = run("-comments", file)
    assert "unwinding: 0.0 % of 80 stacks whole by unwind tables (bpf_loop)" in told


def test_an_empty_profile_is_valid(tmp_path: Path) -> None:
    assert "0 total" in run("-top", saved(profile(), tmp_path / "e.pb.gz"))


@contextmanager
def web(file: str, *options: str) -> Iterator[str]:
    """``go tool pprof -http``: the address of its pages."""
    go = require("go", "Debian: apt-get install golang-go")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    # "go tool" does not pass on the signal that ends it: a session of its own gets it whole.
    process = subprocess.Popen(
        [go, "tool", "pprof", f"-http={address}", "-no_browser", *options, file],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                fetch(f"http://{address}/ui/top")  # /ui/ needs Graphviz
                break
            except OSError:
                assert time.monotonic() < deadline, "pprof -http does not answer"
                time.sleep(0.1)
        yield f"http://{address}/ui"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=_PATIENCE_SECONDS) as answer:
        return str(answer.read().decode())


def test_web_pages(file: str) -> None:
    with web(file) as url:
        for page in ("flamegraph", "top", "peek?f=work", "flamegraph?si=cpu", "top?si=blocked"):
            text = fetch(f"{url}/{page}")
            assert "wall" in text and "app" in text, page
            if "blocked" not in page:
                assert "inner" in text, page
        if shutil.which("dot"):
            assert "<svg" in fetch(f"{url}/")
        with pytest.raises(urllib.error.HTTPError):
            fetch(f"{url}/nowhere")


_SOURCE = """
__attribute__((noinline)) int hidden_worker(int n) { return n * 3 + 1; }
int main(int argc, char **argv) { (void)argv; return hidden_worker(argc); }
"""


def compiled(directory: Path) -> Path:
    compiler = shutil.which("gcc") or refuse("needs gcc")
    (directory / "a.c").write_text(_SOURCE)
    flags = ["-O1", "-g", "-Wl,--build-id=sha1", "-o", str(directory / "prog")]
    subprocess.run([compiler, *flags, str(directory / "a.c")], check=True)
    return directory / "prog"


def place(program: Path, function: str) -> tuple[Mapping, int, str]:
    """The program mapped somewhere, the address of a function there, its build ID."""
    from systemscope.elf import ElfImage

    nm = subprocess.run(["nm", str(program)], capture_output=True, text=True, check=True).stdout
    value = int(re.search(rf"^(\w+) T {function}$", nm, re.M)[1], 16)  # type: ignore[index]
    heads = subprocess.run(
        ["readelf", "-lW", str(program)], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) 0x\w+ R E", heads)
    assert found
    offset, address, size = (int(text, 16) for text in found.groups())
    start = 0x5555_0000_0000 + address
    mapping = Mapping(start, start + (size + 0xFFF) // 0x1000 * 0x1000, offset, str(program))
    with open(program, "rb") as opened:
        build_id = ElfImage.from_descriptor(opened.fileno()).build_id
    return mapping, start + value - address, build_id


def test_pprof_names_what_we_could_not(tmp_path: Path) -> None:
    program = compiled(tmp_path)
    mapping, address, build_id = place(program, "hidden_worker")
    assert build_id
    leaf = Frame(
        "prog+0x1", FrameKind.USER, address, "prog", unknown="stripped", build_id=build_id,
        mapping=mapping,
    )  # fmt: skip
    in_main = place(program, "main")[1]
    # The byte before a return address is within the call: here the function's very first one.
    caller = replace(leaf, address=in_main + 1)
    file = saved(profile(sample(thread(1), SECOND, leaf, caller)), tmp_path / "n.pb.gz")
    report = run("-top", "-lines", file)
    assert re.search(r" hidden_worker .*a\.c:2$", report, re.M), report
    assert re.search(r" main .*a\.c:3$", report, re.M), report
