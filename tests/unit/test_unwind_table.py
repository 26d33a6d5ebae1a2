"""Unwind tables from call frame information put together by hand."""

from __future__ import annotations

import zlib
from struct import pack

import pytest

from systemscope.elf import ElfError
from systemscope.elf.image import ElfImage
from systemscope.elf.unwind_rules import RULE
from systemscope.elf.unwind_stubs import go_bottoms
from systemscope.elf.unwind_table import CfaKind, Rule, SaveKind, UnwindTable, build_unwind_table
from systemscope.programs.unwind_kinds import Cfa, Save
from tests.unit.cfi_maker import (
    ARM_INITIAL,
    TEXT,
    X86_INITIAL,
    Frames,
    Image,
    block,
    check_packing,
    sleb,
    uleb,
)
from tests.unit.elf_maker import Maker, Sym

K, S = CfaKind, SaveKind
NONE = Rule(0, 0, 0, 0, 0, 0, 0, 0, 0)
CALLED = Rule(K.STACK, S.SAME, S.AT_CFA, S.SAME, 8, 0, 0, -8, 0)  # x86-64 at a function's start

# gcc's prologue: push rbp; mov rbp, rsp; ...; leave; ret
PUSHED = b"\x41\x0e\x10\x86\x02"  # advance 1; def_cfa_offset 16; offset rbp -16
FRAMED = b"\x43\x0d\x06"  # advance 3; def_cfa_register rbp


def table_of(frames: Frames, **image: object) -> UnwindTable:
    table = build_unwind_table(Image(bytes(frames.data), **image).elf())  # type: ignore[arg-type]
    assert table is not None
    check_packing(table)
    return table


def rule_after(code: bytes, **cie: object) -> Rule:
    """The rule in force at the end of a function with these instructions."""
    frames = Frames().cie(**cie).fde(TEXT, 64, code)  # type: ignore[arg-type]
    return table_of(frames).rule_at(TEXT + 63)


def test_the_numbers_are_those_the_walker_knows() -> None:
    names = "NONE UNSUPPORTED ENTRY STACK FRAME EXTRA STACK_DEREF FRAME_DEREF PLT SIGNAL REGISTER"
    assert " ".join(kind.name for kind in CfaKind) == names
    assert [int(kind) for kind in CfaKind] == list(range(11))
    saves = "SAME AT_CFA AT_FRAME LOST IN_REGISTER"
    assert " ".join(kind.name for kind in SaveKind) == saves
    assert [int(kind) for kind in SaveKind] == list(range(5))
    # The walker may not know the tables' reader: it has the numbers twice.
    assert {one.name: int(one) for one in Save} == {one.name: int(one) for one in SaveKind}
    told = {one.name: int(one) for one in Cfa}
    assert told == {one.name: int(one) for one in CfaKind if one is not CfaKind.REGISTER}
    assert RULE.size == 16
    assert RULE.pack(3, 1, 1, 0, 16, 2, -16, -8, 5) == bytes.fromhex(
        "03010100 10000000 0200 f0ff f8ff 0500"
    )


def test_a_function_with_a_frame() -> None:
    frames = Frames().cie().fde(TEXT + 0x10, 0x30, PUSHED + FRAMED + b"\x60\x0c\x07\x08")
    table = table_of(frames)
    pushed = CALLED._replace(fp=S.AT_CFA, offset=16, fp_offset=-16)
    assert (table.low, table.blocks, table.rules, table.fdes, table.skipped) == (TEXT, 1, 5, 1, 0)
    assert table.source == ".eh_frame"
    assert table.rule_at(TEXT) == table.rule_at(TEXT + 0xF) == NONE
    assert table.rule_at(TEXT + 0x10) == CALLED
    assert table.rule_at(TEXT + 0x11) == table.rule_at(TEXT + 0x13) == pushed
    assert table.rule_at(TEXT + 0x14) == pushed._replace(cfa=K.FRAME)
    assert table.rule_at(TEXT + 0x33) == pushed._replace(cfa=K.FRAME)
    assert table.rule_at(TEXT + 0x34) == pushed._replace(offset=8)
    assert table.rule_at(TEXT + 0x3F) == pushed._replace(offset=8)
    for outside in (TEXT + 0x40, TEXT + 0x100, TEXT - 1, 0, 1 << 63):
        assert table.rule_at(outside) == NONE


