"""Targets by name or control group that turn up while the window is open."""

from __future__ import annotations

from collections.abc import Iterable

from systemscope.collectors.request import Request
from systemscope.errors import TargetError
from systemscope.processes.targets import Targets, resolve

LOOK_AGAIN_NS = 500_000_000


class LateTargets:
    """Matches names and groups again now and then; ``known`` threads are no news."""

    def __init__(self, request: Request, known: Iterable[int]) -> None:
        self._request = request
        self._known = set(known)
        self._looked = 0

    def look(self, now: int) -> Targets:
        """What began to match, or joined the group, since the last look; mostly nothing."""
        request = self._request
        if not (request.comm or request.cgroup) or now - self._looked < LOOK_AGAIN_NS:
            return Targets()
        self._looked = now
        try:
            found = resolve(comm=request.comm, cgroup=request.cgroup)
        except TargetError:
            return Targets()  # nothing matches for now
        fresh = tuple(tid for tid in found.tids if tid not in self._known)
        self._known.update(fresh)
        return Targets(found.tgids, fresh, ()) if fresh else Targets()
