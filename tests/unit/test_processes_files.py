"""Paths inside another root, and the files behind mappings."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from systemscope.errors import KernelError
from systemscope.model import FileId, Mapping
from systemscope.processes import rooted
from systemscope.processes.files import FileStore

GONE = 2**22 + 1  # beyond any pid_max


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "secret").write_text("outside")
    inside = tmp_path / "root"
    (inside / "usr" / "lib").mkdir(parents=True)
    (inside / "usr" / "lib" / "libx.so").write_text("inside")
    (inside / "lib").symlink_to("usr/lib")
    (inside / "abs").symlink_to("/usr/lib/libx.so")
    (inside / "out").symlink_to("../secret")
    (inside / "far").symlink_to("/../../../../../../etc/passwd")
    (inside / "loop").symlink_to("loop")
    (inside / "up").symlink_to("usr/../usr/./lib/../lib")
    descriptor = os.open(inside, os.O_PATH)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize(
    ("path", "ends"),
    [
        ("/usr/lib/libx.so", "/usr/lib/libx.so"),
        ("usr//lib/./libx.so", "/usr/lib/libx.so"),
        ("/lib/libx.so", "/usr/lib/libx.so"),
        ("/abs", "/usr/lib/libx.so"),
        ("/up/libx.so", "/usr/lib/libx.so"),
        ("/../../lib/libx.so", "/usr/lib/libx.so"),
        ("/", ""),
        ("/out", None),
        ("/far", None),
        ("/loop", None),
        ("/../secret", None),
        ("/usr/lib/libx.so/..", None),
        ("/none", None),
        ("/nul\0", None),
        ("/" + "x" * 300, None),
    ],
)
def test_paths_stay_inside(
    root: int,
    tmp_path: Path,
    path: str,
    ends: Optional[str],
    by_hand: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if by_hand:

        def missing(*_: object) -> int:
            raise KernelError("openat2", "x", 38)

        monkeypatch.setattr(rooted, "openat2", missing)
    found = rooted.open_in_root(root, path)
    if ends is None:
        assert found is None
    else:
        assert found is not None
        assert os.readlink(f"/proc/self/fd/{found}") == f"{tmp_path}/root{ends}"
        os.close(found)


def test_walks_are_bounded(root: int) -> None:
    assert rooted.walk_in_root(root, b"./" * 5000) is None
    before = os.listdir("/proc/self/fd")
    assert rooted.walk_in_root(root, b"usr/lib/" * 10 + b"none") is None
    assert os.listdir("/proc/self/fd") == before


def mapping_of(path: Path, **changes: int) -> Mapping:
    status = path.stat()
    device = os.major(status.st_dev), os.minor(status.st_dev)
    file = FileId(*device, changes.get("inode", status.st_ino), changes.get("generation", 0))
    return Mapping(0x1000, 0x2000, 0, str(path), file)


def read_and_close(descriptor: Optional[int]) -> Optional[bytes]:
    if descriptor is None:
        return None
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def test_a_dead_process_s_file_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "app"
    file.write_text("code")
    with FileStore() as store:
        assert read_and_close(store.open(GONE, mapping_of(file))) == b"code"


def test_another_file_of_that_name_is_not_it(tmp_path: Path) -> None:
    file = tmp_path / "app"
    file.write_text("code")
    mapping = mapping_of(file)
    other = tmp_path / "other"
    other.write_text("newer")
    other.replace(file)
    with FileStore(lambda tgid: True) as store:
        assert store.open(GONE, mapping) is None
        assert not store.pin(GONE, mapping)


def test_another_device_counts_only_for_strangers(tmp_path: Path) -> None:
    """Overlayfs and btrfs: stat(2) tells another device than mappings do."""
    file = tmp_path / "app"
    file.write_text("code")
    inode = file.stat().st_ino
    mapping = Mapping(0x1000, 0x2000, 0, str(file), FileId(0, 99, inode))
    with FileStore(lambda tgid: False) as store:
        assert store.open(GONE, mapping) is None
    with FileStore(lambda tgid: tgid == GONE) as store:
        assert read_and_close(store.open(GONE, mapping)) == b"code"


def test_pinned_files_outlive_their_names(tmp_path: Path) -> None:
    file = tmp_path / "app"
    file.write_text("code")
    mapping = mapping_of(file)
    with FileStore() as store:
        assert store.pin(GONE, mapping)
        assert store.pin(GONE, mapping)
        assert len(store) == 1
        file.unlink()
        first, second = store.open(GONE, mapping), store.open(GONE, mapping)
        assert read_and_close(first) == read_and_close(second) == b"code"  # own offsets
        store.close()
        assert store.open(GONE, mapping) is None


def test_an_inode_number_used_again(tmp_path: Path) -> None:
    file = tmp_path / "app"
    file.write_text("code")
    with FileStore() as store:
        assert store.pin(GONE, mapping_of(file, generation=1))
        assert store.open(GONE, mapping_of(file)) is not None  # /proc tells no generation
        assert store.pin(GONE, mapping_of(file, generation=2))
        assert len(store) == 1


def test_fifos_devices_and_directories_are_not_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with FileStore(lambda tgid: True) as store:
        assert store.open(GONE, mapping_of(fifo)) is None  # and does not wait for a writer
        assert store.open(GONE, mapping_of(tmp_path)) is None
        assert store.open(GONE, mapping_of(Path("/dev/null"))) is None


@pytest.mark.parametrize("path", ["", "[vdso]", "relative", "/nul\0", "//anon", "/dev/zero"])
def test_odd_mappings_have_no_file(path: str) -> None:
    with FileStore(lambda tgid: True) as store:
        for file in (None, FileId(1, 1, 1)):
            mapping = Mapping(0x1000, 0x2000, 0, path, file)
            assert store.open(GONE, mapping) is None
            assert not store.pin(GONE, mapping)


def test_pins_are_bounded(tmp_path: Path) -> None:
    with FileStore(limit=3) as store:
        for index in range(5):
            file = tmp_path / str(index)
            file.write_text("x")
            assert store.pin(GONE, mapping_of(file)) == (index < 3)
        assert (len(store), store.refused) == (3, 2)
        assert read_and_close(store.open(GONE, mapping_of(file))) == b"x"


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    file = tmp_path / "app"
    file.write_text("code")
    before = set(os.listdir("/proc/self/fd"))
    with FileStore() as store:
        store.pin(GONE, mapping_of(file))
        store.pin(os.getpid(), mapping_of(file))
        store.open(GONE, mapping_of(file, inode=1))
        assert read_and_close(store.open(os.getpid(), mapping_of(file))) == b"code"
    assert set(os.listdir("/proc/self/fd")) == before


def test_limits_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    assert FileStore()._limit == 50
