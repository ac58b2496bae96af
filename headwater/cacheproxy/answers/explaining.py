"""What a node would do with a request for one object, and why: for `headwater explain`. Changes nothing and counts nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from headwater.cacheproxy.fills.fills import Fill
from headwater.cacheproxy.fills.parents import Parent, ParentClient
from headwater.cacheproxy.fills.pieces import Piece
from headwater.cacheproxy.roles import Role, Site
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store
from headwater.cacheproxy.store.variants import MARKER_STATUS
from headwater.rules.fields import field
from headwater.rules.freshness import Reuse, decide_reuse
from headwater.rules.slices import slice_count
from headwater.settings.snapshot import Snapshot

SLICES_LOOKED_AT: Final = 2000
FRESHNESS: Final = {
    Reuse.FRESH: "fresh",
    Reuse.STALE_WHILE_REVALIDATE: "stale, served while asked about",
    Reuse.REVALIDATE: "stale",
}


async def explained(
    key: str, role: Role, snapshot: Snapshot, store: Store, running: Fill | None, client: ParentClient, negative_ttl_s: float
) -> dict[str, Any]:
    """The node's view of the object `key`, as JSON members. Times are seconds; `ttl_s` below 0 is how long it is stale."""
    site = _site_of(key, snapshot)
    place, metadata = await store.peek(key)
    stored = None if metadata is None else _stored(metadata, negative_ttl_s)
    if stored is not None and metadata is not None and metadata.is_head:
        stored["slices"] = await _slices(metadata, store)
    parents = () if site is None else role.parents(key, site, snapshot)
    asked = client.by_readiness(parents)
    return {
        "tier": role.tier,
        "key": key,
        "place": "running fill" if running is not None and metadata is None else place,
        "stored": stored,
        "fill": None if running is None else _fill(running),
        "parents": [
            {"name": parent.name, "url": parent.url, "failed_of_late": client.failed_of_late(parent)} for parent in asked
        ],
        "next": _next(stored, running, asked),
        "why": _why(parents, asked, snapshot, client) if site is not None else f"{key.partition('/')[0]!r} is no property",
        "purge_sequence": store.purges.sequence,
    }


def _site_of(key: str, snapshot: Snapshot) -> Site | None:
    name = key.partition("/")[0]
    settings = snapshot.deployment.properties.get(name)
    return None if settings is None else Site(name, settings)


def _stored(metadata: Metadata, negative_ttl_s: float) -> dict[str, Any]:
    if metadata.status == MARKER_STATUS:
        return {"status": None, "varies_by": field(metadata.fields, "vary")}
    life, age_s = metadata.lifetime(negative_ttl_s), metadata.age_s(time.time())
    return {
        "status": 200 if metadata.is_head else metadata.status,
        "size_bytes": metadata.total_bytes if metadata.is_head else metadata.size_bytes,
        "age_s": round(age_s, 3),
        "ttl_s": round(life.fresh_s - age_s, 3),
        "freshness": FRESHNESS[decide_reuse(life, age_s)],
        "softly_purged": metadata.stale_since is not None,
        "validator": metadata.etag or metadata.last_modified,
        "tags": sorted(metadata.tags),
    }


async def _slices(head: Metadata, store: Store) -> dict[str, int]:
    """How many of the object's slices are stored here, of the first so many that looking at them is no work."""
    count = slice_count(head.slice_bytes, head.total_bytes)
    looked_at = min(count, SLICES_LOOKED_AT)
    places = [(await store.peek(Piece(head, index).key))[0] for index in range(looked_at)]
    return {
        "slice_bytes": head.slice_bytes,
        "count": count,
        "looked_at": looked_at,
        "stored": looked_at - places.count("nowhere"),
    }


def _fill(fill: Fill) -> dict[str, Any]:
    machine = fill.machine
    return {
        "state": machine.state,
        "received_bytes": machine.received,
        "size_bytes": machine.size,
        "followers": fill.followers,
        "parent": fill.header.parent if fill.header else None,
        "resumes": machine.resumes,
    }


def _next(stored: dict[str, Any] | None, running: Fill | None, asked: Sequence[Parent]) -> str:
    parent = asked[0].name if asked else "nobody"
    if stored is not None and stored["status"] is None:
        return f"depends on {stored['varies_by']}"
    if stored is not None and stored["freshness"] == FRESHNESS[Reuse.FRESH]:
        return "serve"
    asks = f"ask {parent} whether it still holds"
    if stored is not None and stored["freshness"] == FRESHNESS[Reuse.STALE_WHILE_REVALIDATE]:
        return f"serve and {asks}" if running is None else "serve; the running fill asks"
    if running is not None:
        return "follow the running fill"
    return f"fill from {parent}" if stored is None else asks


def _why(parents: Sequence[Parent], asked: Sequence[Parent], snapshot: Snapshot, client: ParentClient) -> str:
    """Why the first one of `asked` is asked first."""
    if not asked:
        return "the property has no parent"
    if not asked[0].ours:
        return "the property's own site"
    names = list(dict.fromkeys(parent.name for parent in parents))
    if len(names) == 1:
        return "the only parent"
    reasons = [f"{names[0]} ranks first for this key among {len(names)}"]
    reasons += [f"{name} is down by control's checks" for name in names if not snapshot.healthy(name)]
    reasons += [f"{parent.name} failed of late" for parent in dict.fromkeys(parents) if client.failed_of_late(parent)]
    return "; ".join(reasons)
