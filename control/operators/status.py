"""The deployment as one tree of plain values, for the page, the command and whoever else asks. Pure.

Times are Unix seconds; rates are over the last half minute; ratios are 0 to 1 or null when there was nothing to count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from control.caches.aheadshares import ahead_shares
from control.plane import ControlPlane
from control.watching.traffic import Counters, traffic
from headwater.settings.deployment import Deployment, Role, admin_address, nodes_of
from headwater.settings.units import Address

Tier = Literal["edge", "shield", "origin"]
TIER_OF_ROLE: dict[Role, Tier] = {"edge": "edge", "shield": "shield", "origin-bytes": "origin"}


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. `version` is the snapshot that it held when it last asked or was read; `restart` what it will learn then.
    `certificate` is {state, expires_at, revoked_at} of a node that enrols."""

    name: str
    role: Role
    pop: str | None
    region: str | None
    address: str
    admin: str
    weight: float | None
    capacity_bps: int | None
    health: str
    since: float
    error: str | None
    version: int | None
    current: bool
    lag_s: float
    drained: bool
    restart: list[dict[str, str | None]]
    certificate: dict[str, Any] | None
    traffic: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class TierStatus:
    """All nodes of one tier together."""

    tier: Tier
    requests_per_s: float
    delivered_per_s: float
    egress_bps: float
    hit_ratio: float | None


def status_of(
    plane: ControlPlane, rollout: dict[str, Any] | None = None, preposition: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The tree that GET /api/v1/status answers with; `rollout` is what it says of one under way, `preposition` of last night."""
    deployment, desired = plane.deployment, plane.desired
    snapshot = plane.publisher.current
    problems = [
        {"line": problem.line, "path": problem.path, "reason": problem.reason, "text": str(problem)}
        for problem in desired.problems
    ]
    return {
        "deployment": deployment.name,
        "zone": deployment.zone,
        "now": plane.clock(),
        "version": plane.publisher.version,
        "config": {"file": str(plane.config) if plane.config else None, "in_force": not problems, "problems": problems},
        "key_error": plane.key_error,
        "keys": [{"key_id": key.key_id, "state": key.state} for key in (snapshot.keys if snapshot else [])],
        "regions": _regions(deployment),
        "tiers": [asdict(tier) for tier in _tiers(plane)],
        "nodes": [asdict(node) for node in _nodes(plane)],
        "drained": sorted(plane.drained),
        "rollout": rollout,
        "ahead": [asdict(share) for share in ahead_shares(deployment, plane.readings)],
        "preposition": preposition,
        "happenings": [asdict(happening) for happening in plane.happenings],
    }


def _regions(deployment: Deployment) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "spill": region.spill,
            "networks": [str(network) for network in region.networks],
            "pops": [
                {"name": pop_name, "weight": pop.weight, "edges": list(pop.edges)}
                for pop_name, pop in deployment.pops.items()
                if pop.region == name
            ],
        }
        for name, region in deployment.regions.items()
    ]


def _nodes(plane: ControlPlane) -> Iterable[NodeStatus]:
    deployment = plane.deployment
    edges = {name: (pop, edge) for name, pop, edge in deployment.edges()}
    certificates = plane.nodes.certificates(deployment, plane.clock())
    for name, role in nodes_of(deployment).items():
        pop, edge = edges.get(name, (None, None))
        shield = deployment.shields.get(name)
        weighted = edge or shield
        health = plane.health.get(name)
        version = plane.publisher.version if role == "control" else _held_version(plane, name)
        follows = role not in SERVES_WITHOUT_SNAPSHOTS
        rates = traffic(plane.readings.get(name, ())) if health is None or health.state != "down" else None
        yield NodeStatus(
            name=name,
            role=role,
            pop=pop,
            region=deployment.pops[pop].region if pop else None,
            address=str(_address(deployment, name, role)),
            admin=str(admin_address(deployment, name)),
            weight=weighted.weight if weighted else None,
            capacity_bps=edge.capacity if edge else None,
            health=health.state if health else "up",
            since=health.since if health else plane.own_start,
            error=health.error if health else None,
            version=version if follows else None,
            current=not follows or version == plane.publisher.version,
            lag_s=_lag_s(plane, version) if follows else 0.0,
            drained=name in plane.drained or pop in plane.drained,
            restart=[asdict(difference) for difference in plane.waiting_for_restart(name)],
            certificate=certificates.get(name),
            traffic=asdict(rates) if rates else None,
        )


def _lag_s(plane: ControlPlane, held: int | None) -> float:
    """For how long there has been a snapshot that the node does not hold."""
    since = plane.publisher.behind_since(held or 0)
    return 0.0 if since is None else max(0.0, plane.clock() - since)


# The transcoder takes its work from the catalogue; what control publishes is nothing to it.
SERVES_WITHOUT_SNAPSHOTS: Final[frozenset[Role]] = frozenset(("origin-transcoder",))


def _held_version(plane: ControlPlane, node: str) -> int | None:
    """Of the node's last question and its last metrics, whichever is later says what it holds."""
    poll, readings = plane.polls.get(node), plane.readings.get(node)
    known = [(poll.at, poll.held)] if poll else []
    if readings and readings[-1].held_version is not None:
        known.append((readings[-1].at, readings[-1].held_version))
    return max(known)[1] if known else None


def _address(deployment: Deployment, node: str, role: Role) -> Address:
    match role:
        case "control":
            return deployment.control.listen
        case "origin-api":
            return deployment.origin.api.listen
        case "origin-bytes":
            return deployment.origin.bytes.listen
        case "origin-transcoder":
            return deployment.origin.transcoder_admin
        case "dns":
            return deployment.dns.listen
        case "shield":
            return deployment.shields[node].listen
        case "edge":
            return deployment.edge(node).listen


def _tiers(plane: ControlPlane) -> Iterable[TierStatus]:
    roles = nodes_of(plane.deployment)
    for tier in ("edge", "shield", "origin"):
        names = [node for node, role in roles.items() if TIER_OF_ROLE.get(role) == tier]
        readings = [plane.readings[node] for node in names if node in plane.readings]
        rates = [rate for rate in map(traffic, readings) if rate]
        yield TierStatus(
            tier=tier,
            requests_per_s=sum(rate.requests_per_s for rate in rates),
            delivered_per_s=sum(rate.delivered_per_s for rate in rates),
            egress_bps=sum(rate.egress_bps for rate in rates),
            hit_ratio=_hit_ratio(readings),
        )


def _hit_ratio(readings: Iterable[Sequence[Counters]]) -> float | None:
    served = fetched = 0.0
    for of_node in readings:
        if len(of_node) > 1:
            served += of_node[-1].served - of_node[0].served
            fetched += of_node[-1].fetched - of_node[0].fetched
    return served / (served + fetched) if served + fetched > 0 else None
