"""Owned descriptors."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import warnings

import pytest

from systemscope.syscalls.fd import Fd


def is_open(number: int) -> bool:
    return os.path.exists(f"/proc/self/fd/{number}")


def pipe() -> tuple[Fd, Fd]:
    read, write = os.pipe()
    return Fd(read, "read end"), Fd(write, "write end")


def test_it_closes_once() -> None:
    read, write = pipe()
    number = read.number
    assert is_open(number)
    read.close()
    assert not is_open(number)
    with write:  # takes over the number just freed, or another: read must not close it
        reused = Fd(os.dup(write.number))
        read.close()
        assert is_open(reused.number)
        reused.close()
    assert write.closed


def test_a_closed_one_gives_no_number() -> None:
    read, write = pipe()
    read.close()
    write.close()
    with pytest.raises(ValueError, match="read end is closed"):
        read.fileno()


def test_detach_gives_it_away() -> None:
    read, write = pipe()
    write.close()
    number = read.detach()
    assert read.closed and is_open(number)
    os.close(number)


def test_a_forgotten_one_warns_and_is_closed() -> None:
    read, write = pipe()
    number = read.number
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del read
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert "read end" in str(caught[0].message)
    assert not is_open(number)
    write.close()


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Fd(-1)


def test_it_is_close_on_exec() -> None:
    read, write = os.pipe()
    os.set_inheritable(read, True)
    with Fd(read) as fd, Fd(write):
        assert not os.get_inheritable(fd.number)


def test_low_numbers_are_moved_up() -> None:
    """In a process without standard streams the kernel hands out 0, 1 and 2."""
    code = (
        "import os\n"
        "from systemscope.syscalls.fd import Fd\n"
        "os.close(0)\n"
        "fd = Fd(os.open('/dev/null', os.O_RDONLY))\n"
        "assert fd.number >= 3 and not os.get_inheritable(fd.number), fd\n"
        "assert not os.path.exists('/proc/self/fd/0')\n"
        "fd.close()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
