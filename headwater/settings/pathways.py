"""A video's steering manifest out of a snapshot, for the edge and for the steering node's door."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from headwater.rules.contentsteering import DASH_STEERING, Pathway, steering_manifest
from headwater.rules.mediapath import video_key
from headwater.rules.names import VideoId, bucket_of
from headwater.rules.regions import IpAddress
from headwater.rules.steering import region_of, steer
from headwater.settings.deployment import Deployment
from headwater.settings.edgeurl import EdgeUrl, edge_url
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Edge
from headwater.settings.world import world_of

DOOR_PREFIX = "/steering"


def steering_url(deployment: Deployment, video: VideoId, name: str = DASH_STEERING) -> str:
    """Where a video's steering manifest is: at the door, or else beside its other manifests."""
    door = deployment.dns.http.public_url if deployment.dns.http is not None else None
    return name if door is None else f"{door}{DOOR_PREFIX}/{video_key(video, name)}"


def viewer_region(snapshot: Snapshot, client: IpAddress, base: str | None, told: str | None) -> str:
    """The region to steer for: what an earlier steering manifest `told` the player; else the client's own. Of a client whose
    network decides nothing it is the region of the edge that it came to: whoever sent it there knew more."""
    world = world_of(snapshot)
    if told in world.regions_by_name:
        return str(told)
    own = region_of(client, world).region
    if own != world.default_region or base is None:
        return own
    pop = next((pop for name, pop, _ in snapshot.deployment.edges() if name == base), None)
    return own if pop is None else snapshot.deployment.pops[pop].region


def steering_manifest_of(
    snapshot: Snapshot, path: str, video: VideoId, region: str, base: str | None, *, secure: bool
) -> dict[str, Any]:
    """The manifest at `path` (its last part says for which kind of player) for viewers of `region` that began at the edge
    `base`, over TLS or not."""
    deployment = snapshot.deployment
    edges = {name: edge for name, _, edge in deployment.edges()}
    name = path.rpartition("/")[2]
    with_port = name == DASH_STEERING
    began_at = edge_url(edges[base], secure=secure) if base is not None else None
    ranked = steer(bucket_of(video), region, world_of(snapshot))
    pathways = [Pathway(one.name, _clone_host(edges[one.name], began_at, secure, with_port)) for one in ranked]
    reload_url = None
    if deployment.dns.http is not None and deployment.dns.http.public_url is not None:
        told = {"region": region, **({"from": base} if base else {}), **({"tls": "1"} if secure else {})}
        reload_url = f"{steering_url(deployment, video, name)}?{urlencode(told)}"
    return steering_manifest(pathways, base, deployment.dns.ttl, reload_url)


def _clone_host(edge: Edge, began_at: EdgeUrl | None, secure: bool, with_port: bool) -> str | None:
    """None where a player would not arrive: at another port than it began at when it keeps that, and over TLS at an edge
    without TLS or without a name, for certificates name hosts."""
    url = edge_url(edge, secure=secure)
    if secure and (edge.tls is None or edge.host is None):
        return None
    if with_port:
        return url.authority
    return url.host if began_at is None or began_at.port == url.port else None
