"""Which nodes check which others. Those that need a node's service look at it, and the steering node looks at all of them."""

from __future__ import annotations

from headwater.settings.deployment import Deployment, nodes_of
from headwater.settings.topology import NodeName


def peers_of(deployment: Deployment, node: NodeName) -> list[NodeName]:
    """The nodes that `node` checks: edges look at shields, shields at edges, the steering node at both."""
    edges = [name for name, _, _ in deployment.edges()]
    match nodes_of(deployment).get(node):
        case "dns":
            return [*deployment.shields, *edges]
        case "shield":
            return edges
        case "edge":
            return list(deployment.shields)
        case _:
            return []


def vantages_of(deployment: Deployment) -> list[NodeName]:
    """The nodes that have peers to check."""
    return [node for node in nodes_of(deployment) if peers_of(deployment, node)]
