"""What the programs for the unwinder say of their stacks, and how stacks are compared with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.e2e.spaces import ANONYMOUS, STUB, Region, Space
from tests.e2e.unwinding import callers, canonical, words
from tests.workloads.build import SOURCES
from tests.workloads.unwinding.programs import ELSEWHERE, Chains, chains

DIRECTORY = SOURCES / "unwinding"
#: Parts of other programs.
PARTS = {"plugin.c", "stubs_lib.c", "binds_lib.c", "throws_c.c", "untabled_part.c"}
PROGRAMS = sorted(
    file.name
    for file in DIRECTORY.iterdir()
    if file.suffix in (".c", ".cc")
    if file.name not in PARTS
)
NOWHERE = Path("/nowhere")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_function_that_is_named_exists(name: str) -> None:
    texts = [file.read_text() for file in DIRECTORY.iterdir() if file.suffix in (".c", ".cc", ".h")]
    code = "\n".join(text[text.index("*/") :] for text in texts)
    for function in chains(name).named - {ELSEWHERE, ANONYMOUS, STUB, "_start"}:
        bottom = re.sub(r"^(\w+?)_(burning|waiting)$", r"BOTTOM(\1)", function)
        assert re.search(rf"\b{function}\b", code) or bottom in code, function


def test_repeated_frames_are_spelt_out() -> None:
    (chain,) = chains("deep.c").running
    assert chain.count("descend") == 60
    assert chain[0] == "bottom_burning" and chain[-1] == "_start"


def test_a_comment_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="does not say"):
        chains("plugin.c")


class Fake(Space):
    """Functions of a hundred bytes each, "f1" from 100 on; odd ones are the C library's."""

    def name(self, address: int, directory: Path) -> str:
        return f"f{address // 100}" if address // 100 % 2 == 0 else ""

    def signal_return(self, address: int) -> bool:
        return address == 301


def fake() -> Fake:
    return Fake(0, {(0, 10000): Region(0, 10000, 0, "library")})


TOLD = Chains(frozenset({("f2", "...", "f4")}), frozenset())


def test_return_addresses_name_the_call() -> None:
    """400 is behind the last instruction of the function before."""
    assert words((210, 400, 410), fake(), NOWHERE, TOLD) == ("f2", "...", "f4")


def test_code_that_no_line_names_matches_nothing() -> None:
    assert words((210, 610, 410), fake(), NOWHERE, TOLD) == ("f2", "f6", "f4")


def test_moving_addresses_are_named() -> None:
    stack = (210, 301, 451, 530)
    assert canonical(stack, fake(), NOWHERE, moves=True) == ("f2", 301, "f4", 530)
    assert canonical(stack, fake(), NOWHERE, moves=False) == (210, 301, "f4", 530)


def test_callers_are_those_of_the_first_named_frame() -> None:
    stack = (150, 210, 301, 410)
    assert callers(stack, stack, fake(), NOWHERE, TOLD) == (301, 410)
