"""Real edge and shield nodes that ask each other over mutual TLS, with control away."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from edge.service import edge_node
from headwater.runtime.node import NodeContext
from headwater.runtime.nodetoken import read_token, token_digest
from headwater.settings.deployment import Deployment
from headwater.settings.listening import TierTls, Tls
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import Property, Shield
from headwater.settings.units import Address
from shield.service import shield_node
from tests.support.certificates import Authority, authority
from tests.support.deployments import free_port
from tests.support.rawhttp import ask
from tests.support.scriptedparent import scripted_parent, serving

GET = b"GET /a HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n"
NOWHERE = Address("127.0.0.1", 9)


def secured(deployment: Deployment, ca: Authority, upstream: str, edges_ca: Authority) -> Deployment:
    """One shield with mutual TLS, every edge with a certificate of `edges_ca`, an ordinary site as the only property."""
    files, own = ca.issue("shield-1", "shield-1"), edges_ca.issue("fra-1", "fra-1")
    listen = Address("127.0.0.1", free_port("127.0.0.1"))
    tls = Tls.model_validate({"listen": listen, "certificates": [files], "client_authority": ca.file})
    tier = TierTls(authority=ca.file, certificate=own.certificate, key=own.key)
    pops = {
        name: pop.model_copy(
            update={"edges": {key: edge.model_copy(update={"parent_tls": tier}) for key, edge in pop.edges.items()}}
        )
        for name, pop in deployment.pops.items()
    }
    shield = deployment.shields["shield-1"].model_copy(update={"tls": tls})
    site = Property(hosts=["www.test"], signed=False, parent=upstream, cors=False)
    return deployment.model_copy(update={"shields": {"shield-1": shield}, "pops": pops, "properties": {"site": site}})


def context(deployment: Deployment, node: str) -> NodeContext:
    """A node that has its last good snapshot, and a control that does not answer."""
    made = NodeContext(node, deployment, structlog.get_logger().bind(node=node))
    tokens = {"fra-1": token_digest(read_token(deployment.data, "fra-1"))}
    made.folder.mkdir(parents=True, exist_ok=True)
    (made.folder / "snapshot.json").write_text(Snapshot(version=1, deployment=deployment, node_tokens=tokens).model_dump_json())
    return made


@pytest.mark.parametrize("known", [True, False])
async def test_an_edge_asks_its_shield_over_mutual_tls_and_only_with_a_certificate_that_it_knows(
    deployment: Deployment, tmp_path: Path, known: bool
) -> None:
    ca = authority(tmp_path / "tls")
    edges_ca = ca if known else authority(tmp_path / "other")
    async with scripted_parent(serving(b"body")) as upstream:
        whole = secured(deployment, ca, upstream.address.url, edges_ca)
        # What the edge knows of the shield has no plain listener, so that the answer can only have come over TLS.
        shield: Shield = whole.shields["shield-1"].model_copy(update={"listen": NOWHERE})
        seen_by_edge = whole.model_copy(update={"shields": {"shield-1": shield}})
        async with shield_node(context(whole, "shield-1")), edge_node(context(seen_by_edge, "fra-1")):
            answer = await ask(whole.edge("fra-1").listen, GET)
        assert answer.status == (200 if known else 502)
        assert len(upstream.asked) == (1 if known else 0)
        if known:
            assert answer.body == b"body"
            assert answer.fields["cache-status"].startswith("shield-1; fwd=uri-miss")
