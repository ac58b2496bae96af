"""Who gets which edge under which grant: the pure rules of `playability` with the ring's key and the node's snapshot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from headwater.rules.names import bucket_of, logical_host
from headwater.rules.steering import SteeredEdge, region_of, steer
from headwater.runtime.metrics import counter
from headwater.runtime.problems import Problem
from headwater.settings.edgeurl import edge_url
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of
from origin.api.playability import (
    MediaUrls,
    Via,
    base_url,
    grant_expiry,
    media_urls,
    video_grant,
    viewers_network,
    without_avoided,
)
from origin.catalogue.videos import Video
from signer.grant import SigningKey, mint
from signer.keyring import KeyRing, KeyRingError

STEERED = counter("headwater_playback_steered_total", "Playback answers by the POP they name first.", ["pop"])


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks, and what they wish: `region` instead of their network's, edges to avoid, the form of URLs."""

    client: IPv4Address | IPv6Address | None
    via: Via | None = None
    region: str | None = None
    avoid: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Route:
    """Where a viewer fetches a video; `expires_at` is that of the grant in all URLs, Unix seconds."""

    edge: SteeredEdge
    alternates: tuple[SteeredEdge, ...]
    logical_host: str
    expires_at: int
    urls: MediaUrls


class Playback:
    """`snapshot` gives the current one; `clock` Unix seconds."""

    def __init__(self, snapshot: Callable[[], Snapshot], ring: KeyRing, *, clock: Callable[[], float] = time.time) -> None:
        self._snapshot = snapshot
        self._ring = ring
        self._clock = clock

    async def route(self, video: Video, viewer: Viewer) -> Route:
        """The best edge for this viewer and this video, with signed URLs. Raises Problem."""
        (route,) = await self.routes([video], viewer)
        STEERED.labels(route.edge.pop).inc()
        return route

    async def routes(self, videos: Sequence[Video], viewer: Viewer) -> list[Route]:
        """As `route`, for several videos by one look at the key ring."""
        snapshot = self._snapshot()
        key = await self._signing_key()
        return [self._route(video, viewer, snapshot, key) for video in videos]

    async def _signing_key(self) -> SigningKey:
        try:
            return await asyncio.to_thread(self._ring.signing_key)
        except KeyRingError as error:
            raise Problem(503, "no-signing-key", "No signing key", str(error), headers={"Retry-After": "5"}) from error

    def _route(self, video: Video, viewer: Viewer, snapshot: Snapshot, key: SigningKey) -> Route:
        deployment = snapshot.deployment
        edge, *alternates = self._steered(video, viewer, snapshot)
        network = viewers_network(viewer.client) if deployment.signing.bind_network and viewer.client is not None else None
        expires_at = grant_expiry(self._clock(), deployment.signing.lifetime, video.duration_s)
        token = mint(video_grant(video.id, key.key_id, expires_at, network), key)
        host = logical_host(bucket_of(video.id), deployment.zone)
        # A page that came over TLS may not fetch over plain HTTP (mixed content), so media come as the page does.
        door = edge_url(deployment.edge(edge.name), secure=deployment.origin.public_url.startswith("https:"))
        base = base_url(door, viewer.via or Via(deployment.origin.steer_by), host)
        return Route(edge, tuple(alternates), host, expires_at, media_urls(base, token, video))

    def _steered(self, video: Video, viewer: Viewer, snapshot: Snapshot) -> tuple[SteeredEdge, ...]:
        world = world_of(snapshot)
        region = viewer.region or world.default_region
        if viewer.region is None and viewer.client is not None:
            region = region_of(viewer.client, world).region
        return without_avoided(steer(bucket_of(video.id), region, world), viewer.avoid)

    def regions(self) -> list[str]:
        """The regions that a client may name."""
        return sorted(self._snapshot().deployment.regions)