def test_a_rule_goes_on_in_the_blocks_that_follow() -> None:
    frames = Frames().cie().fde(TEXT + 8, 0x500, PUSHED).fde(TEXT + 0x600, 0x100)
    table = table_of(frames)
    pushed = CALLED._replace(fp=S.AT_CFA, offset=16, fp_offset=-16)
    assert table.blocks == 8
    for address in range(TEXT + 9, TEXT + 0x508):
        assert table.rule_at(address) == pushed
    assert table.rule_at(TEXT + 0x508) == table.rule_at(TEXT + 0x5FF) == NONE
    assert table.rule_at(TEXT + 0x6FF) == CALLED
    assert table.rule_at(TEXT + 0x700) == NONE
    assert table.rows < 10, "blocks without a change share their row"


def test_functions_side_by_side_need_no_row_between_them() -> None:
    table = table_of(Frames().cie().fde(TEXT, 16).fde(TEXT + 16, 16).fde(TEXT + 32, 16))
    assert table.rows == 2


def test_rows_of_a_block_stay_in_one_page() -> None:
    frames = Frames().cie()
    for number in range(40):
        rows = b"".join(b"\x42\x0e" + uleb(8 * (i + number) + 800) for i in range(100))
        frames.fde(TEXT + 256 * number, 256, rows)
    table = table_of(frames)
    assert table.rows == 40 * 101 + 1
    assert table.rule_at(TEXT + 255).offset == 8 * 199


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (b"\x0c\x06\x10", CALLED._replace(cfa=K.FRAME, offset=16)),
        (b"\x0c\x03\x18", CALLED._replace(cfa=K.EXTRA, offset=24)),
        (b"\x0c\x0a\x00", CALLED._replace(cfa=K.REGISTER, offset=0, add=10)),
        (b"\x12\x07\x7e", CALLED._replace(offset=16)),  # def_cfa_sf, in units of -8
        (b"\x13\x7d", CALLED._replace(offset=24)),  # def_cfa_offset_sf
        (b"\x0e" + uleb(1 << 30), CALLED._replace(offset=1 << 30)),
        (b"\x0e" + uleb(1 << 31), NONE._replace(cfa=K.UNSUPPORTED)),
        (b"\x83\x03", CALLED._replace(extra=S.AT_CFA, extra_offset=-24)),
        (b"\x05\x06\x02", CALLED._replace(fp=S.AT_CFA, fp_offset=-16)),  # offset_extended
        (b"\x11\x06\x7e", CALLED._replace(fp=S.AT_CFA, fp_offset=16)),  # and _sf
        (b"\x2f\x06\x02", CALLED._replace(fp=S.AT_CFA, fp_offset=16)),  # GNU_negative
        (b"\x86" + uleb(1 << 13), CALLED._replace(fp=S.LOST)),  # does not fit
        (b"\x86\x02\x07\x06", CALLED._replace(fp=S.LOST)),  # undefined
        (b"\x86\x02\x08\x06", CALLED),  # same_value
        (b"\x86\x02\xc6", CALLED),  # restore
        (b"\x86\x02\x06\x06", CALLED),  # restore_extended
        (b"\x07\x10\xd0", CALLED),  # restore of the return address: what the CIE says
        (b"\x07\x10", NONE._replace(cfa=K.ENTRY)),
        (b"\x08\x10", CALLED._replace(ra=S.LOST, ra_offset=0)),
        (b"\x09\x10\x05", CALLED._replace(ra=S.IN_REGISTER, ra_offset=0)),  # register: vfork
        (b"\x09\x10\x04", CALLED._replace(ra=S.LOST, ra_offset=0)),
        (b"\x14\x06\x02", CALLED._replace(fp=S.LOST)),  # val_offset
        (b"\x15\x06\x02", CALLED._replace(fp=S.LOST)),
        (b"\x10\x06" + block(b"\x76\x78"), CALLED._replace(fp=S.AT_FRAME, fp_offset=-8)),
        (b"\x10\x06" + block(b"\x70\x78"), CALLED._replace(fp=S.LOST)),
        (b"\x16\x06" + block(b"\x76\x78"), CALLED._replace(fp=S.LOST)),  # val_expression
        (b"\x2e\x10\x2d", CALLED),  # GNU_args_size; negate_ra_state
        (b"\x0a\x86\x02\x0e\x10\x0b", CALLED),  # remember, restore
        (b"\x8c\x02\x8f\x03\x05\x40\x02\x05\x80\x01\x02", CALLED),  # of registers of no interest
        (b"\x0f" + block(b"\x77\x08\x06"), CALLED._replace(cfa=K.STACK_DEREF)),
        (b"\x0f" + block(b"\x76\x78\x06"), CALLED._replace(cfa=K.FRAME_DEREF, offset=-8)),
        (
            b"\x0f" + block(b"\x77" + sleb(152) + b"\x06\x23\x08"),  # OpenSSL's assembler
            CALLED._replace(cfa=K.STACK_DEREF, offset=152, add=8),
        ),
        (
            b"\x0f" + block(b"\x92\x06\x58\x06\x08\x10\x22"),  # bregx, const1u, plus
            CALLED._replace(cfa=K.FRAME_DEREF, offset=-40, add=16),
        ),
        (b"\x0f" + block(b"\x77\x10\x38\x1c"), CALLED),  # sp + 16 - lit8
        (b"\x0f" + block(b"\x7a\x78\x06"), NONE._replace(cfa=K.UNSUPPORTED)),  # by r10
        (b"\x0f" + block(b"\x77\x08\x06\x06"), NONE._replace(cfa=K.UNSUPPORTED)),  # loads twice
        (b"\x0f" + block(b"\x22"), NONE._replace(cfa=K.UNSUPPORTED)),  # an empty stack
        (b"\x0f" + block(b""), NONE._replace(cfa=K.UNSUPPORTED)),
        (b"\x0f" + block(b"\x77" * 100), NONE._replace(cfa=K.UNSUPPORTED)),
    ],
)
def test_rules(code: bytes, expected: Rule) -> None:
    assert rule_after(code) == expected


