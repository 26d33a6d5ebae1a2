"""pprof files made and taken apart with the messages themselves."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from typing import Any, Optional

from systemscope.exporters.pprof import write
from systemscope.importers.pprof import read
from systemscope.model import Profile
from systemscope.wire.pprof import messages


def packed(profile: Profile) -> bytes:
    """The file of ``profile``."""
    stream = io.BytesIO()
    write(profile, stream)
    return stream.getvalue()


def back(data: bytes) -> Profile:
    """The profile of a file."""
    return read(io.BytesIO(data))


class Decoded:
    """A file as one Profile message, with its indexes looked up."""

    def __init__(self, data: bytes) -> None:
        self.message: Any = messages().Profile.FromString(gzip.decompress(data))
        self.locations = {one.id: one for one in self.message.location}
        self.functions = {one.id: one for one in self.message.function}
        self.mappings = {one.id: one for one in self.message.mapping}

    def text(self, index: int) -> str:
        return str(self.message.string_table[index])

    @property
    def types(self) -> list[str]:
        return [f"{self.text(t.type)}/{self.text(t.unit)}" for t in self.message.sample_type]

    @property
    def comments(self) -> list[str]:
        return [self.text(index) for index in self.message.comment]

    def names(self, sample: Any) -> list[list[str]]:
        """The functions of each location of a sample, leaf first."""
        return [
            [self.text(self.functions[line.function_id].name) for line in self.locations[one].line]
            for one in sample.location_id
        ]

    def values(self, sample: Any) -> dict[str, int]:
        return {kind: value for kind, value in zip(self.types, sample.value) if value}

    def labels(self, sample: Any) -> dict[str, object]:
        return {
            self.text(one.key): self.text(one.str) if one.str else one.num for one in sample.label
        }


def foreign(
    types: Sequence[str],
    samples: Sequence[Sequence[int]],
    period: str = "cpu/nanoseconds",
    step: int = 10_000_000,
    labels: Optional[dict[str, object]] = None,
) -> bytes:
    """A file as others write it: one location ``main.work`` at 0x401000 of /bin/prog."""
    strings = [""]

    def index(text: str) -> int:
        if text not in strings:
            strings.append(text)
        return strings.index(text)

    kinds = messages()
    profile = kinds.Profile(period=step, time_nanos=5_000_000_000, duration_nanos=10**9)
    for kind in types:
        name, unit = kind.split("/")
        profile.sample_type.add(type=index(name), unit=index(unit))
    name, unit = period.split("/")
    profile.period_type.type, profile.period_type.unit = index(name), index(unit)
    profile.mapping.add(
        id=1, memory_start=0x400000, memory_limit=0x500000, filename=index("/bin/prog")
    )
    profile.function.add(id=1, name=index("main.work"), filename=index("work.go"))
    location = profile.location.add(id=1, mapping_id=1, address=0x401000)
    location.line.add(function_id=1, line=7)
    for values in samples:
        sample = profile.sample.add(location_id=[1], value=values)
        for key, value in (labels or {}).items():
            if isinstance(value, int):
                sample.label.add(key=index(key), num=value)
            else:
                sample.label.add(key=index(key), str=index(str(value)))
    profile.string_table.extend(strings)
    return bytes(gzip.compress(profile.SerializeToString()))
