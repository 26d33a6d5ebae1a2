"""Capture files."""

from __future__ import annotations

from typing import BinaryIO

from systemscope.errors import InputError
from systemscope.model import Capture
from systemscope.wire.capture_sections import MAGIC, NotACapture, SectionError, TooNew

_SHOWN = 3


def read(stream: BinaryIO) -> Capture:
    """The capture in the capture file ``stream``, which must seek and start at its beginning.

    ``stream`` stays the caller's, and must stay open as long as the capture's timeline is used.
    What could not be read of a damaged file is told in ``Capture.notes``; the time it stood for is
    in entries without a stack. Raises InputError when nothing can be read.
    """
    from systemscope.wire.capture_decode import Decoder

    decoder = Decoder(stream)
    try:
        capture = decoder.read()
    except NotACapture as error:
        raise InputError("this is no capture file") from error
    except TooNew as error:
        raise InputError(
            f"this capture file is too new: {error}", "convert it with a newer SystemScope"
        ) from error
    except SectionError as error:
        raise InputError(
            f"nothing can be read of this capture file: {error}", "copy it anew, or record anew"
        ) from error
    except OSError as error:
        raise InputError(f"the file cannot be read: {error.strerror}") from error
    if decoder.problems:
        some, more = decoder.problems[:_SHOWN], len(decoder.problems) - _SHOWN
        rest = f" and {more:,} more" if more > 0 else ""
        capture.notes.append(
            f"the capture file is damaged ({'; '.join(some)}{rest}); read: {decoder.kept(capture)}"
        )
    if decoder.unknown:
        names = ", ".join(list(dict.fromkeys(decoder.unknown))[:_SHOWN])
        capture.notes.append(f"a newer version wrote what this one does not know: {names}")
    return capture


def is_capture(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is meant to be a capture file."""
    return head.startswith(MAGIC[:4])
