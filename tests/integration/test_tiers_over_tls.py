"""Real edge and shield nodes that ask each other over mutual TLS, with control away."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path

import pytest
import structlog

from edge.service import edge_node
from headwater.runtime.node import NodeContext
from headwater.runtime.nodetoken import read_token, token_digest
from headwater.settings.deployment import Deployment
from headwater.settings.listening import TierTls, Tls
from headwater.settings.origin import Origin
from headwater.settings.snapshot import PublishedKey, Snapshot
from headwater.settings.topology import Property, Shield
from headwater.settings.units import Address
from origin.byteserver.service import byteserver_node
from origin.tiers.open import open_tiers
from shield.service import shield_node
from signer.grant import Grant, mint
from signer.keyring import KeyRing
from tests.support.certificates import Authority, authority
from tests.support.deployments import free_port
from tests.support.rawhttp import answers, ask, exchange
from tests.support.scriptedparent import scripted_parent, serving

GET = b"GET /a HTTP/1.1\r\nHost: www.test\r\nConnection: close\r\n\r\n"
SEGMENT = "videos/AAAAAAAAAAA/h264/360p/segment_00000.m4s"
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


def over_tls_throughout(deployment: Deployment, ca: Authority, viewers_ca: Authority) -> Deployment:
    """Byte server and shield ask for certificates of `ca`; fra-1 shows viewers one of `viewers_ca` for logical hosts."""

    def listening(name: str) -> Tls:
        listen = Address("127.0.0.1", free_port("127.0.0.1"))
        files = ca.issue(name, name)
        return Tls.model_validate({"listen": listen, "certificates": [files], "client_authority": ca.file})

    own = ca.issue("node", "shield-1")
    tier = TierTls(authority=ca.file, certificate=own.certificate, key=own.key)
    shown = Tls.model_validate(
        {
            "listen": Address("127.0.1.1", free_port("127.0.1.1")),
            "certificates": [viewers_ca.issue("edge", "*.cdn.test")],
        }
    )
    fra = deployment.pops["fra"]
    edge = fra.edges["fra-1"].model_copy(update={"tls": shown, "parent_tls": tier})
    shield = deployment.shields["shield-1"].model_copy(update={"tls": listening("shield-1"), "parent_tls": tier})
    served = deployment.origin.bytes.model_copy(update={"tls": listening("origin-bytes")})
    changes = {
        "pops": deployment.pops | {"fra": fra.model_copy(update={"edges": {"fra-1": edge}})},
        "shields": {"shield-1": shield},
        "origin": deployment.origin.model_copy(update={"bytes": served}),
    }
    return deployment.model_copy(update=changes)


def without_plain_bytes(origin: Origin) -> Origin:
    return origin.model_copy(update={"bytes": origin.bytes.model_copy(update={"listen": NOWHERE})})


def context(deployment: Deployment, node: str, *, keys: KeyRing | None = None) -> NodeContext:
    """A node that has its last good snapshot, and a control that does not answer."""
    made = NodeContext(node, deployment, structlog.get_logger().bind(node=node))
    tokens = {name: token_digest(read_token(deployment.data, name)) for name in ("fra-1", "shield-1")}
    published = [
        PublishedKey(key_id=key.key_id, algorithm=key.algorithm.value, state=key.state.value, material=key.material)
        for key in (keys.published() if keys is not None else ())
    ]
    made.folder.mkdir(parents=True, exist_ok=True)
    snapshot = Snapshot(version=1, deployment=deployment, node_tokens=tokens, keys=published)
    (made.folder / "snapshot.json").write_text(snapshot.model_dump_json())
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


async def test_a_signed_segment_goes_over_tls_from_the_byte_server_to_the_viewer(deployment: Deployment, tmp_path: Path) -> None:
    ca = authority(tmp_path / "tls")
    viewers_ca = authority(tmp_path / "public")
    whole = over_tls_throughout(deployment, ca, viewers_ca)
    # No tier knows a plain listener of its parents.
    seen_by_shield = whole.model_copy(update={"origin": without_plain_bytes(whole.origin)})
    plain = whole.shields["shield-1"].model_copy(update={"listen": NOWHERE})
    seen_by_edge = whole.model_copy(update={"shields": {"shield-1": plain}})
    body = hashlib.shake_256(b"segment").digest(300_000)
    await open_tiers(whole).put_bytes(SEGMENT, body, "video/iso.segment")
    ring = KeyRing(whole.data / whole.signing.keys)
    ring.ensure(whole.signing.algorithm)
    key = ring.signing_key()
    token = mint(Grant(key_id=key.key_id, expires_at=int(time.time()) + 600, prefix=f"/{SEGMENT}"), key)
    tls = whole.edge("fra-1").tls
    assert tls is not None
    async with (
        byteserver_node(context(whole, "origin-bytes", keys=ring)),
        shield_node(context(seen_by_shield, "shield-1", keys=ring)),
        edge_node(context(seen_by_edge, "fra-1", keys=ring)),
    ):
        get = f"GET /{token}/{SEGMENT} HTTP/1.1\r\nHost: v3fa.cdn.test\r\nConnection: close\r\n\r\n".encode()
        (answer,) = answers(await exchange(tls.listen, get, tls=viewers_ca.client(), name="v3fa.cdn.test"))
        refused = get.replace(SEGMENT.encode(), b"videos/other/x")
        (other,) = answers(await exchange(tls.listen, refused, tls=viewers_ca.client(), name="v3fa.cdn.test"))
    assert (answer.status, answer.body == body) == (200, True)
    assert [member.split(";")[0] for member in answer.fields["cache-status"].split(", ")] == ["shield-1", "fra-1"]
    assert other.status == 403


async def test_a_certificate_that_is_renewed_is_shown_to_parents_without_a_restart(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.runtime.tls.LOOK_S", 0.05)
    ca, other = authority(tmp_path / "tls"), authority(tmp_path / "other")
    async with scripted_parent(serving(b"body")) as upstream:
        whole = secured(deployment, ca, upstream.address.url, other)
        shield: Shield = whole.shields["shield-1"].model_copy(update={"listen": NOWHERE})
        seen_by_edge = whole.model_copy(update={"shields": {"shield-1": shield}})
        async with shield_node(context(whole, "shield-1")), edge_node(context(seen_by_edge, "fra-1")):
            listen = whole.edge("fra-1").listen
            assert (await ask(listen, GET)).status == 502
            new, shown = ca.issue("fra-1", "fra-1"), other.folder
            new.key.replace(shown / "fra-1.key")
            new.certificate.replace(shown / "fra-1.pem")
            status = 502
            async with asyncio.timeout(10):
                while status != 200:
                    await asyncio.sleep(0.1)
                    status = (await ask(listen, GET)).status
