"""Unwind tables by way of the disk cache."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from systemscope.elf import ElfError, ElfImage
from systemscope.elf.cache import TableCache
from systemscope.elf.unwind_cache import (
    cached_unwind_table,
    decode_table,
    encode_table,
    table_key,
)
from systemscope.elf.unwind_table import build_unwind_table
from tests.unit.cfi_maker import TEXT, Frames, Image, check_packing

FRAMES = bytes(Frames().cie().fde(TEXT, 0x300, b"\x41\x0e\x10\x86\x02").data)
DEBUG = bytes(Frames(debug=True).cie(augmentation=b"").fde(TEXT + 0x400, 16).data)
HEADER = 64


@pytest.fixture
def cache(tmp_path: Path) -> TableCache:
    return TableCache(str(tmp_path / "cache"), 1 << 20)


def test_the_second_time_a_table_comes_from_the_cache(cache: TableCache) -> None:
    image = Image(FRAMES, DEBUG).elf()
    built, hit = cached_unwind_table(image, cache)
    assert not hit
    again, hit = cached_unwind_table(image, cache)
    assert hit
    assert again == built == build_unwind_table(image)
    assert again is not None
    check_packing(again)
    assert cached_unwind_table(image, None) == (built, False)
    with pytest.raises(ElfError):
        cached_unwind_table(image, cache, 100)


def test_that_there_is_no_table_is_kept_too(cache: TableCache) -> None:
    image = Image(entry=5).elf()
    assert cached_unwind_table(image, cache) == (None, False)
    assert cached_unwind_table(image, cache) == (None, True)


def test_whatever_makes_another_table_makes_another_key() -> None:
    """Also in images of more than the size that is taken in whole."""
    keys = set()
    padding = bytes(300_000)
    variants = [
        Image(FRAMES, code=padding),
        Image(FRAMES[:-1] + b"\1", code=padding),
        Image(FRAMES, DEBUG, code=padding),
        Image(FRAMES, DEBUG[:-1] + b"\1", code=padding),
        Image(FRAMES, DEBUG, debug_flags=0x800, code=padding),
        Image(FRAMES, entry=TEXT + 0x500, code=padding),
        Image(FRAMES, text_size=0x200, code=padding),
        Image(FRAMES, machine=183, code=padding),
        Image(b"", FRAMES, code=padding),
        Image(FRAMES, sections=False, search_table=1, code=padding),
        Image(FRAMES, sections=False, search_table=2, code=padding),
        Image(FRAMES),
        Image(FRAMES, code=b"other code"),
    ]
    for variant in variants:
        keys.add(table_key(variant.elf()))
    assert len(keys) == len(variants)
    assert table_key(variants[0].elf()) in keys, "the same for the same"
    other_code = Image(FRAMES, code=padding[:-1] + b"\1")
    assert table_key(other_code.elf()) in keys, "large code is not looked at"


def test_a_forged_build_id_spoils_nobody_elses_table(cache: TableCache) -> None:
    """Two files without one here: the key does not rest on it."""
    evil = Image(bytes(Frames().cie().fde(TEXT, 0x300, b"\x0e\x77").data)).elf()
    good = Image(FRAMES).elf()
    assert evil.build_id == good.build_id
    cached_unwind_table(evil, cache)
    table, hit = cached_unwind_table(good, cache)
    assert not hit
    assert table == build_unwind_table(good)


def test_what_the_cache_holds_is_checked() -> None:
    table = build_unwind_table(Image(FRAMES).elf())
    assert table is not None
    whole = encode_table(table)
    assert decode_table(whole) == table
    lies = [
        dataclasses.replace(table, blocks=0),
        dataclasses.replace(table, blocks=table.rules_at),
        dataclasses.replace(table, blocks=1 << 40),
        dataclasses.replace(table, low=1),
        dataclasses.replace(table, low=1 << 60),
        dataclasses.replace(table, rules=0),
        dataclasses.replace(table, rules=1),
        dataclasses.replace(table, rules=1 << 30),
        dataclasses.replace(table, rules_at=table.rules_at + 1),
        dataclasses.replace(table, rules_at=1 << 20),
        dataclasses.replace(table, rules_at=0),
        dataclasses.replace(table, words=table.words[:-4]),
        dataclasses.replace(table, words=b""),
        dataclasses.replace(table, words=b"\xff" * 4 + table.words[4:]),
        dataclasses.replace(table, words=bytes(4) + table.words[4:]),
    ]
    for lie in lies:
        assert decode_table(encode_table(lie)) is None, lie
    for length in range(HEADER + 1):
        assert decode_table(whole[:length]) is None
    for position in range(HEADER):
        for bit in range(8):
            data = bytearray(whole)
            data[position] ^= 1 << bit
            found = decode_table(bytes(data))
            if found is not None:
                found.rule_at(TEXT)
                found.rule_at(TEXT + 0x2FF)


def test_a_blob_of_nonsense_is_built_anew(cache: TableCache) -> None:
    image = Image(FRAMES).elf()
    for nonsense in (b"", b"nonsense", bytes(4096 + HEADER)):
        cache.put(table_key(image), nonsense)
        table, hit = cached_unwind_table(image, cache)
        assert not hit
        assert table is not None
        assert cached_unwind_table(image, cache) == (table, True)


def test_a_cache_that_does_not_serve_changes_nothing() -> None:
    cache = TableCache("/proc/nothing", 1 << 20)
    image = ElfImage.from_bytes(Image(FRAMES).build())
    assert cached_unwind_table(image, cache) == (build_unwind_table(image), False)
    assert cache.problem
