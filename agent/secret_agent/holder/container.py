"""Which container a process lives in, as its cgroup's name tells; pure.

Container engines put a container's id into the name of its cgroup.  That is attribution, not a
boundary: whoever may make cgroups may give one any name.  What keeps a container apart is the
scoped socket it is given (and, on the main socket, its foreign namespaces: namespaces.py).

Rules: the innermost id wins, for a container within a container (kind, docker-in-docker) is the
inner one; the helpers of an engine that run outside (conmon) are in no container; of two
ids of which neither lies within the other both are told, joined by "+", which equals neither.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from secret_agent.holder.proc import CgroupLine

_ID = r"[0-9a-f]{64}"

_SEGMENT_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"(?P<id>{_ID})",  # cgroupfs driver: /docker/ID, /kubepods/.../podUID/ID, /ecs/TASK/ID
        rf"(?:docker|libpod|cri-containerd|containerd|crio|nerdctl)-(?P<id>{_ID})(?:\.scope)?",
        # A systemd name given to a runtime that uses the cgroupfs driver.
        rf".*:(?:docker|cri-containerd|crio):(?P<id>{_ID})",
        r"(?P<id>[0-9a-f]{32}-[0-9]{6,})",  # AWS Fargate
        r"lxc\.payload\.(?P<id>[^/]+)",
        r"machine-(?P<id>[^/]+)\.scope",  # systemd-machined
        r"systemd-nspawn@(?P<id>[^/]+)\.service",
    )
)
_UNDER = {"buildkit": re.compile(r"[a-z0-9]{25}"), "lxc": re.compile(r"[^/]+")}


def container_of(lines: Sequence[CgroupLine]) -> str | None:
    """The id of the container that a process's cgroups name, or None."""
    chains = {ids for ids in (_ids_in(line.path) for line in lines) if ids}
    innermost = {
        ids[-1]
        for ids in chains
        if not any(len(other) > len(ids) and other[: len(ids)] == ids for other in chains)
    }
    return "+".join(sorted(innermost)) or None


def cgroup_path(lines: Sequence[CgroupLine]) -> str:
    """The path that says most: the unified hierarchy's, systemd's, or any that is not the root."""
    told = [line for line in lines if line.path != "/"]
    for line in told:
        if line.hierarchy == 0:
            return line.path
    for line in told:
        if line.controllers == "name=systemd":
            return line.path
    return told[0].path if told else ("/" if lines else "")


def _ids_in(path: str) -> tuple[str, ...]:
    """The container ids along a cgroup path, outermost first."""
    segments = path.split("/")
    found = [_id_in(above, segment) for above, segment in pairwise(segments)]
    return tuple(one for one in found if one is not None)


def _id_in(above: str, segment: str) -> str | None:
    """The container id in one segment of a path, given the segment above it."""
    for form in _SEGMENT_FORMS:
        match = form.fullmatch(segment)
        if match is not None:
            return match["id"]
    under = _UNDER.get(above)
    return segment if under is not None and under.fullmatch(segment) else None