@pytest.mark.parametrize("literal", [10, 11])
def test_linkage_stubs(literal: int) -> None:
    expression = bytes([0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x30 + literal, 0x2A, 0x33, 0x24, 0x22])
    found = rule_after(b"\x0e\x10\x46\x0f" + block(expression))
    assert found == CALLED._replace(cfa=K.PLT, offset=8, add=literal)
    unlike = expression[:-1] + b"\x1c"
    assert rule_after(b"\x0f" + block(unlike)).cfa == K.UNSUPPORTED


def test_a_signal_frame_of_x86_64() -> None:
    """As glibc's __restore_rt describes it: everything lies in the context on the stack."""
    saved = {3: 128, 6: 120, 16: 168}
    code = b"\x0f" + block(b"\x77" + sleb(160) + b"\x06")
    for register, place in saved.items():
        code += b"\x10" + uleb(register) + block(b"\x77" + sleb(place))
    expected = Rule(K.SIGNAL, S.AT_CFA, S.AT_CFA, S.AT_CFA, 160, 0, 120, 168, 128)
    assert rule_after(code, augmentation=b"zRS") == expected
    assert rule_after(code).cfa == K.STACK_DEREF, "not marked as one"
    without = b"\x0f" + block(b"\x77" + sleb(160) + b"\x06") + b"\x10\x10" + block(b"\x77\x08")
    expected = Rule(K.SIGNAL, S.LOST, S.AT_CFA, S.LOST, 160, 0, 0, 8, 0)
    assert rule_after(without, augmentation=b"zRS") == expected
    assert rule_after(b"", augmentation=b"zRS") == CALLED, "an ordinary frame all the same"


def arm(code: bytes, **image: object) -> UnwindTable:
    frames = Frames().cie(ARM_INITIAL, factors=b"\x04\x78", return_address=30).fde(TEXT, 64, code)
    return table_of(frames, machine=183, **image)


