"""One test for each bpf() command's wrapper."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from systemscope.bpfasm.btf import program_btf
from systemscope.bpfasm.types import AttachType, MapFlag, MapType, ProgramType
from systemscope.errors import KernelError
from systemscope.syscalls import bpf
from systemscope.syscalls.bpf_programs import LoadRequest
from systemscope.syscalls.fd import Fd
from tests.kernel.bpf_programs import attach_id, counts, returning, task_iterator, tp_btf_counter

pytestmark = pytest.mark.kernel

KEY, VALUE = 4, 8


def hash_map(entries: int = 64) -> Fd:
    return bpf.map_create(MapType.HASH, KEY, VALUE, entries, 0, "test_hash")


def load(value: int = 3, type: ProgramType = ProgramType.SOCKET_FILTER) -> Fd:
    result = bpf.prog_load(LoadRequest(int(type), returning(value, type).code, name="test_prog"))
    assert result.fd is not None
    return result.fd


def test_map_create_refuses_nonsense() -> None:
    with pytest.raises(KernelError) as caught:
        bpf.map_create(MapType.HASH, 0, 8, 1, name="nonsense")
    assert caught.value.errno == errno.EINVAL
    assert "nonsense" in str(caught.value)


def test_element_commands() -> None:
    with hash_map() as fd:
        one = bpf.MapElements(fd.number, KEY, VALUE)
        assert one.lookup(b"aaaa") is None
        one.update(b"aaaa", b"12345678")
        assert one.lookup(b"aaaa") == b"12345678"
        with pytest.raises(KernelError) as caught:
            one.update(b"aaaa", b"87654321", bpf.UpdateFlag.NOEXIST)
        assert caught.value.errno == errno.EEXIST
        with pytest.raises(KernelError) as caught:
            one.update(b"bbbb", b"87654321", bpf.UpdateFlag.EXIST)
        assert caught.value.errno == errno.ENOENT
        assert one.next_key(None) == b"aaaa"
        assert one.next_key(b"aaaa") is None
        assert one.lookup_and_delete(b"aaaa") == b"12345678"
        assert one.delete(b"aaaa") is False
        one.update(b"cccc", b"00000000")
        assert one.delete(b"cccc") is True


def test_element_sizes_are_checked_before_the_kernel_reads() -> None:
    with hash_map() as fd:
        one = bpf.MapElements(fd.number, KEY, VALUE)
        with pytest.raises(ValueError, match="key of 3"):
            one.lookup(b"abc")
        with pytest.raises(ValueError, match="value of 9"):
            one.update(b"abcd", b"123456789")


def test_batch_commands() -> None:
    with hash_map(1000) as fd:
        keys = b"".join(struct.pack("=I", n) for n in range(1000))
        values = b"".join(struct.pack("=Q", n * n) for n in range(1000))
        assert bpf.map_update_batch(fd.number, keys, values, 1000) == 1000
        batch = bpf.MapBatch(fd.number, KEY, VALUE, 128)
        for delete in (False, True):
            batch.begin()
            seen: dict[int, int] = {}
            last = False
            while not last:
                count, last, some_keys, some_values = batch.next(delete)
                assert count <= 128
                seen.update(zip(some_keys.cast("I"), some_values.cast("Q")))
            assert seen == {n: n * n for n in range(1000)}
        assert bpf.MapElements(fd.number, KEY, VALUE).next_key(None) is None


def test_batch_grows_when_a_bucket_does_not_fit() -> None:
    with hash_map(4096) as fd:
        keys = b"".join(struct.pack("=I", n) for n in range(4096))
        bpf.map_update_batch(fd.number, keys, bytes(8 * 4096), 4096)
        batch = bpf.MapBatch(fd.number, KEY, VALUE, 1)
        seen: list[int] = []
        last = False
        while not last:
            try:
                _, last, some, _ = batch.next()
            except KernelError as error:
                assert error.errno == errno.ENOSPC
                batch.grow()
                continue
            seen += some.cast("I")
        assert sorted(seen) == list(range(4096))


def test_no_batch_on_stack_maps() -> None:
    with bpf.map_create(MapType.STACK_TRACE, 4, 8 * 127, 16) as fd:
        with pytest.raises(KernelError) as caught:
            bpf.MapBatch(fd.number, 4, 8 * 127, 16).next()
        assert caught.value.errno == bpf.ENOTSUPP


def test_map_freeze() -> None:
    with bpf.map_create(MapType.ARRAY, 4, 8, 1, int(MapFlag.RDONLY_PROG)) as fd:
        bpf.map_freeze(fd.number)
        with pytest.raises(KernelError) as caught:
            bpf.MapElements(fd.number, 4, 8).update(bytes(4), bytes(8))
        assert caught.value.errno == errno.EPERM


def test_prog_load_and_run() -> None:
    with load(42) as fd:
        assert bpf.prog_test_run(fd.number, bytes(64)).retval == 42


def test_prog_test_run_of_a_raw_tracepoint_gives_it_its_arguments() -> None:
    spec = returning(5, ProgramType.RAW_TRACEPOINT)
    result = bpf.prog_load(LoadRequest(int(spec.type), spec.code))
    assert result.fd is not None
    with result.fd as fd:
        assert bpf.prog_test_run(fd.number, context=struct.pack("=QQ", 1, 2)).retval == 5


def test_prog_load_tells_the_log() -> None:
    exit_only = bytes([0x95, 0, 0, 0, 0, 0, 0, 0])
    result = bpf.prog_load(
        LoadRequest(int(ProgramType.SOCKET_FILTER), exit_only, log_level=1, log_size=1 << 16)
    )
    assert result.fd is None
    assert result.errno == errno.EACCES
    assert "R0 !read_ok" in result.log


def test_prog_load_says_when_the_log_does_not_fit() -> None:
    request = LoadRequest(
        int(ProgramType.SOCKET_FILTER), returning(0).code, log_level=2, log_size=16
    )
    assert bpf.prog_load(request).errno == errno.ENOSPC


def test_fd_array_is_taken() -> None:
    with hash_map() as map_fd:
        request = LoadRequest(
            int(ProgramType.SOCKET_FILTER), returning(0).code, fd_array=(map_fd.number,)
        )
        result = bpf.prog_load(request)
        assert result.fd is not None
        result.fd.close()


def test_btf_load_and_info() -> None:
    with bpf.btf_load(program_btf(returning(0)).blob) as fd:
        info = bpf.btf_info(fd.number)
        assert not info.kernel
        assert info.size == len(program_btf(returning(0)).blob)
        with bpf.btf_get_fd_by_id(info.id) as again:
            assert bpf.btf_info(again.number).id == info.id


def test_btf_load_says_what_is_wrong() -> None:
    blob = bytearray(program_btf(returning(0)).blob)
    blob[0] ^= 0xFF
    with pytest.raises(KernelError, match="magic") as caught:
        bpf.btf_load(bytes(blob))
    assert caught.value.errno == errno.EINVAL


def test_vmlinux_btf_is_listed() -> None:
    number = bpf.btf_get_next_id()
    assert number > 0
    with bpf.btf_get_fd_by_id(number) as fd:
        assert bpf.btf_info(fd.number).id == number


def test_program_info_and_ids() -> None:
    with load() as fd:
        info = bpf.prog_info(fd.number)
        assert info.name == "test_prog"
        assert info.type == ProgramType.SOCKET_FILTER
        assert info.xlated_bytes == len(returning(3).code)
        assert len(bpf.prog_xlated(fd.number)) == info.xlated_bytes
        assert info.id in _all(bpf.prog_get_next_id)
        with bpf.prog_get_fd_by_id(info.id) as again:
            assert bpf.prog_info(again.number).tag == info.tag


def test_program_map_ids() -> None:
    from systemscope.bpf.map import Map
    from systemscope.bpf.program import Program
    from tests.kernel.bpf_programs import counter

    spec = counts()
    with Map.create(spec) as map, Program.load(counter(spec), {spec: map}) as program:
        assert bpf.prog_map_ids(program.fd) == (map.info().id,)


def test_map_info_and_ids() -> None:
    with hash_map(100) as fd:
        info = bpf.map_info(fd.number)
        assert (info.name, info.key_size, info.value_size) == ("test_hash", KEY, VALUE)
        assert info.max_entries == 100
        assert info.id in _all(bpf.map_get_next_id)
        with bpf.map_get_fd_by_id(info.id) as again:
            assert bpf.map_info(again.number) == info


def test_what_is_gone_is_enoent() -> None:
    with load() as fd:
        number = bpf.prog_info(fd.number).id
    with pytest.raises(KernelError) as caught:
        bpf.prog_get_fd_by_id(number).close()
    assert caught.value.errno == errno.ENOENT


def test_raw_tracepoint_open() -> None:
    with load(0, ProgramType.RAW_TRACEPOINT) as program:
        with bpf.raw_tracepoint_open(program.number, "sched_switch") as link:
            info = bpf.link_info(link.number)
            assert info.type == bpf.LinkType.RAW_TRACEPOINT
            assert info.prog_id == bpf.prog_info(program.number).id
            assert info.id in _all(bpf.link_get_next_id)
            with bpf.link_get_fd_by_id(info.id) as again:
                assert bpf.link_info(again.number) == info
        with pytest.raises(KernelError) as caught:
            bpf.raw_tracepoint_open(program.number, "no_such_tracepoint")
        assert caught.value.errno == errno.ENOENT
        assert "no_such_tracepoint" in str(caught.value)


def _tracing(spec_id: int, code: bytes, attach: AttachType) -> Fd:
    result = bpf.prog_load(
        LoadRequest(
            int(ProgramType.TRACING),
            code,
            attach_btf_id=spec_id,
            expected_attach_type=int(attach),
        )
    )
    assert result.fd is not None, result
    return result.fd


def test_raw_tracepoint_open_without_a_name_attaches_tp_btf() -> None:
    spec = tp_btf_counter(counts())
    program = _tracing(attach_id(spec), returning(0).code, AttachType.TRACE_RAW_TP)
    with program, bpf.raw_tracepoint_open(program.number) as link:
        assert bpf.link_info(link.number).type == bpf.LinkType.RAW_TRACEPOINT


def test_link_create_tracing() -> None:
    spec = tp_btf_counter(counts())
    attach = AttachType.TRACE_RAW_TP
    program = _tracing(attach_id(spec), returning(0).code, attach)
    with program, bpf.link_create_tracing(program.number, int(attach), cookie=7) as link:
        assert bpf.link_info(link.number).type == bpf.LinkType.RAW_TRACEPOINT


def test_link_create_iterator_and_iter_create() -> None:
    spec = task_iterator()
    attach = int(AttachType.TRACE_ITER)
    program = _tracing(attach_id(spec), spec.code, AttachType.TRACE_ITER)
    with program, bpf.link_create_iterator(program.number, attach, tid=os.getpid()) as link:
        assert bpf.link_info(link.number).type == bpf.LinkType.ITER
        with bpf.iter_create(link.number) as stream:
            assert os.read(stream.number, 4096) == b"\1" * 8
        with pytest.raises(KernelError) as caught:
            bpf.link_detach(link.number)
        assert caught.value.errno == errno.EOPNOTSUPP


def test_enable_stats() -> None:
    with bpf.enable_stats(), load(0) as fd:
        before = bpf.prog_info(fd.number).run_cnt
        bpf.prog_test_run(fd.number, bytes(64), repeat=100)
        # Test runs are not counted by all kernels; the call and the member are what is proved.
        assert bpf.prog_info(fd.number).run_cnt >= before


def test_a_closed_descriptor_is_ebadf() -> None:
    with hash_map() as fd:
        number = fd.number
    with pytest.raises(KernelError) as caught:
        bpf.map_info(number)
    assert caught.value.errno in (errno.EBADF, errno.EBADFD)


def _all(step) -> set[int]:  # type: ignore[no-untyped-def]
    found: set[int] = set()
    number = step(0)
    while number:
        found.add(number)
        number = step(number)
    return found
