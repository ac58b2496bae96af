"""How to reach control, and nodes' admin sites: over mutual TLS with an identity, else in plain with the node's token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from headwater.rules.nodeidentity import CONTROL
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.settings.deployment import Deployment, admin_address
from headwater.settings.topology import NodeName


@dataclass(frozen=True, slots=True)
class Site:
    """Where a site is, and what a request of aiohttp to it takes beside the URL: `session.get(site.url + path, **site.tls)`."""

    url: str
    tls: dict[str, Any] = field(default_factory=dict)


def admin_site(identity: Identity | None, deployment: Deployment, node: NodeName) -> Site:
    """A node's admin site, for whatever takes a certificate there. It has to be that node's by its own."""
    address = admin_address(deployment, node)
    if identity is None:
        return Site(address.url)
    return Site(f"https://{address}", {"ssl": identity.client, "server_hostname": node})


def control_client(identity: Identity | None, deployment: Deployment, token: str, timeout: httpx.Timeout) -> httpx.AsyncClient:
    """A client for nodes' questions to control; its URLs are paths."""
    enrolment = deployment.control.enrolment
    if identity is None or enrolment is None:
        return httpx.AsyncClient(
            base_url=deployment.control.listen.url, timeout=timeout, headers={NODE_HEADER: token}, trust_env=False
        )
    return httpx.AsyncClient(
        base_url=f"https://{enrolment.listen}",
        timeout=timeout,
        verify=identity.client,
        trust_env=False,
        event_hooks={"request": [_as_control]},
    )


def node_client(identity: Identity | None, token: str, timeout: httpx.Timeout) -> httpx.AsyncClient:
    """A client for control's questions to nodes; each says by `named` which node has to answer."""
    if identity is None:
        return httpx.AsyncClient(timeout=timeout, headers={NODE_HEADER: token}, trust_env=False)
    return httpx.AsyncClient(timeout=timeout, verify=identity.client, trust_env=False)


def named(node: NodeName) -> dict[str, str]:
    """The extension of a request of httpx to a node."""
    return {_SNI: node}


async def _as_control(request: httpx.Request) -> None:
    """Control's certificate names control, wherever it listens."""
    request.extensions[_SNI] = CONTROL


_SNI: Final = "sni_hostname"
