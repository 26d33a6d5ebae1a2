"""One set of colours for every picture and page: what a thread was doing, and whose code it was in.

A hue stands for a state, its lightness for the world of the code: the kernel's is the darkest, a
library's lighter than the program's own. Text on every fill has a contrast of 4.5 or more (WCAG
2.1, 1.4.3) on a light page and on a dark one. A difference is red where there is more, blue where
there is less.
"""

from __future__ import annotations

import colorsys
import math
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


#: Hue, saturation and lightness on a light and on a dark page, much as in web/colors.js. The hues
#: follow Okabe and Ito's set for all kinds of colour vision.
_STATES = {
    State.UNKNOWN: (0, 0, 78, 34),
    State.RUNNING: (24, 92, 67, 38),
    State.RUNNABLE: (46, 92, 64, 29),
    State.SLEEPING: (207, 62, 78, 36),
    State.DISK: (322, 46, 74, 41),
    State.STOPPED: (20, 18, 72, 34),
    State.TRACED: (285, 34, 80, 42),
    State.IDLE: (210, 12, 84, 30),
    State.PARKED: (210, 8, 76, 36),
    State.BLOCKED: (164, 48, 66, 29),
    State.DEAD: (0, 0, 86, 27),
}
#: Added to the lightness on a light and on a dark page.
_WORLDS = {World.PROGRAM: (0, -4), World.LIBRARY: (6, -1), World.KERNEL: (-7, -10)}

TEXT = Shade("#15191f", "#f2f5f9")
MUTED_TEXT = Shade("#5b6470", "#9aa5b1")
BACKGROUND = Shade("#ffffff", "#12161c")

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


def world_of(frame: Frame) -> World:
    """Whose code ``frame`` is; a module that looks like a shared object is a library."""
    if frame.kind is FrameKind.KERNEL:
        return World.KERNEL
    name = frame.module.rsplit("/", 1)[-1]
    library = frame.kind is FrameKind.VDSO or name.endswith(".so") or ".so." in name
    return World.LIBRARY if library else World.PROGRAM


def fill(state: State, world: World = World.PROGRAM) -> Shade:
    """The colour of a box whose time was spent in ``state``."""
    hue, saturation, light, dark = _STATES[state]
    return _shade(hue, saturation, light + _WORLDS[world][0], dark + _WORLDS[world][1])


def mixed(world: World = World.PROGRAM) -> Shade:
    """The colour of a box whose time is of no state in particular."""
    return _shade(38, 20, 83 + _WORLDS[world][0], 30 + _WORLDS[world][1])


def group() -> Shade:
    """The colour of boxes that are no code: the whole, threads, what was too small to draw."""
    return _shade(212, 16, 88, 25)


def change(ratio: float) -> Shade:
    """The colour of a change from -1 (all gone) over 0 (none) to 1 (all new)."""
    size = min(1.0, abs(ratio))
    if not size:
        return _shade(212, 8, 91, 27)
    hue, saturation = (212, 78) if ratio < 0 else (8, 80)
    strong = math.sqrt(size)
    return _shade(hue, saturation * (0.35 + 0.65 * strong), 92 - 24 * strong, 27 + 14 * strong)


def _shade(hue: float, saturation: float, light: float, dark: float) -> Shade:
    return Shade(_css(hue, saturation, light), _css(hue, saturation, dark))


def _css(hue: float, saturation: float, lightness: float) -> str:
    rgb = colorsys.hls_to_rgb(hue / 360, lightness / 100, saturation / 100)
    return "#" + "".join(f"{round(255 * part):02x}" for part in rgb)
