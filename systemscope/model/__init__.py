"""What a profile is: plain values that pass between the collectors, symbolizer and exporters."""

from systemscope.model.capture import (
    Capture,
    Entry,
    FileId,
    Gap,
    Image,
    Mapping,
    Overhead,
    Process,
    Stack,
    Thread,
)
from systemscope.model.delays import Delay, DelayKind
from systemscope.model.host import GeneratedSymbol, HostFacts, KernelSymbol
from systemscope.model.losses import Losses
from systemscope.model.profile import Frame, FrameKind, Profile, Sample
from systemscope.model.states import (
    BLOCKED_STATES,
    STATE_COUNT,
    STATE_OF_LETTER,
    State,
    state_name,
)
from systemscope.model.timeline import Event, EventKind, Timeline
from systemscope.model.unwinding import END_MARKS, MARK_NAMES, StackEnd, UnwindReport

__all__ = [
    "BLOCKED_STATES",
    "END_MARKS",
    "MARK_NAMES",
    "STATE_COUNT",
    "STATE_OF_LETTER",
    "Capture",
    "Delay",
    "DelayKind",
    "Entry",
    "Event",
    "EventKind",
    "FileId",
    "Frame",
    "FrameKind",
    "Gap",
    "GeneratedSymbol",
    "HostFacts",
    "Image",
    "KernelSymbol",
    "Losses",
    "Mapping",
    "Overhead",
    "Process",
    "Profile",
    "Sample",
    "Stack",
    "StackEnd",
    "State",
    "Thread",
    "Timeline",
    "UnwindReport",
    "state_name",
]
