"""The pprof format: what a file holds, and what writing it takes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import Any, BinaryIO, cast

import pytest

from systemscope.errors import OutputError
from systemscope.exporters.containers import container_id
from systemscope.exporters.formats import by_path
from systemscope.exporters.pprof import write
from systemscope.exporters.pprof_tables import MAX_TEXT
from systemscope.model import (
    Delay,
    DelayKind,
    Frame,
    FrameKind,
    Gap,
    HostFacts,
    Losses,
    Mapping,
    Process,
    Profile,
    Sample,
    State,
)
from tests.unit.fake_captures import SECOND, frame, profile, sample, thread
from tests.unit.pprof_files import Decoded, packed

KERNEL, USER = FrameKind.KERNEL, FrameKind.USER
APP = Mapping(0x1000, 0x3000, 0, "/bin/app")
LIBC = Mapping(0x7F0000000000, 0x7F0000100000, 0x26000, "/lib/libc.so.6")
ID = "ab" * 20


def decoded(of: Profile) -> Decoded:
    return Decoded(packed(of))


def off(nanoseconds: int = 5, state: State = State.SLEEPING) -> Sample:
    return sample(thread(1), nanoseconds, frame("wait"), state=state)


def test_types_are_those_the_run_measured() -> None:
    on = sample(thread(1), 1, frame("f"))
    every = [f"{t}/nanoseconds" for t in ("wall", "cpu", "runnable", "blocked")]
    whole = decoded(profile(on, off()))
    assert whole.types == ["samples/count", *every, "waits/count"]
    assert decoded(profile()).types == whole.types
    assert whole.text(whole.message.default_sample_type) == "wall"
    only_on = decoded(profile(on))
    assert only_on.types == ["samples/count", "cpu/nanoseconds"]  # as Go's own
    assert only_on.text(only_on.message.default_sample_type) == "cpu"
    waiting = profile(off())
    waiting.capture.frequency = 0
    only_off = decoded(waiting)
    assert only_off.types == [
        *("waits/count", "wall/nanoseconds", "runnable/nanoseconds", "blocked/nanoseconds")
    ]
    assert only_off.text(only_off.message.period_type.type) == "wall"
    assert only_off.message.period == 1


def test_values_by_state() -> None:
    t = thread(1)
    states = {state: replace(off(7, state), count=3, thread=t) for state in State}
    got = decoded(profile(*states.values()))
    values = {state: got.values(one) for state, one in zip(states, got.message.sample)}
    assert values[State.RUNNING] == {
        "samples/count": 3,
        "wall/nanoseconds": 7,
        "cpu/nanoseconds": 7,
    }
    assert values[State.RUNNABLE] == {
        "wall/nanoseconds": 7,
        "runnable/nanoseconds": 7,
        "waits/count": 3,
    }
    assert values[State.DISK]["blocked/nanoseconds"] == 7
    assert values[State.UNKNOWN] == {"wall/nanoseconds": 7, "waits/count": 3}


def test_head_and_comments() -> None:
    one = profile(off())
    capture = one.capture
    capture.wall_start, capture.command, capture.losses = 1.5, "make all", Losses(walks_failed=2)
    capture.notes, one.notes = ["a"], ["b\x1b[31m"]
    got = decoded(one)
    assert got.message.time_nanos == 1_500_000_000
    assert got.message.duration_nanos == SECOND
    assert got.message.period == 10_101_010
    assert got.text(got.message.period_type.type) == "cpu"
    assert got.comments[0].startswith("SystemScope ")
    assert got.comments[1:] == [
        *("command: make all", "kernel: Linux 6.1.0 x86_64", "host: host"),
        *("event: cpu-clock, 99 Hz", "ended by: duration"),
        *("loss: stack walks that failed: 2", "note: a", "note: b_[31m"),
    ]


def test_labels() -> None:
    one = profile(off())
    docker = "/system.slice/docker-" + "0123456789abcdef" * 4 + ".scope"
    one.capture.processes[100] = Process(100, "app", cgroup=docker)
    got = decoded(one)
    assert got.labels(got.message.sample[0]) == {
        "pid": 100,
        "tid": 1,
        "comm": "app",
        "thread_comm": "worker",
        "state": "sleeping",
        "cgroup": docker,
        "container_id": "0123456789abcdef" * 4,
    }


def user(name: str, address: int, mapping: Mapping = APP, **more: Any) -> Frame:
    return Frame(name, USER, address, mapping.path[5:], mapping=mapping, build_id=ID, **more)


def test_return_addresses_are_stored_minus_one() -> None:
    leaf, caller = Frame("leaf", KERNEL, 0xFFFF_8000), Frame("read", KERNEL, 0xFFFF_9000)
    frames = (leaf, caller, user("main", 0x1500), user("start", 0x1600))
    running = replace(off(), state=State.RUNNING, frames=frames)
    got = decoded(profile(running, replace(running, state=State.SLEEPING)))
    addresses = [
        [got.locations[one].address for one in each.location_id] for each in got.message.sample
    ]
    assert addresses == [
        [0xFFFF_8000, 0xFFFF_8FFF, 0x1500, 0x15FF],
        [0xFFFF_7FFF, 0xFFFF_8FFF, 0x1500, 0x15FF],
    ]


def test_inlined_frames_are_lines_of_one_location() -> None:
    deep = user("deep", 0x1500, inlined=True, file="a.c", line=3)
    mid = user("mid", 0x1500, inlined=True, file="a.c", line=9)
    outer, main = user("outer", 0x1500, file="b.c", line=20), user("main", 0x1700)
    shapes = [(deep, mid, outer, main), (main, deep, mid, outer), (outer, main), (main, outer)]
    got = decoded(profile(*(replace(off(), frames=one) for one in (*shapes, *shapes))))
    names = [got.names(one) for one in got.message.sample]
    assert names[:4] == [
        [["deep", "mid", "outer"], ["main"]],
        [["main"], ["deep", "mid", "outer"]],
        [["outer"], ["main"]],
        [["main"], ["outer"]],
    ]
    assert names[4:] == names[:4]
    inlined = got.locations[got.message.sample[0].location_id[0]]
    assert [line.line for line in inlined.line] == [3, 9, 20]
    [mapping] = got.message.mapping
    assert mapping.has_functions and mapping.has_filenames
    assert mapping.has_line_numbers and mapping.has_inline_frames


def test_mappings() -> None:
    module = Frame("ext4_read", KERNEL, 0xFFFFFFFFC0001234, "[ext4]")
    frames = (
        module,
        Frame("sys_read", KERNEL, 0xFFFFFFFF81000010, "[kernel]"),
        user("read", LIBC.start + 0x10, LIBC),
        user("main", 0x1500),
    )
    one = profile(replace(off(), frames=frames))
    one.capture.facts = HostFacts(kernel_build_id="cd" * 20)
    got = decoded(one)
    main, ext4, kernel, libc = got.message.mapping
    texts = [(got.text(m.filename), got.text(m.build_id)) for m in got.message.mapping]
    assert texts == [
        *(("/bin/app", ID), ("[ext4]", "")),
        *(("[kernel.kallsyms]", "cd" * 20), ("/lib/libc.so.6", ID)),
    ]
    assert (libc.memory_start, libc.memory_limit, libc.file_offset) == (
        *(LIBC.start, LIBC.end, 0x26000),
    )
    assert kernel.memory_start <= 0xFFFFFFFF81000010 < kernel.memory_limit
    assert (ext4.memory_start, ext4.memory_limit) == (0xFFFFFFFFC0001000, 0xFFFFFFFFC0002000)
    assert [m.id for m in got.message.mapping] == [1, 2, 3, 4]
    assert main.has_functions and not main.has_filenames


def test_what_has_no_name_is_left_for_pprof_to_name() -> None:
    nameless = user("libc.so.6+0x27123", LIBC.start + 0x1123, LIBC, unknown="stripped")
    named = user("read", LIBC.start + 0x10, LIBC)
    astray = Frame("[unknown]+0x42", USER, 0x42, "[unknown]", unknown="it lies in no mapping")
    got = decoded(profile(replace(off(), frames=(named, nameless, astray))))
    read, unnamed, unmapped = (got.locations[one] for one in got.message.sample[0].location_id)
    assert not unnamed.line and unnamed.address == LIBC.start + 0x1122
    libc = got.mappings[unnamed.mapping_id]
    assert not libc.has_functions  # else pprof would look up nothing in it
    assert got.names(got.message.sample[0]) == [["read"], [], ["[unknown]"]]
    assert unmapped.address == 0x41 and unmapped.mapping_id == 0
    assert read.mapping_id == unnamed.mapping_id


def test_gaps_are_pseudo_functions_at_the_leaf() -> None:
    gap = sample(thread(1), 4, gap=Gap.NOT_SAMPLED)
    both = sample(thread(1), 4, frame("main"), gap=Gap.SHORT_WAITS)
    got = decoded(profile(gap, both, sample(thread(1), 4)))
    assert [got.names(one) for one in got.message.sample] == [
        *([["[not sampled]"]], [["[short waits]"], ["main"]], [["[no frames]"]]),
    ]


def test_delays_are_samples_of_their_own() -> None:
    t = thread(1, delays={DelayKind.BLOCK_IO: Delay(3, 900), DelayKind.CPU: Delay(0, 0)})
    one = profile(sample(t, 5, frame("f"), state=State.DISK))
    one.capture.threads = [t]
    got = decoded(one)
    assert got.types[-2:] == ["delays/count", "delay/nanoseconds"]
    stack, delay = got.message.sample
    assert got.names(delay) == [["[delay: block I/O]"]]
    assert got.values(delay) == {"delays/count": 3, "delay/nanoseconds": 900}
    assert got.labels(delay)["tid"] == 1
    assert got.values(stack)["wall/nanoseconds"] == 5


def test_hostile_names() -> None:
    names = ["\ud800", "a\x00b", "\u202eevil", "</script>", "é" * (MAX_TEXT + 5), "", "\n;\x1b[2J"]
    t = thread(1, "c\udfffm")
    frames = tuple(user(name, 0x1500 + n, file=name) for n, name in enumerate(names))
    got = decoded(profile(sample(t, 1, *frames)))
    found = [one[0] for one in got.names(got.message.sample[0])]
    assert found[:4] == ["_", "a_b", "_evil", "</script>"]
    assert len(found[4]) == MAX_TEXT + 1 and found[4].endswith("…")
    assert not any("\x1b" in text or "\n" in text for text in got.message.string_table)


@pytest.mark.parametrize("values", [(1 << 63,), (1 << 62, 1 << 62), (1 << 70, 1)])
def test_what_does_not_fit_64_bits_is_refused(values: tuple[int, ...]) -> None:
    samples = [sample(thread(1), value, frame("f")) for value in values]
    with pytest.raises(OutputError, match="do not fit into a pprof file"):
        packed(profile(*samples))
    assert decoded(profile(sample(thread(1), (1 << 63) - 1))).message.sample[0].value[1]


def test_extreme_addresses_lines_and_numbers() -> None:
    wide = Mapping(0, 1 << 64, 1 << 64, "/x")
    frames = (
        Frame("a", USER, (1 << 64) - 1, line=1 << 70, mapping=wide),
        Frame("b", USER, 1 << 65),
    )
    got = decoded(profile(sample(thread(1 << 40, tgid=-5), 1, *frames)))
    assert got.locations[1].line[0].line == (1 << 63) - 1


def test_the_same_profile_gives_the_same_bytes_in_every_runtime() -> None:
    code = (
        "from tests.unit.test_pprof import mixed; from tests.unit.pprof_files import packed, back;"
        "from google.protobuf.internal import api_implementation as a; import hashlib;"
        "d = packed(mixed()); assert packed(back(d)) == packed(back(packed(back(d))));"
        "print(a.Type(), hashlib.sha256(d).hexdigest())"
    )
    digest = hashlib.sha256(packed(mixed())).hexdigest()
    for runtime in ("upb", "python"):
        environment = {**os.environ, "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": runtime}
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment
        )
        if runtime == "upb" and "upb" not in ran.stdout:
            continue  # not every installation has it
        assert ran.stdout.split() == [runtime, digest], ran.stderr
    assert packed(mixed())[4:8] == b"\0\0\0\0"  # gzip's time of modification


def mixed() -> Profile:
    """A profile with a bit of everything."""
    delayed = thread(1, delays={DelayKind.CPU: Delay(1, 2)})
    one = profile(
        sample(delayed, 10, user("a", 0x1500, inlined=True), user("b", 0x1500), user("c", 0x1600)),
        sample(
            delayed,
            20,
            Frame("sys", KERNEL, 1 << 63 | 5, "[kernel]"),
            user("b", 0x1500),
            state=State.DISK,
        ),
        sample(thread(2), 30, gap=Gap.NO_STACK, state=State.RUNNABLE),
    )
    one.capture.threads = [delayed]
    return one


class _Null(io.RawIOBase):
    """Takes everything, keeps the number of bytes."""

    size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.size += len(data)
        return len(data)


def test_memory_does_not_grow_with_the_number_of_stacks() -> None:
    frames = [user(f"function_{n}", 0x1000 + n) for n in range(2_000)]
    threads = [thread(n) for n in range(100)]

    def peak(stacks: int) -> int:
        samples = [
            Sample(
                threads[n % 100],
                "app",
                State.RUNNING,
                tuple(frames[(n * 31 + depth * (1 + n % 97)) % 2_000] for depth in range(4)),
                n,
                1,
            )
            for n in range(stacks)
        ]
        one = profile(*samples)
        null = _Null()
        tracemalloc.start()
        write(one, cast(BinaryIO, null))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert null.size > stacks
        return highest

    small, large = peak(5_000), peak(200_000)
    assert large < 8 << 20
    assert large < small + (2 << 20)


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        ("/system.slice/docker-{}.scope", "{}"),
        ("/docker/{}", "{}"),
        ("/docker/{}/init.scope", "{}"),
        ("/kubepods.slice/kubepods-burstable.slice/cri-containerd-{}.scope", "{}"),
        ("/kubepods/besteffort/pod1234/{}", "{}"),
        ("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{}", "{}"),
        ("/machine.slice/libpod-{}.scope/container", "{}"),
        ("/machine.slice/libpod-conmon-{}.scope", ""),
        ("/crio-{}.scope", "{}"),
        ("/ecs/task/" + "a" * 32 + "-1234567890", "a" * 32 + "-1234567890"),
        ("/user.slice/user-0.slice", ""),
        ("/docker/{}ff", ""),
        ("", ""),
        ("/" + "a" * 10_000_000, ""),
    ],
)
def test_container_ids(cgroup: str, expected: str) -> None:
    made = "0f" * 32
    assert container_id(cgroup.format(made)) == expected.format(made)


def test_the_ending_chooses_the_format() -> None:
    assert by_path("/tmp/x.pb.gz").name == "pprof"
    data = packed(profile())
    assert gzip.decompress(data)
