"""The disk cache: never fails, never trusts what others could have written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from systemscope.elf.cache import TableCache, default_directory

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def cache_in(directory: Path, limit: int = 1 << 20) -> TableCache:
    return TableCache(str(directory), limit)


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def test_what_was_put_is_found_again(directory: Path) -> None:
    cache = cache_in(directory)
    assert cache.get("one") is None
    assert cache.problem == ""
    for data in (b"first", b"", bytes(range(256)) * 300):
        cache.put("one", data)
        assert cache.get("one") == data
        assert cache_in(directory).get("one") == data
    cache.put("two/../\udcff\0 name of any kind" * 100, b"x")
    assert cache.get("two/../\udcff\0 name of any kind" * 100) == b"x"
    assert len(files(directory)) == 2
    assert directory.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files(directory))
    cache.close()
    assert cache.get("one") is not None, "opened again"


def test_descriptors_are_given_back(directory: Path) -> None:
    before = os.listdir("/proc/self/fd")
    cache = cache_in(directory)
    cache.put("one", b"data")
    cache.get("one")
    cache.close()
    cache.close()
    again = cache_in(directory)
    again.get("one")
    del again
    assert os.listdir("/proc/self/fd") == before


def test_damage_is_noticed(directory: Path) -> None:
    cache = cache_in(directory)
    cache.put("one", b"some data" * 20)
    (path,) = files(directory)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert cache.get("one") is None, f"byte {at}"
        path.write_bytes(whole[:at])
        assert cache.get("one") is None, f"cut at {at}"
    path.write_bytes(whole + b"x")
    assert cache.get("one") is None
    path.write_bytes(whole)
    assert cache.get("one") == b"some data" * 20
    cache.put("two", b"x")
    other = next(one for one in files(directory) if one != path)
    os.replace(path, other)
    assert cache.get("two") is None, "a file under another's name"


def test_files_that_others_could_have_made_are_not_read(directory: Path, tmp_path: Path) -> None:
    cache = cache_in(directory)
    cache.put("one", b"data")
    (path,) = files(directory)
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        assert cache.get("one") is None
        assert "others" in cache.problem
    path.chmod(0o600)
    assert cache.get("one") == b"data"
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert cache.get("one") is None
    path.unlink()
    os.mkfifo(path)
    assert cache.get("one") is None
    path.unlink()
    path.mkdir()
    assert cache.get("one") is None
    cache.put("one", b"data")  # cannot take a directory's place
    assert cache.get("one") is None
    assert [one.name for one in files(directory)] == [path.name], "leavings"


@only_root
def test_files_of_another_owner_are_not_read(directory: Path) -> None:
    cache = cache_in(directory)
    cache.put("one", b"data")
    (path,) = files(directory)
    os.chown(path, 1000, 1000)
    assert cache.get("one") is None
    cache.put("one", b"mine")
    assert cache.get("one") == b"mine"
    cache.close()
    os.chown(directory, 1000, 1000)
    cache = cache_in(directory)
    assert cache.get("one") is None
    assert "others" in cache.problem


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720])
def test_directories_that_others_can_write_are_not_used(directory: Path, mode: int) -> None:
    cache_in(directory).put("one", b"data")
    directory.chmod(mode)
    cache = cache_in(directory)
    assert cache.get("one") is None
    cache.put("two", b"data")
    assert len(files(directory)) == 1
    assert str(directory) in cache.problem
    assert "\n" not in cache.problem


def test_places_that_do_not_serve(tmp_path: Path) -> None:
    real, link, file = tmp_path / "real", tmp_path / "link", tmp_path / "file"
    real.mkdir(0o700)
    link.symlink_to(real)
    file.write_text("x")
    for place in ("", str(link), str(file), str(file / "below"), "/proc/nothing", "nul\0byte"):
        cache = TableCache(place, 1 << 20)
        cache.put("one", b"data")
        assert cache.get("one") is None
        assert bool(cache.problem) is bool(place), place
    assert files(real) == []


@only_root
def test_a_read_only_or_full_file_system(tmp_path: Path) -> None:
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(tmp_path)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        cache = cache_in(tmp_path)
        cache.put("small", b"data")
        cache.put("large", os.urandom(100_000))
        assert "No space" in cache.problem
        assert cache.get("large") is None
        assert cache.get("small") == b"data"
        assert len(files(tmp_path)) == 1, "leavings"
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        cache = cache_in(tmp_path)
        cache.put("other", b"data")
        assert "Read-only" in cache.problem
        assert cache.get("small") == b"data"
        cache.close()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_the_longest_unused_go_first(directory: Path) -> None:
    cache = cache_in(directory, 5000)
    for number in range(4):
        cache.put(f"key {number}", bytes(1000))
        for path in files(directory):  # file systems' clocks are coarse
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
    assert cache.get("key 0") is not None  # used now
    cache.put("key 4", bytes(1000))
    kept = [number for number in range(5) if cache.get(f"key {number}") is not None]
    assert kept == [0, 2, 3, 4]
    cache.put("too large", bytes(5000))
    assert cache.get("too large") is None
    assert sum(path.stat().st_size for path in files(directory)) <= 5000


def test_leavings_of_the_dead_are_removed_and_other_files_are_not(directory: Path) -> None:
    directory.mkdir(0o700)
    old, new, other = (directory / name for name in ("a.part", "b.part", "notes.txt"))
    for path in (old, new, other):
        path.write_bytes(bytes(5000))
    os.utime(old, (0, time.time() - 7200))
    cache_in(directory, 2000).put("one", b"data")
    assert not old.exists()
    assert new.exists()
    assert other.exists()


WRITER = """
import os, sys
from systemscope.elf.cache import TableCache
cache = TableCache(sys.argv[1], 1 << 18)
for number in range(150):
    data = bytes([number]) * (20_000 + number)
    cache.put(f"key {number % 5}", data)
    found = cache.get(f"key {(number + 2) % 5}")
    assert found is None or len(set(found)) == 1 and len(found) == 20_000 + found[0]
assert not cache.problem, cache.problem
"""


def test_two_processes_at_once(directory: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = [subprocess.Popen(command, env=environment) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    cache = cache_in(directory)
    assert all(cache.get(f"key {number}") is not None for number in range(5))
    assert len(files(directory)) == 5


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMSCOPE_CACHE", "/chosen")
    assert default_directory() == "/chosen"
    monkeypatch.setenv("SYSTEMSCOPE_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_directory() == "/var/cache/systemscope", "whatever sudo left in HOME"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert default_directory() == "/xdg/systemscope"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_directory() == "/home/someone/.cache/systemscope"
    monkeypatch.delenv("HOME")
    assert default_directory() == ""