def test_aarch64() -> None:
    leaf = Rule(K.STACK, S.SAME, S.SAME, S.SAME, 0, 0, 0, 0, 0)
    # sub sp, sp, 48 with x29, x30 stored; negate_ra_state; mov x29, sp
    table = arm(b"\x41\x0e\x30\x9d\x06\x9e\x05\x2d\x41\x0d\x1d")
    assert table.rule_at(TEXT) == table.rule_at(TEXT + 3) == leaf
    framed = Rule(K.STACK, S.AT_CFA, S.AT_CFA, S.SAME, 48, 0, -48, -40, 0)
    assert table.rule_at(TEXT + 4) == table.rule_at(TEXT + 7) == framed
    assert table.rule_at(TEXT + 8) == framed._replace(cfa=K.FRAME)
    assert arm(b"\x07\x1e").rule_at(TEXT).cfa == K.ENTRY


def test_a_large_frame_of_aarch64() -> None:
    """The saves lie too far from the CFA for their fields, but close to x29."""
    code = b"\x0c\x1d" + uleb(80000) + b"\x9d" + uleb(9998) + b"\x9e" + uleb(9997)
    expected = Rule(K.FRAME, S.AT_FRAME, S.AT_FRAME, S.SAME, 80000, 0, 16, 24, 0)
    assert arm(code).rule_at(TEXT) == expected


def test_the_signal_trampoline_of_aarch64() -> None:
    """Its CFI finds a frame record whose return address is the interrupted x30, not the pc."""
    frames = Frames().cie(ARM_INITIAL, b"zRS", b"\x1b", factors=b"\x04\x78", return_address=30)
    frames.fde(TEXT, 12, b"\x0c\x1d\x00\x9d\x00\x11\x1e\x7f")
    code = bytes.fromhex("1f2003d5 681180d2 010000d4")  # nop; mov x8, #139; svc #0
    table = table_of(frames, machine=183, code=code)
    expected = Rule(K.SIGNAL, S.AT_CFA, S.AT_CFA, S.AT_CFA, 560, 0, 544, 568, 552)
    assert table.rule_at(TEXT) == table.rule_at(TEXT + 11) == expected
    other = table_of(frames, machine=183, code=code[:8] + bytes(4))
    assert other.rule_at(TEXT) == Rule(K.FRAME, S.AT_CFA, S.AT_CFA, S.SAME, 0, 0, 0, 8, 0)


def test_the_signal_trampoline_that_nobody_describes() -> None:
    """As in aarch64's vdso since Linux 5.8: known by its instructions."""
    frames = Frames().cie(ARM_INITIAL, factors=b"\x04\x78", return_address=30).fde(TEXT, 16)
    code = bytes(16) + bytes.fromhex("1f2003d5 681180d2 010000d4 1f2003d5")
    table = table_of(frames, machine=183, code=code)
    expected = Rule(K.SIGNAL, S.AT_CFA, S.AT_CFA, S.AT_CFA, 560, 0, 544, 568, 552)
    assert [table.rule_at(TEXT + at) for at in (16, 27)] == [expected] * 2
    assert table.rule_at(TEXT + 28) == NONE and table.rule_at(TEXT + 15).cfa == K.STACK
    other = table_of(frames, machine=183, code=code[:20] + bytes(8))
    assert other.rule_at(TEXT + 16) == NONE


def test_a_return_address_in_another_register_is_lost() -> None:
    frames = Frames().cie(ARM_INITIAL, factors=b"\x04\x78", return_address=15).fde(TEXT, 64)
    found = table_of(frames, machine=183).rule_at(TEXT)
    assert found == Rule(K.STACK, S.SAME, S.LOST, S.SAME, 0, 0, 0, 0, 0)


