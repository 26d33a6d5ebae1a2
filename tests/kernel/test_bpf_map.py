"""Maps: every way of reading them gives the same answer, and memory is told."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest

from systemscope.bpf.map import Map, possible_cpus
from systemscope.bpfasm.types import MapFlag, MapSpec, MapType
from systemscope.errors import KernelError
from systemscope.syscalls import bpf
from systemscope.syscalls.fd import Fd

pytestmark = pytest.mark.kernel


def key(number: int) -> bytes:
    return struct.pack("=I", number)


def value(number: int) -> bytes:
    return struct.pack("=Q", number)


def hash_spec(entries: int = 1000, type: MapType = MapType.HASH) -> MapSpec:
    return MapSpec("entries", type, 4, 8, entries)


def contents(pair: tuple[bytes, bytes]) -> dict[int, int]:
    keys, values = pair
    assert len(keys) // 4 == len(values) // 8
    return dict(zip(memoryview(keys).cast("I"), memoryview(values).cast("Q")))


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one by one"])
@pytest.mark.parametrize("entries", [0, 1, 2, 7, 999, 9000])
def test_read_all_and_drain(batch: bool, entries: int) -> None:
    with Map.create(hash_spec(max(entries, 1)), batch=batch) as map:
        for number in range(entries):
            map.update(key(number), value(number * 3))
        expected = {number: number * 3 for number in range(entries)}
        assert contents(map.read_all()) == expected
        assert contents(map.drain()) == expected
        assert contents(map.read_all()) == {}
        assert map.batch is batch


@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one by one"])
def test_arrays_are_read_and_not_drained(batch: bool) -> None:
    spec = MapSpec("cells", MapType.ARRAY, 4, 8, 5000)
    with Map.create(spec, batch=batch) as map:
        map.update(key(4999), value(7))
        for pair in (map.read_all(), map.drain(), map.read_all()):
            found = contents(pair)
            assert len(found) == 5000
            assert found[4999] == 7


@pytest.mark.parametrize("type", [MapType.PERCPU_HASH, MapType.PERCPU_ARRAY])
@pytest.mark.parametrize("batch", [True, False], ids=["batch", "one by one"])
def test_per_cpu_values_come_as_one_for_each_cpu(type: MapType, batch: bool) -> None:
    cpus = possible_cpus()
    spec = MapSpec("percpu", type, 4, 4, 16)  # 4 bytes: rounded up to 8 a CPU
    with Map.create(spec, batch=batch) as map:
        whole = b"".join(struct.pack("=II", cpu + 1, 0) for cpu in range(cpus))
        map.update(key(3), whole)
        assert map.lookup(key(3)) == whole
        keys, values = map.read_all()
        at = list(memoryview(keys).cast("I")).index(3) * map.value_bytes
        assert values[at : at + map.value_bytes] == whole


def test_maps_without_batch_are_read_one_by_one() -> None:
    spec = MapSpec("stacks", MapType.STACK_TRACE, 4, 8 * 16, 64)
    with Map.create(spec) as map:
        assert not map.batch
        assert map.read_all() == (b"", b"")


def test_a_refused_batch_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(self: bpf.MapBatch, delete: bool = False) -> None:
        calls.append(delete)
        raise KernelError("BPF_MAP_LOOKUP_BATCH", "map", bpf.ENOTSUPP)

    monkeypatch.setattr(bpf.MapBatch, "next", refuse)
    with Map.create(hash_spec()) as map:
        map.update(key(1), value(2))
        assert contents(map.read_all()) == {1: 2}
        assert contents(map.drain()) == {1: 2}
        assert len(calls) == 1


def test_lookup_update_delete() -> None:
    with Map.create(hash_spec(2)) as map:
        assert map.lookup(key(1)) is None
        map.update(key(1), value(1))
        with pytest.raises(KernelError, match="EEXIST"):
            map.update(key(1), value(2), bpf.UpdateFlag.NOEXIST)
        map.update(key(2), value(2))
        with pytest.raises(KernelError, match="E2BIG"):
            map.update(key(3), value(3))
        assert map.delete(key(1))
        assert not map.delete(key(1))


def test_mmap_shares_the_array() -> None:
    spec = MapSpec("shared", MapType.ARRAY, 4, 8, 1000, MapFlag.MMAPABLE)
    with Map.create(spec) as map, map.mmap() as shared:
        assert len(shared) == 8000
        map.update(key(10), value(0x1234))
        assert struct.unpack_from("=Q", shared, 80)[0] == 0x1234
        struct.pack_into("=Q", shared, 88, 77)
        assert map.lookup(key(11)) == value(77)


def test_mmap_of_another_map_is_refused() -> None:
    with Map.create(hash_spec()) as map, pytest.raises(ValueError, match="MMAPABLE"):
        map.mmap()


def test_task_storage_gets_the_btf_it_needs() -> None:
    spec = MapSpec("storage", MapType.TASK_STORAGE, 4, 40, 0, MapFlag.NO_PREALLOC)
    with Map.create(spec) as map:
        info = map.info()
        assert info.btf_key_type_id and info.btf_value_type_id
        with bpf.btf_get_fd_by_id(info.btf_id):
            pass


def test_a_map_can_carry_its_records_as_btf() -> None:
    from tests.kernel.bpf_programs import Count

    with Map.create(hash_spec(), key=None, value=Count) as map:
        assert map.info().btf_value_type_id
        map.update(key(1), value(2))
        assert map.lookup(key(1)) == value(2)


def test_memory_is_told_and_grows_with_the_map() -> None:
    with Map.create(hash_spec(10)) as small, Map.create(hash_spec(100_000)) as large:
        assert 0 < small.memory_bytes() < large.memory_bytes()
        assert large.memory_bytes() >= 100_000 * 12


def test_names_are_made_safe_and_can_be_left_out() -> None:
    spec = MapSpec("a-very long name;x", MapType.ARRAY, 4, 8, 1)
    with Map.create(spec) as map:
        assert map.info().name == "a_very_long_nam"
    with Map.create(spec, named=False) as map:
        assert map.info().name == ""


def test_a_closed_map_says_so() -> None:
    map = Map.create(hash_spec())
    map.close()
    map.close()
    assert map.closed
    with pytest.raises(ValueError, match="closed"):
        map.read_all()


def test_a_kernel_that_knows_no_names_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bpf.map_create

    def old_kernel(*arguments: Any, **members: Any) -> Fd:
        if arguments[5]:
            raise KernelError("BPF_MAP_CREATE", "map", errno.EINVAL)
        return real(*arguments, **members)

    monkeypatch.setattr(bpf, "map_create", old_kernel)
    with Map.create(hash_spec()) as map:
        assert map.info().name == ""


def test_memlock_is_raised_when_the_kernel_counts_against_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, raised = bpf.map_create, []

    def old_kernel(*arguments: Any, **members: Any) -> Fd:
        if not raised:
            raise KernelError("BPF_MAP_CREATE", "map", errno.EPERM)
        return real(*arguments, **members)

    def raise_it() -> bool:
        raised.append(True)
        return True

    monkeypatch.setattr(bpf, "map_create", old_kernel)
    monkeypatch.setattr("systemscope.bpf.map.raise_memlock", raise_it)
    Map.create(hash_spec()).close()
    assert raised == [True]


def test_a_true_refusal_is_raised() -> None:
    with pytest.raises(KernelError, match="EINVAL"):
        Map.create(MapSpec("wrong", MapType.HASH, 0, 8, 1))
