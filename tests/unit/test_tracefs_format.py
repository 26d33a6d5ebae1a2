"""The format parser on the kernel's text and on text that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from systemscope.errors import SystemScopeError, Unsupported
from systemscope.kernel.tracefs import Field, Tracefs, parse_format, parse_mounts

# Linux 6.18, x86-64.
SCHED_SWITCH = """name: sched_switch
ID: 372
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:char prev_comm[16];\toffset:8;\tsize:16;\tsigned:0;
\tfield:pid_t prev_pid;\toffset:24;\tsize:4;\tsigned:1;
\tfield:int prev_prio;\toffset:28;\tsize:4;\tsigned:1;
\tfield:long prev_state;\toffset:32;\tsize:8;\tsigned:1;
\tfield:char next_comm[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:pid_t next_pid;\toffset:56;\tsize:4;\tsigned:1;
\tfield:int next_prio;\toffset:60;\tsize:4;\tsigned:1;

print fmt: "prev_comm=%s prev_pid=%d", REC->prev_comm, REC->prev_pid
"""


def test_sched_switch() -> None:
    parsed = parse_format(SCHED_SWITCH)
    assert parsed.id == 372
    assert len(parsed.fields) == 11
    assert parsed.fields["prev_state"] == Field(32, 8, True)
    assert parsed.fields["prev_comm"] == Field(8, 16, False)
    assert parsed.fields["common_type"] == Field(0, 2, False)


def _with(line: str) -> str:
    return f"name: e\nID: 1\nformat:\n{line}\nprint fmt: x\n"


@pytest.mark.parametrize(
    ("declaration", "name"),
    [
        ("__data_loc char[] filename", "filename"),
        ("const char * where", "where"),
        ("struct sock *sk", "sk"),
        ("u8 bytes[6]", "bytes"),
        ("unsigned long args[6]", "args"),
        ("void *caller[((1) << (3))]", "caller"),
    ],
)
def test_declarations(declaration: str, name: str) -> None:
    parsed = parse_format(_with(f"\tfield:{declaration};\toffset:8;\tsize:4;\tsigned:0;"))
    assert parsed.fields == {name: Field(8, 4, False)}


def test_fields_without_signed() -> None:
    parsed = parse_format(_with("\tfield:int a;\toffset:8;\tsize:4;"))
    assert parsed.fields == {"a": Field(8, 4, False)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name: e\n",
        "name: e\nID: x\nformat:\nprint fmt: y",
        "name: e\nID: -1\nformat:\nprint fmt: y",
        "name: e\nID: ٣\nformat:\nprint fmt: y",
        "name: e\nID: 99999999999999\nformat:\nprint fmt: y",
        "ID: 1\nname: e\nformat:\nprint fmt: y",
        "name: e\nID: 1\nformat:\n",
        _with("field:int a;\toffset:8;\tsize:4;\tsigned:0;"),
        _with("\tfield:int a;\toffset:-8;\tsize:4;\tsigned:0;"),
        _with("\tfield:int a;\toffset:8;\tsize:4;\tsigned:2;"),
        _with("\tfield:int a;\toffset:8;\tsize:4;\tsigned:0; extra"),
        _with("\tfield:int a;\toffset:65535;\tsize:4;\tsigned:0;"),
        _with("\tfield:;\toffset:8;\tsize:4;\tsigned:0;"),
        _with("\tfield:int 9;\toffset:8;\tsize:4;\tsigned:0;"),
        _with("\tfield:int a[;\toffset:8;\tsize:4;\tsigned:0;"),
        _with("\tfield:" + "a" * 500 + ";\toffset:8;\tsize:4;\tsigned:0;"),
        _with("\tfield:int a;\toffset:8;\tsize:4;\tsigned:0;\n" * 2),
        "x" * 100_000,
        "\0" * 100,
    ],
)
def test_strange_text_is_refused(text: str) -> None:
    with pytest.raises(SystemScopeError, match="cannot be understood"):
        parse_format(text)


def test_too_many_fields_are_refused() -> None:
    lines = [f"\tfield:int f{n};\toffset:8;\tsize:4;\tsigned:0;" for n in range(300)]
    with pytest.raises(SystemScopeError, match="one too many"):
        parse_format(_with("\n".join(lines)))


def test_reading_from_a_tree(tmp_path: Path) -> None:
    event = tmp_path / "events" / "sched" / "sched_switch"
    event.mkdir(parents=True)
    (event / "format").write_text(SCHED_SWITCH)
    with Tracefs(str(tmp_path)) as tree:
        assert not tree.private
        assert tree.format("sched", "sched_switch").id == 372
        assert tree.exists("events")
        with pytest.raises(Unsupported, match="sched:nothing"):
            tree.format("sched", "nothing")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../sched", "a\n", "a" * 200, "sched\0"])
def test_names_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        Tracefs(str(tmp_path)).format(name, "sched_switch")


def test_mount_points() -> None:
    text = (
        "sysfs /sys sysfs rw 0 0\n"
        "tracefs /sys/kernel/tracing tracefs rw,nosuid 0 0\n"
        "x /tmp/with\\040space tracefs rw 0 0\n"
        "tracefs /not/it ext4 rw 0 0\n"
        "short\n"
    )
    assert parse_mounts(text) == ["/sys/kernel/tracing", "/tmp/with space"]
