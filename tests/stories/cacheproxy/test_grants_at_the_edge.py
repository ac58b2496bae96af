"""Grants at one edge over real sockets: each refusal by its name, never cached, and the three forms of carrying one."""

from __future__ import annotations

import asyncio
import json
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from headwater.rules.rendezvous import ranked
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import PublishedKey, Snapshot
from signer.grant import Algorithm, Grant, GrantToken, KeyId, SigningKey, mint
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import ScriptedParent, scripted_parent, serving

VIDEO = "/videos/abcdefghijA/"
PATH = f"{VIDEO}h264/360p/segment_00000.m4s"
KEY = SigningKey(KeyId("lab-1"), Algorithm.HMAC_SHA256, b"k" * 32)
OTHER = SigningKey(KeyId("lab-1"), Algorithm.HMAC_SHA256, b"o" * 32)


def token(key: SigningKey = KEY, **claims: Any) -> GrantToken:
    defaults = {"key_id": key.key_id, "expires_at": int(time.time()) + 60, "prefix": VIDEO}
    return mint(Grant(**(defaults | claims)), key)


def tampered(whole: GrantToken) -> str:
    """The grant with the first character of its signature changed: still base64url, another signature."""
    claims, _, signature = whole.partition(".")
    return f"{claims}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def signed(deployment: Deployment, parent: ScriptedParent, state: str = "active") -> Snapshot:
    keys = [PublishedKey(key_id="lab-1", algorithm="hmac-sha256", state=state, material=KEY.secret)]  # type: ignore[arg-type]
    return with_parents(deployment, [parent.address], signed=True).model_copy(update={"keys": keys})


async def refusal_of(edge: RunningEdge, path: str) -> str:
    status, fields, body = await edge.get(path)
    assert status == 403
    assert fields["cache-control"] == "no-store"
    assert fields["content-type"] == "application/problem+json"
    assert fields["access-control-allow-origin"] == "*"
    reason = str(json.loads(body)["type"]).removeprefix("urn:headwater:problem:")
    assert json.loads(edge.log.getvalue().splitlines()[-1])["refusal"] == reason
    return reason


async def test_a_grant_in_path_query_or_cookie_opens_the_same_object(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(signed(deployment, parent), tmp_path) as edge,
    ):
        grant = token(session="abc")
        assert (await edge.get(f"/{grant}{PATH}"))[2] == b"body"
        await edge.settled()
        assert "hit" in (await edge.get(f"{PATH}?grant={grant}"))[1]["cache-status"]
        assert "hit" in (await edge.get(PATH, Cookie=f"headwater-grant={grant}"))[1]["cache-status"]
        assert [asked.line for asked in parent.asked] == [f"GET {PATH} HTTP/1.1"]
        assert grant not in edge.log.getvalue()
        assert json.loads(edge.log.getvalue().splitlines()[0])["session"] == "abc"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (lambda: PATH, "grant_missing"),
        (lambda: f"/{tampered(token())}{PATH}", "signature_wrong"),
        (lambda: f"/{token(OTHER)}{PATH}", "signature_wrong"),
        (lambda: f"{PATH}?grant=nonsense", "grant_malformed"),
        (lambda: f"/{token(expires_at=int(time.time()) - 60)}{PATH}", "grant_expired"),
        (lambda: f"/{token(not_before=int(time.time()) + 60)}{PATH}", "grant_not_yet_valid"),
        (lambda: f"/{token(prefix='/videos/abcdefghijE/')}{PATH}", "path_not_covered"),
        (lambda: f"/{token(prefix='/videos/abcdefghij')}{PATH}", "path_not_covered"),
        (lambda: f"/{token(network=ip_network('192.0.2.0/24'))}{PATH}", "network_not_covered"),
        (lambda: f"/{token(SigningKey(KeyId('lab-9'), KEY.algorithm, KEY.secret))}{PATH}", "key_unknown"),
    ],
)
async def test_a_refusal_names_its_reason_and_reaches_no_parent(
    deployment: Deployment, tmp_path: Path, path: Any, reason: str
) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(signed(deployment, parent), tmp_path) as edge,
    ):
        before = value("headwater_cache_refusals_total", reason=reason)
        got = await refusal_of(edge, path())
        assert got == reason
        assert value("headwater_cache_refusals_total", reason=reason) == before + 1
        assert parent.asked == []
        assert (await edge.get(f"/{token()}{PATH}"))[0] == 200


async def test_a_key_that_is_retired_stops_grants_that_were_remembered(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(signed(deployment, parent), tmp_path) as edge,
    ):
        grant = token()
        assert (await edge.get(f"/{grant}{PATH}"))[0] == 200
        edge.snapshot = signed(deployment, parent, "retired")
        assert await refusal_of(edge, f"/{grant}{PATH}") == "key_retired"


async def test_a_grant_is_verified_once_and_then_remembered(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(signed(deployment, parent), tmp_path) as edge,
    ):
        grant = token()
        verified = value("headwater_grants_total", how="verified")
        for _ in range(5):
            await edge.get(f"/{grant}{PATH}")
        assert value("headwater_grants_total", how="verified") == verified + 1


async def test_a_preflight_lets_players_of_other_sites_ask_for_ranges(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(signed(deployment, parent), tmp_path) as edge,
        edge.client.options(edge.url(PATH), headers={"Origin": "http://page"}) as response,
    ):
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Range" in response.headers["Access-Control-Allow-Headers"]


async def test_hosts_that_are_not_served_are_misdirected(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(signed(deployment, parent), tmp_path) as edge,
    ):
        assert (await edge.get(f"/{token()}{PATH}", Host="v3fa.cdn.test:8080"))[0] == 200
        assert (await edge.get(f"/{token()}{PATH}", Host="a.b.cdn.test"))[0] == 421
        assert (await edge.get(f"/{token()}{PATH}", Host="elsewhere.test"))[0] == 421


async def test_writes_are_refused_by_method(deployment: Deployment, tmp_path: Path) -> None:
    async with (
        scripted_parent(serving(b"body")) as parent,
        running_edge(signed(deployment, parent), tmp_path) as edge,
        edge.client.post(edge.url(PATH), data=b"x") as response,
    ):
        assert response.status == 405
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


async def test_every_edge_asks_the_same_shield_for_the_same_object(deployment: Deployment, tmp_path: Path) -> None:
    async with scripted_parent(serving(b"1")) as one, scripted_parent(serving(b"2")) as two:
        snapshot = with_parents(deployment, [one.address, two.address])
        async with running_edge(snapshot, tmp_path) as edge:
            paths = [f"{VIDEO}h264/360p/segment_{n:05d}.m4s" for n in range(20)]
            await asyncio.gather(*(edge.get(path) for path in paths))
            for path in paths:
                expected = ranked(f"video{path}".encode(), [("shield-1", 100), ("shield-2", 100)])[0]
                asked = one if expected == "shield-1" else two
                assert any(path in request.line for request in asked.asked)
            assert len(one.asked) + len(two.asked) == 20
