"""What the nodes themselves counted during a run: /metrics before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from headwater.settings.deployment import Deployment, Role, admin_address, nodes_of
from headwater.settings.topology import NodeName

TIMEOUT: Final = aiohttp.ClientTimeout(total=3)
ORIGIN_REQUESTS: Final = "headwater_origin_requests_total"
CACHE_REQUESTS: Final = "headwater_cache_requests_total"
# Outcomes for which Cache-Status says `hit`, so that what is seen and what is counted compare.
FROM_THE_STORE: Final = ("hit", "stale", "stale_on_error")

Labels = tuple[tuple[str, str], ...]
Counts = dict[tuple[str, Labels], float]


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """Counters of the nodes that answered."""

    nodes: dict[NodeName, Counts]


def counts_of(exposition: str) -> Counts:
    """Every sample whose name ends in `_total`. Raises ValueError when the text is no Prometheus exposition."""
    counts: Counts = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name.endswith("_total"):
                counts[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return counts


async def read_counts(session: aiohttp.ClientSession, deployment: Deployment, roles: Mapping[NodeName, Role]) -> NodeCounts:
    """The counters of `roles`' nodes; nodes that do not answer are left out."""

    async def read(node: NodeName) -> tuple[NodeName, Counts | None]:
        try:
            async with session.get(f"{admin_address(deployment, node).url}/metrics", timeout=TIMEOUT) as answer:
                return node, counts_of(await answer.text()) if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return node, None

    read_all = await asyncio.gather(*(read(node) for node in roles))
    return NodeCounts({node: counts for node, counts in read_all if counts is not None})


def measured_roles(deployment: Deployment) -> dict[NodeName, Role]:
    """The nodes of the read pipe."""
    return {node: role for node, role in nodes_of(deployment).items() if role in ("edge", "shield", "origin-bytes")}


@dataclass(frozen=True, slots=True)
class TierCounts:
    """One tier during the run. `silent` nodes could not be read before or after, so the sums lack them."""

    requests: float
    by_outcome: dict[str, float]
    silent: tuple[NodeName, ...]

    @property
    def hit_ratio(self) -> float | None:
        hits = sum(self.by_outcome.get(outcome, 0.0) for outcome in FROM_THE_STORE)
        return hits / self.requests if self.requests else None


def tier_counts(before: NodeCounts, after: NodeCounts, roles: Mapping[NodeName, Role], tier: Role) -> TierCounts:
    """What the tier's nodes counted in between."""
    name, label = (ORIGIN_REQUESTS, "status") if tier == "origin-bytes" else (CACHE_REQUESTS, "outcome")
    by_outcome: dict[str, float] = {}
    silent: list[NodeName] = []
    for node in (node for node, role in roles.items() if role == tier):
        if node not in before.nodes or node not in after.nodes:
            silent.append(node)
            continue
        for (sample, labels), count in after.nodes[node].items():
            if sample == name:
                grown = _growth(before.nodes[node].get((sample, labels), 0.0), count)
                outcome = dict(labels).get(label, "unlabelled")
                by_outcome[outcome] = by_outcome.get(outcome, 0.0) + grown
    return TierCounts(sum(by_outcome.values()), {key: count for key, count in by_outcome.items() if count}, tuple(silent))


def _growth(before: float, after: float) -> float:
    """A counter that fell was reset: its node started again in between."""
    return after - before if after >= before else after
