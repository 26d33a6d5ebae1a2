"""One set of colours for every picture and page: what a thread was doing, and whose code it was in.

A hue stands for a state, its lightness for the world of the code: the kernel's is the darkest, a
library's lighter than the program's own. Every fill takes dark text at a contrast of 4.5 or more
(WCAG 2.1, 1.4.3), on a light page and on a dark one. A difference is red where there is more, blue
where there is less.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from enum import Enum

from systemscope.model import Frame, FrameKind, State


class World(Enum):
    """Whose code a frame is."""

    PROGRAM = "program"
    LIBRARY = "library"
    KERNEL = "kernel"


@dataclass(frozen=True)
class Shade:
    """A CSS colour for pages with a light and with a dark background."""

    light: str
    dark: str


#: Hue in degrees and saturation in percent.
_HUES = {
    State.RUNNING: (24, 88),
    State.RUNNABLE: (48, 90),
    State.SLEEPING: (212, 66),
    State.DISK: (280, 52),
    State.STOPPED: (345, 42),
    State.TRACED: (345, 42),
    State.IDLE: (190, 26),
    State.PARKED: (190, 26),
    State.BLOCKED: (240, 45),
    State.DEAD: (0, 0),
    State.UNKNOWN: (0, 0),
}
#: Lightness in percent on a light and on a dark page.
_LIGHTNESS = {World.PROGRAM: (69, 62), World.LIBRARY: (79, 70), World.KERNEL: (61, 54)}
_DARK_SATURATION = 0.8

#: SGR parameters; the 256-colour tones lie in the middle, readable on black and on white.
ANSI = {
    State.RUNNING: "38;5;208",
    State.RUNNABLE: "38;5;178",
    State.SLEEPING: "38;5;68",
    State.DISK: "38;5;133",
    State.STOPPED: "38;5;167",
    State.TRACED: "38;5;167",
    State.IDLE: "38;5;73",
    State.PARKED: "38;5;73",
    State.BLOCKED: "38;5;98",
    State.DEAD: "38;5;245",
    State.UNKNOWN: "38;5;245",
}
ANSI_MORE = "38;5;167"
ANSI_LESS = "38;5;68"

#: Boxes of no state in particular: the whole, and threads whose states are mixed.
MIXED = {
    World.PROGRAM: Shade("#d9d4c9", "#a9a399"),
    World.LIBRARY: Shade("#e6e2da", "#bbb5ab"),
    World.KERNEL: Shade("#c4beb1", "#958f85"),
}
ROOT = Shade("#e4e4e4", "#9a9a9a")

#: From all gone to all new; the middle is no change worth telling.
DIFFERENCE = (
    Shade("#5b92d6", "#5b8bc7"),
    Shade("#8fb5e3", "#7ea3d0"),
    Shade("#c3d8f0", "#a3b6cc"),
    Shade("#e3e3e3", "#a8a8a8"),
    Shade("#f6cdc3", "#cfaea6"),
    Shade("#f0a08f", "#dc9484"),
    Shade("#e8745f", "#e07a66"),
)


def world_of(frame: Frame) -> World:
    """Whose code ``frame`` is; a module that looks like a shared object is a library."""
    if frame.kind is FrameKind.KERNEL:
        return World.KERNEL
    name = frame.module.rsplit("/", 1)[-1]
    library = frame.kind is FrameKind.VDSO or name.endswith(".so") or ".so." in name
    return World.LIBRARY if library else World.PROGRAM


def fill(state: State, world: World = World.PROGRAM) -> Shade:
    """The colour of a box whose time was spent in ``state``."""
    hue, saturation = _HUES[state]
    light, dark = _LIGHTNESS[world]
    return Shade(_css(hue, saturation, light), _css(hue, saturation * _DARK_SATURATION, dark))


def _css(hue: float, saturation: float, lightness: float) -> str:
    rgb = colorsys.hls_to_rgb(hue / 360, lightness / 100, saturation / 100)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
