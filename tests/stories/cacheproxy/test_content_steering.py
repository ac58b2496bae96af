"""An edge answers a video's steering manifest itself, under the grant, by its snapshot, and stores nothing of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from headwater.settings.snapshot import PublishedKey, Snapshot
from headwater.settings.topology import Property
from signer.grant import Algorithm, Grant, KeyId, SigningKey, mint
from tests.support.deployments import lab_deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import ScriptedParent, scripted_parent, serving

VIDEO = "dQw4w9WgXcQ"
PATH = f"/videos/{VIDEO}/steering.json"
KEY = SigningKey(KeyId("lab-1"), Algorithm.HMAC_SHA256, b"k" * 32)
GRANT = mint(Grant(KeyId("lab-1"), 4_000_000_000, f"/videos/{VIDEO}/"), KEY)


def signed(folder: Path, parent: ScriptedParent) -> Snapshot:
    snapshot = with_parents(lab_deployment(folder), [parent.address], signed=True)
    key = PublishedKey(key_id="lab-1", algorithm="hmac-sha256", state="active", material=b"k" * 32)
    return snapshot.model_copy(update={"keys": [key]})


async def manifest(edge: RunningEdge) -> dict[str, Any]:
    status, fields, body = await edge.get(f"/{GRANT}{PATH}")
    assert (status, fields["cache-control"], fields["content-type"]) == (200, "no-store", "application/json")
    assert fields["access-control-allow-origin"] == "*"
    members: dict[str, Any] = json.loads(body)
    return members


async def test_a_player_is_told_of_other_edges_and_of_a_drain_at_once(tmp_path: Path) -> None:
    async with scripted_parent(serving(b"never asked")) as parent:
        snapshot = signed(tmp_path, parent)
        port = snapshot.deployment.edge("fra-1").listen.port
        async with running_edge(snapshot, tmp_path) as edge:
            told = await manifest(edge)
            assert told["PATHWAY-PRIORITY"][0] == "."
            assert {one["URI-REPLACEMENT"]["HOST"] for one in told["PATHWAY-CLONES"]} == {
                "127.0.2.1",
                "127.0.3.1",
            }, "an HLS player keeps the port"
            _, _, body = await edge.get(f"/{GRANT}{PATH}".replace(".json", ".dcsm"))
            assert {one["URI-REPLACEMENT"]["HOST"] for one in json.loads(body)["PATHWAY-CLONES"]} == {
                f"127.0.2.1:{port}",
                f"127.0.3.1:{port}",
            }, "a DASH player takes it from there"
            door = snapshot.deployment.dns.http
            assert door is not None
            assert told["RELOAD-URI"] == f"{door.public_url}/steering{PATH}?region=eu&from=fra-1"
            drained = snapshot.deployment.pops["fra"].model_copy(update={"weight": 0.0})
            pops = {**snapshot.deployment.pops, "fra": drained}
            edge.snapshot = snapshot.model_copy(update={"deployment": snapshot.deployment.model_copy(update={"pops": pops})})
            assert (await manifest(edge))["PATHWAY-PRIORITY"] == ["iad-1", "sin-1", "."]
        assert parent.asked == []


async def test_without_a_grant_there_is_no_manifest(tmp_path: Path) -> None:
    async with scripted_parent(serving(b"never asked")) as parent, running_edge(signed(tmp_path, parent), tmp_path) as edge:
        status, _, body = await edge.get(PATH)
        assert (status, json.loads(body)["type"]) == (403, "urn:headwater:problem:grant_missing")
        other = mint(Grant(KeyId("lab-1"), 4_000_000_000, "/videos/AAAAAAAAAAA/"), KEY)
        status, _, body = await edge.get(f"/{other}{PATH}")
        assert (status, json.loads(body)["type"]) == (403, "urn:headwater:problem:path_not_covered")


async def test_head_has_the_length_and_no_body(tmp_path: Path) -> None:
    async with scripted_parent(serving(b"never asked")) as parent, running_edge(signed(tmp_path, parent), tmp_path) as edge:
        _, _, body = await edge.get(f"/{GRANT}{PATH}")
        async with edge.client.head(edge.url(f"/{GRANT}{PATH}")) as answer:
            assert (answer.status, answer.content_length, await answer.read()) == (200, len(body), b"")


async def test_an_edge_serves_under_its_own_name_and_offers_named_edges_by_it(tmp_path: Path) -> None:
    async with scripted_parent(serving(b"never asked")) as parent:
        snapshot = signed(tmp_path, parent)
        pops = dict(snapshot.deployment.pops)
        for pop, name in (("fra", "fra-1"), ("iad", "iad-1")):
            named = pops[pop].edges[name].model_copy(update={"host": f"{name}.other.example"})
            pops[pop] = pops[pop].model_copy(update={"edges": {name: named}})
        snapshot = snapshot.model_copy(update={"deployment": snapshot.deployment.model_copy(update={"pops": pops})})
        async with running_edge(snapshot, tmp_path) as edge:
            status, _, body = await edge.get(f"/{GRANT}{PATH}", Host="fra-1.other.example")
            assert status == 200
            assert json.loads(body)["PATHWAY-CLONES"][0]["URI-REPLACEMENT"] == {"HOST": "iad-1.other.example"}
            assert (await edge.get(f"/{GRANT}{PATH}", Host="iad-1.other.example"))[0] == 421


async def test_an_ordinary_sites_path_of_that_form_is_the_sites_own(tmp_path: Path) -> None:
    async with scripted_parent(serving(b"the site's")) as parent:
        site = Property(hosts=["www.test"], signed=False, parent=parent.address.url, shielded=False, cors=False)
        deployment = lab_deployment(tmp_path).model_copy(update={"properties": {"site": site}})
        async with running_edge(Snapshot(version=1, deployment=deployment), tmp_path) as edge:
            assert (await edge.get(PATH))[2] == b"the site's"
