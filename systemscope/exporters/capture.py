"""The capture itself, unnamed: what another machine turns into any other format."""

from __future__ import annotations

from typing import BinaryIO

from systemscope.errors import OutputError, UsageError
from systemscope.exporters.formats import ExportOptions, Format
from systemscope.model import Profile

FORMAT = Format(
    name="capture",
    extensions=(".ssc",),
    summary="addresses and times as recorded, to be named elsewhere by systemscope convert",
    binary=True,
    module=__name__,
    names=False,
)


def write(profile: Profile, stream: BinaryIO, options: ExportOptions = ExportOptions()) -> None:
    """Write the profile's capture as a capture file; names and ``options`` do not matter.

    Raises UsageError for a profile that was never a capture, OutputError for one that the format
    cannot hold, and what the stream raises.
    """
    from systemscope.wire.capture_columns import ColumnError
    from systemscope.wire.capture_encode import write_capture
    from systemscope.wire.capture_sections import SectionError

    if profile.samples and not profile.capture.entries:
        raise UsageError(
            "a profile of another tool holds no capture", "convert it to another format"
        )
    try:
        write_capture(profile.capture, stream)
    except (ColumnError, SectionError) as error:
        raise OutputError(f"the capture cannot be written: {error}") from error
