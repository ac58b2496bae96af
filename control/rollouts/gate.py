"""Whether a rollout's step holds: pure judgements over what control knows of the nodes. Each gives a reason to stop, or None."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from control.watching.health import NodeHealth
from control.watching.traffic import Counters

LEAST_FAILURES: Final = 5  # of a node within a step: fewer show nothing
WORSE_THAN_BEFORE: Final = 2.0


def went_down(up_before: Iterable[str], known: Iterable[str], health: Mapping[str, NodeHealth]) -> str | None:
    """Nodes that were up when the rollout began, and are down now."""
    remaining = set(known)
    down = [node for node in up_before if node in remaining and node in health and health[node].state == "down"]
    if not down:
        return None
    return "; ".join(f"{node} went down: {health[node].error or 'it does not answer'}" for node in down)


def not_taken(nodes: Iterable[str], held: Mapping[str, int], version: int) -> list[str]:
    """The nodes that do not live by the version yet."""
    return [node for node in nodes if held.get(node, 0) < version]


def not_up(added: Iterable[str], health: Mapping[str, NodeHealth]) -> list[str]:
    """The new nodes that do not answer yet."""
    return [node for node in added if node not in health or health[node].state != "up"]


def failing_share(first: Counters | None, last: Counters | None) -> tuple[float, int]:
    """(share of requests that failed, requests) between two readings of one life of a node."""
    if first is None or last is None or first.process_start != last.process_start:
        return 0.0, 0
    requests = int(last.requests - first.requests)
    return ((last.failed - first.failed) / requests if requests > 0 else 0.0), requests


def fails_too_often(node: str, first: Counters | None, last: Counters | None, before: float, max_errors: float) -> str | None:
    """Requests that a node fails more often than it may, and clearly more often than before the rollout."""
    share, requests = failing_share(first, last)
    allowed = max(max_errors, WORSE_THAN_BEFORE * before)
    if round(share * requests) < LEAST_FAILURES or share <= allowed:
        return None
    return f"{node} fails {share:.1%} of its requests ({requests} since the step; {allowed:.1%} are allowed)"
