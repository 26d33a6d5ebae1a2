"""Chrome's trace JSON: what every thread did from moment to moment, for Perfetto's UI,
chrome://tracing and speedscope.

The format is Google's "Trace Event Format" (JSON object form). Slices are pairs of B and E events:
their times are the same digits where one slice ends and the next begins, which X events with a
length cannot promise once a reader takes them for floating-point numbers; and details ride on the
E event, where speedscope does not make them a part of the name. ``docs/timeline.md`` describes the
tracks.
"""

from __future__ import annotations

from typing import BinaryIO

from systemscope.errors import UsageError
from systemscope.exporters.chrome_counters import Counters
from systemscope.exporters.chrome_json import TraceStream
from systemscope.exporters.chrome_meta import closing_facts, facts, name_tracks
from systemscope.exporters.chrome_sched import SchedLines
from systemscope.exporters.chrome_slices import Slices
from systemscope.exporters.chrome_stacks import StackNames
from systemscope.exporters.chrome_tracks import CpuTracks, Tracks
from systemscope.exporters.formats import ExportOptions
from systemscope.model import Profile


def write(profile: Profile, stream: BinaryIO, options: ExportOptions = ExportOptions()) -> None:
    """Write the timeline of ``profile`` to ``stream`` as it is read: nothing of it is collected.

    Times are microseconds since the window's start, exact to the nanosecond. Slices shorter than
    ``options.min_slice_ns`` are gathered into slices called "[short slices]". Raises UsageError
    where the profile has no timeline, and whatever the stream raises.
    """
    capture = profile.capture
    timeline = capture.timeline
    if timeline is None:
        raise UsageError(
            "this profile has no timeline, only totals",
            "record one with 'systemscope profile --timeline', or write another format",
        )
    out = TraceStream(stream, capture.start)
    out.open(facts(profile))
    tracks = Tracks(capture)
    name_tracks(out, capture, tracks)
    cpus = CpuTracks(out, capture, options.min_slice_ns)
    counters = Counters(capture)
    names = StackNames(profile)
    with SchedLines(capture.start) as sched:
        least = options.min_slice_ns
        # Thinned, the scheduler's own tables would tell wrong times.
        lines = sched if least <= 1 else None
        slices = Slices(out, tracks, cpus, counters, names, capture.frequency, least, lines)
        for event in timeline.events():
            slices.take(event)
        slices.finish()
        cpus.finish()
        counters.write(out)
        out.close(closing_facts(slices), lines.pieces() if lines is not None else ())
