"""Which container a control group belongs to."""

from __future__ import annotations

import re

_MAX_PATH = 4096  # PATH_MAX; a longer one is no cgroup path

#: One component of a cgroup path that names a container, as runtimes write it: Docker and
#: containerd with the cgroupfs driver ("ID"), with the systemd one ("docker-ID.scope",
#: "cri-containerd-ID.scope", "crio-ID.scope", "libpod-ID.scope"); containerd as a service
#: ("kubepods-...-podUID.slice:cri-containerd:ID"); Fargate ("32 digits-number").
_COMPONENT = re.compile(
    r"(?:.*[-:])?([0-9a-f]{64})(?:\.scope)?|([0-9a-f]{32}-[0-9]{8,12})", re.ASCII
)
#: Helpers that run beside a container, not in it.
_BESIDE = ("libpod-conmon-", "crio-conmon-")


def container_id(cgroup: str) -> str:
    """The ID of the innermost container that ``cgroup``, a path, lies in; "" if none."""
    for component in reversed(cgroup[:_MAX_PATH].split("/")):
        match = _COMPONENT.fullmatch(component)
        if match and not component.startswith(_BESIDE):
            return match[1] or match[2]
    return ""
