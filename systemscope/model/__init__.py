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
from systemscope.model.losses import Losses
from systemscope.model.profile import Frame, FrameKind, Profile, Sample
from systemscope.model.states import (
    BLOCKED_STATES,
    STATE_COUNT,
    STATE_OF_LETTER,
    State,
    state_name,
)

__all__ = [
    "BLOCKED_STATES",
    "STATE_COUNT",
    "STATE_OF_LETTER",
    "Capture",
    "Entry",
    "FileId",
    "Frame",
    "FrameKind",
    "Gap",
    "Image",
    "Losses",
    "Mapping",
    "Overhead",
    "Process",
    "Profile",
    "Sample",
    "Stack",
    "State",
    "Thread",
    "state_name",
]