def test_where_functions_overlap_the_first_keeps_the_code() -> None:
    frames = Frames().cie()
    frames.fde(TEXT + 0x10, 0x20, b"\x48\x0e\x18").fde(TEXT, 0x18, b"\x0e\x10")
    frames.fde(TEXT + 0x18, 4, b"\x0e\x20").fde(TEXT + 0x10, 0x100, b"\x0e\x28")
    table = table_of(frames)
    offsets = [table.rule_at(TEXT + at).offset for at in (0, 0x17, 0x18, 0x2F, 0x30, 0x10F, 0x110)]
    assert offsets == [16, 16, 24, 24, 40, 40, 0]


def test_rows_end_with_their_function_and_functions_with_their_segment() -> None:
    table = table_of(Frames().cie().fde(TEXT, 8, b"\x44\x0e\x10\x44\x0e\x18").fde(TEXT + 16, 8))
    assert table.rule_at(TEXT + 7).offset == 16
    assert table.rule_at(TEXT + 8) == NONE
    table = table_of(Frames().cie().fde(TEXT, 1 << 31).fde(0, 100), text_size=0x180)
    assert (table.blocks, table.fdes, table.skipped) == (2, 1, 1)
    assert table.rule_at(TEXT + 0x17F) == CALLED
    assert table.rule_at(TEXT + 0x180) == NONE


def test_the_start_of_the_program_is_its_outermost_frame() -> None:
    frames = Frames().cie().fde(TEXT + 0x100, 16)
    table = table_of(frames, entry=TEXT + 0x20)
    kinds = [table.rule_at(TEXT + at).cfa for at in (0x1F, 0x20, 0x5F, 0x60, 0x100)]
    assert kinds == [K.NONE, K.ENTRY, K.ENTRY, K.NONE, K.STACK]
    table = table_of(frames, entry=TEXT + 0xF0)
    assert [table.rule_at(TEXT + at).cfa for at in (0xFF, 0x100)] == [K.ENTRY, K.STACK]
    assert table_of(frames, entry=TEXT + 0x108).rule_at(TEXT + 0x108) == CALLED
    assert table_of(frames, entry=0x40).low == TEXT + 0x100, "no code there"


def debug(wide: bool = False, version: int = 4) -> Frames:
    frames = Frames(debug=True, wide=wide)
    return frames.cie(X86_INITIAL, b"", b"", version=version)


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("version", [1, 3, 4])
def test_debug_frame(wide: bool, version: int) -> None:
    data = bytes(debug(wide, version).fde(TEXT, 64, PUSHED).data)
    table = build_unwind_table(Image(debug_frame=data).elf())
    assert table is not None
    check_packing(table)
    assert table.source == ".debug_frame"
    assert [table.rule_at(TEXT + at).offset for at in (0, 1, 63, 64)] == [8, 16, 16, 0]


def test_compressed_debug_frame() -> None:
    data = bytes(debug().fde(TEXT, 64, PUSHED).data)
    packed = zlib.compress(data)
    for image in (
        Image(debug_frame=pack("<IIQQ", 1, 0, len(data), 8) + packed, debug_flags=0x800),
        Image(debug_frame=pack(">4sQ", b"ZLIB", len(data)) + packed, debug_name=".zdebug_frame"),
    ):
        table = build_unwind_table(image.elf())
        assert table is not None
        assert table.rule_at(TEXT + 63).offset == 16
    for head in (pack("<IIQQ", 9, 0, len(data), 8), pack("<IIQQ", 1, 0, 0, 8), b"short"):
        broken = Image(debug_frame=head + packed[:20], debug_flags=0x800)
        assert build_unwind_table(broken.elf()) is None


def test_debug_frame_serves_what_eh_frame_does_not_cover() -> None:
    frames = Frames().cie().fde(TEXT + 0x10, 0x10).fde(TEXT + 0x40, 0x10)
    more = debug().fde(TEXT, 0x60, b"\x0e\x10\x70\x0e\x18").fde(TEXT + 0x80, 8).fde(TEXT + 0x40, 8)
    table = table_of(frames, debug_frame=bytes(more.data))
    places = (0, 0x10, 0x1F, 0x20, 0x30, 0x3F, 0x40, 0x4F, 0x50, 0x60, 0x80)
    offsets = [table.rule_at(TEXT + at).offset for at in places]
    assert offsets == [16, 8, 8, 16, 24, 24, 8, 8, 24, 0, 8]
    assert table.source == ".eh_frame + .debug_frame"
    again = table_of(frames, debug_frame=bytes(debug().fde(TEXT + 0x10, 0x10).data))
    assert again.source == ".eh_frame"


