"""What operators want: the text of the config, and the POPs and edges that they have drained beside it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from headwater.settings.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Wanted:
    """A config and its drains. `text` is what `deployment` was read from."""

    text: str
    deployment: Deployment
    drains: frozenset[str] = frozenset()

    @property
    def effective(self) -> Deployment:
        """What nodes are to live by."""
        return with_drains(self.deployment, self.drains)


def with_drains(deployment: Deployment, drains: Iterable[str]) -> Deployment:
    """The deployment in which these POPs and edges have the weight 0. Names that it does not have mean nothing."""
    drained = set(drains)
    if not drained:
        return deployment
    pops = {}
    for name, pop in deployment.pops.items():
        edges = {
            edge_name: edge.model_copy(update={"weight": 0.0}) if edge_name in drained else edge
            for edge_name, edge in pop.edges.items()
        }
        weight = {"weight": 0.0} if name in drained else {}
        pops[name] = pop.model_copy(update={"edges": edges, **weight})
    return deployment.model_copy(update={"pops": pops})


def drainable(deployment: Deployment) -> list[str]:
    """The names that may be drained: POPs, then edges."""
    return [*deployment.pops, *(name for name, _, _ in deployment.edges())]
