"""Chrome's trace JSON, compressed to less than a tenth; viewers open it as it is."""

from __future__ import annotations

from typing import BinaryIO

from systemscope.exporters.formats import ExportOptions
from systemscope.model import Profile

_FAST = 1  # a timeline is repetitive: more effort gains little


def write(profile: Profile, stream: BinaryIO, options: ExportOptions = ExportOptions()) -> None:
    """Write what :func:`systemscope.exporters.chrome.write` does, compressed (RFC 1952).

    The same profile gives the same bytes. Raises what that raises.
    """
    import gzip

    from systemscope.exporters import chrome

    with gzip.GzipFile("", "wb", _FAST, stream, mtime=0) as packed:
        chrome.write(profile, packed, options)  # type: ignore[arg-type]
