"""Content Steering manifests (RFC 8216bis section 7.2; the same document for DASH, ETSI TS 103 998 section 6). Pure.

Published manifests stay static: they have one pathway, BASE, whose references are relative, so that BASE is whatever edge or
logical host a player began at. The steering manifest adds the others as clones of it by host. All edges have the same paths and
take the same grant, so a clone is another host and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

BASE: Final = "."
# Beside a video's manifests. HLS replaces the host name in a URL and keeps its port; DASH players put the whole of HOST between
# scheme and path, so theirs has the port with it.
HLS_STEERING: Final = "steering.json"
DASH_STEERING: Final = "steering.dcsm"
MOST_PATHWAYS: Final = 4  # a player that has failed at four edges has another trouble


@dataclass(frozen=True, slots=True)
class Pathway:
    """One edge as players name it; `host` is what a clone's HOST says, or None when no clone can lead there."""

    name: str
    host: str | None


def steering_manifest(ranked: Sequence[Pathway], base: str | None, ttl_s: float, reload_url: str | None) -> dict[str, Any]:
    """What a player is told: `ranked` are the edges that may serve it, best first; `base` is the edge that BASE stands for,
    None when nobody knows. BASE comes last where it should not be used: a player that can reach nothing else stays there."""
    pathways = [one for one in ranked if one.host is not None or one.name == base][:MOST_PATHWAYS]
    clones = [one for one in pathways if one.name != base]
    order = [BASE if one.name == base else one.name for one in pathways]
    members: dict[str, Any] = {"VERSION": 1, "TTL": max(1, round(ttl_s))}
    if reload_url is not None:
        members["RELOAD-URI"] = reload_url
    members["PATHWAY-PRIORITY"] = [*order, *([] if BASE in order else [BASE])]
    if clones:
        members["PATHWAY-CLONES"] = [{"BASE-ID": BASE, "ID": one.name, "URI-REPLACEMENT": {"HOST": one.host}} for one in clones]
    return members


def is_steering_path(path: str) -> bool:
    """Whether a path below a property is that of a video's steering manifest."""
    parts = path.split("/")
    return len(parts) == 4 and parts[1] == "videos" and parts[3] in (HLS_STEERING, DASH_STEERING)
