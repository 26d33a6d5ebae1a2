"""The ABI declarations against the installed headers, and struct layout itself."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace

import pytest

from systemscope.syscalls import bpf_abi, perf_abi
from systemscope.syscalls.layout import Layout
from systemscope.syscalls.numbers import AARCH64, BY_MACHINE, Numbers
from systemscope.syscalls.perf import AttrFlag, PerfEventAttr
from tools import abi_check

COMPILER = shutil.which("cc") or shutil.which("gcc")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")


@needs_compiler
def test_every_number_agrees_with_the_headers() -> None:
    assert COMPILER is not None
    verdict = abi_check.compare(abi_check.checks(), COMPILER)
    assert verdict.differences == ()
    assert verdict.agreed > 700
    assert len(verdict.absent) < 100


@needs_compiler
def test_a_wrong_number_would_be_found() -> None:
    assert COMPILER is not None
    items = [
        abi_check.Check("wrong", 2, "BPF_MAP_TYPE_HASH"),
        abi_check.Check("right", 1, "BPF_MAP_TYPE_HASH"),
        abi_check.Check("unheard of", 1, "BPF_MAP_TYPE_NO_SUCH_THING"),
        abi_check.Check("no member", 1, "offsetof(union bpf_attr, no_such_member)"),
    ]
    verdict = abi_check.compare(items, COMPILER)
    assert verdict.differences == ("wrong: 2 here, 1 in the headers",)
    assert verdict.agreed == 1
    assert set(verdict.absent) == {"unheard of", "no member"}


@pytest.mark.skipif(not abi_check.GENERIC_NUMBERS.exists(), reason="needs kernel headers")
def test_aarch64_numbers() -> None:
    text = abi_check.GENERIC_NUMBERS.read_text(encoding="ascii")
    assert abi_check.generic_differences(text) == []
    assert AARCH64.bpf == 280


def test_a_wrong_aarch64_number_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: Numbers = replace(AARCH64, bpf=1)
    monkeypatch.setattr(abi_check.numbers, "AARCH64", wrong)
    assert abi_check.generic_differences("#define __NR_bpf 280\n") == [
        "aarch64 system call bpf: 1 here, 280 in asm-generic"
    ]


def test_both_machines_are_known() -> None:
    assert set(BY_MACHINE) == {"x86_64", "aarch64"}


def test_natural_alignment() -> None:
    layout = Layout("struct x", ("a", "B"), ("b", "I"), ("c", "H"), ("d", "Q"), ("e", "3s"))
    assert [f.offset for f in layout.fields.values()] == [0, 4, 8, 16, 24]
    assert (layout.end, layout.size) == (27, 32)


def test_nothing_is_masked_into_a_member() -> None:
    with pytest.raises(struct.error):
        bpf_abi.MAP_CREATE.pack_into(bytearray(256), key_size=1 << 32)
    with pytest.raises(struct.error):
        bpf_abi.MAP_CREATE.pack_into(bytearray(256), key_size=-1)
    with pytest.raises(KeyError):
        bpf_abi.MAP_CREATE.pack_into(bytearray(256), no_such_member=1)


def test_unpack_leaves_out_what_the_kernel_did_not_write() -> None:
    assert bpf_abi.BTF_INFO.unpack(bytes(12)) == {"btf": 0, "btf_size": 0}


def test_an_attr_is_as_short_as_it_can_be() -> None:
    assert len(PerfEventAttr(type=1).pack()) == 112
    assert len(PerfEventAttr(type=1, aux_sample_size=1).pack()) == 120
    assert len(PerfEventAttr(type=1, sig_data=1).pack()) == 128
    assert len(PerfEventAttr(type=1, config3=1).pack()) == 136
    data = PerfEventAttr(type=1, flags=AttrFlag.SIGTRAP | AttrFlag.DISABLED, clockid=-1).pack()
    assert perf_abi.ATTR.get(data, "size") == len(data)
    assert perf_abi.ATTR.get(data, "clockid") == -1
    assert struct.unpack_from("=Q", data, 40)[0] == 1 << 37 | 1