def test_without_section_headers() -> None:
    frames = Frames().cie().fde(TEXT, 16).fde(TEXT + 32, 16)
    for claimed, used in ((2, 2), (1, 1), (1000, 2)):
        table = table_of(frames, sections=False, search_table=claimed)
        assert table.fdes == used
    assert build_unwind_table(Image(bytes(frames.data), sections=False).elf()) is None


def test_wide_lengths_and_terminators_between_parts() -> None:
    frames = Frames(wide=True).cie().fde(TEXT, 16)
    frames.data += bytes(4)
    frames.wide = False
    frames.cie().fde(TEXT + 32, 16, PUSHED)
    table = table_of(frames)
    assert table.rule_at(TEXT) == CALLED
    assert table.rule_at(TEXT + 33).offset == 16


def test_augmentations() -> None:
    frames = Frames()
    frames.cie(augmentation=b"zPLR", augmentation_data=b"\x9b\1\2\3\4\x1b\x1b")
    frames.encoding = 0x1B
    frames.fde(TEXT, 16, PUSHED, lsda=b"\1\2\3\4")
    frames.cie(augmentation=b"zRB").fde(TEXT + 16, 16, PUSHED)
    frames.cie(augmentation=b"zQR", augmentation_data=b"\x1b\x1b").fde(TEXT + 32, 16)
    frames.cie(augmentation=b"eh").fde(TEXT + 48, 16)
    table = table_of(frames)
    assert [table.rule_at(TEXT + at).offset for at in (8, 24, 40, 56)] == [16, 16, 0, 0]
    assert (table.fdes, table.skipped) == (2, 2)


def test_nothing_usable_makes_no_table() -> None:
    assert build_unwind_table(Image().elf()) is None
    assert build_unwind_table(Image(bytes(Frames().cie().data)).elf()) is None
    assert build_unwind_table(Image(bytes(Frames().cie().fde(0, 9).data)).elf()) is None


def test_a_table_that_would_be_too_large_is_refused() -> None:
    frames = Frames().cie(augmentation_data=b"\0").fde(TEXT, 16).fde(TEXT + (1 << 40), 16)
    image = Image(bytes(frames.data), text_size=1 << 46)
    with pytest.raises(ElfError):
        build_unwind_table(image.elf())
    image.eh_frame = bytes(Frames().cie().fde(TEXT, 1 << 31).data)
    with pytest.raises(ElfError):
        build_unwind_table(image.elf(), 1 << 20)
    table = build_unwind_table(image.elf())
    assert table is not None
    assert len(table.words) <= 64 << 20


def test_the_caller_gets_its_turn() -> None:
    frames = Frames().cie()
    for number in range(3000):
        frames.fde(TEXT + 16 * number, 16, b"\x0e" + uleb(8 * number))
    turns: list[None] = []
    build_unwind_table(Image(bytes(frames.data)).elf(), slice=lambda: turns.append(None))
    assert len(turns) >= 10


def test_go_stacks_end_where_gos_own_traceback_does() -> None:
    """The runtime switches stacks in the middle of these functions; a program that only has names
    like Go's is no Go program."""
    names = ("runtime.mcall", "runtime.systemstack.abi0", "runtime.mcaller", "main.main")
    symbols = [Sym(name, 0x1000 + 0x100 * at, 0x20) for at, name in enumerate(names)]
    image = ElfImage.from_bytes(Maker(symbols, second=b".note.go.buildid").build())
    assert go_bottoms(image) == [(0x1000, 0x1020), (0x1100, 0x1120)]
    table = build_unwind_table(image)
    assert table is not None
    ends = [table.rule_at(symbol.value + 5).cfa for symbol in symbols]
    assert ends == [K.ENTRY, K.ENTRY, K.NONE, K.NONE]
    assert go_bottoms(ElfImage.from_bytes(Maker(symbols).build())) == []
