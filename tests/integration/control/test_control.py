"""Control on real sockets: edits of the file, snapshots for nodes that wait, health, keys, tokens, and its own restart."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import pytest
import structlog
import structlog.testing
import yaml
from aiohttp import web
from prometheus_client import REGISTRY

from control.service import control_node
from dnssteer.responder import Responder
from headwater.rules.names import Bucket
from headwater.rules.steering import steer
from headwater.runtime.httpsite import admin_app, serve_app
from headwater.runtime.metrics import value
from headwater.runtime.node import following_snapshots
from headwater.runtime.nodetoken import NODE_HEADER, read_token
from headwater.settings.deployment import admin_address
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of
from signer.keyring import KeyRing
from tests.support.asking import ask_until_true
from tests.support.controlled import Lab, answering, controlled_lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with controlled_lab(tmp_path) as lab:
        yield lab


def first_choice(snapshot: Snapshot, region: str = "eu") -> str:
    return steer(Bucket(0x3FA), region, world_of(snapshot))[0].name


async def test_a_good_edit_is_a_later_snapshot_within_seconds_and_steering_follows(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        before = await lab.now()
        assert first_choice(before) == "fra-1"
        lab.edit("pops.fra.weight", 0)
        after = await lab.snapshot_with(lambda snapshot: snapshot.deployment.pops["fra"].weight == 0)
        assert after.version > before.version
        assert first_choice(after) == "iad-1"
        happening = next(happening for happening in (await lab.status())["happenings"] if happening["kind"] == "config")
        assert happening["text"] == "pops.fra.weight: 100 → 0"


async def test_a_bad_edit_is_refused_and_shown_and_the_old_config_stays_in_force(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        good = lab.file.read_text()
        lab.edit("pops.fra.wieght", 0)

        async def refused() -> dict[str, Any] | None:
            status = await lab.status()
            return None if status["config"]["in_force"] else status

        status = await ask_until_true(refused)
        (problem,) = status["config"]["problems"]
        assert "did you mean 'weight'?" in problem["reason"]
        assert problem["line"] > 0
        assert value("headwater_control_config_problems") == 1
        assert (await lab.now()).deployment == lab.deployment
        lab.file.write_text(good)

        async def in_force() -> bool:
            return (await lab.status())["config"]["in_force"]

        await ask_until_true(in_force)
        assert value("headwater_control_config_problems") == 0


async def test_a_node_that_dies_is_down_after_n_checks_and_up_when_it_is_back(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        async with answering(lab, "fra-1"):
            await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")
        down = await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "down")
        assert first_choice(down) == "iad-1"
        node = await lab.node("fra-1")
        assert (node["health"], node["error"]) == ("down", f"{admin_address(lab.deployment, 'fra-1')}: connection refused")
        async with answering(lab, "fra-1"):
            up = await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")
        assert up.version > down.version
        assert first_choice(up) == "fra-1"


async def test_a_node_that_says_it_cannot_serve_is_down_with_its_reason(lab: Lab) -> None:
    site = serve_app(admin_app(lambda: "the disk is gone"), admin_address(lab.deployment, "fra-1"))
    async with control_node(lab.context("control")), site:
        await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "down")
        assert "answers 503" in (await lab.node("fra-1"))["error"]
        assert "the disk is gone" in (await lab.node("fra-1"))["error"]


async def test_a_control_that_starts_again_goes_on_with_later_versions_and_what_was_down(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        down = await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "down")
    async with control_node(lab.context("control")):
        again = await lab.now()
    assert again.version > down.version
    assert again.health["fra-1"] == "down"


async def test_a_control_that_lost_its_folder_publishes_above_what_nodes_hold(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        held = (await lab.now()).version + 10_000
        later = await lab.ask(held)
    assert later is not None
    assert later.version == held + 1


@pytest.mark.parametrize("token", ["", "guessed", "x" * 5000])
async def test_who_has_no_token_of_a_node_gets_a_problem_and_no_snapshot(lab: Lab, token: str) -> None:
    async with control_node(lab.context("control")):
        headers = {NODE_HEADER: token}
        async with lab.http.get(f"{lab.url}/api/v1/snapshot", params={"node": "fra-1"}, headers=headers) as reply:
            assert reply.status == 403
            problem = await reply.json(content_type="application/problem+json")
    assert problem["type"] == "urn:headwater:problem:node-unknown"
    assert "fra-1" in problem["detail"]


async def test_a_node_that_the_config_no_longer_has_is_no_metric_any_more(lab: Lab) -> None:
    async with control_node(lab.context("control")), answering(lab, "sin-1"):
        await lab.snapshot_with(lambda snapshot: snapshot.health.get("sin-1") == "up")
        assert REGISTRY.get_sample_value("headwater_control_node_up", {"node": "sin-1"}) == 1
        content = yaml.safe_load(lab.file.read_text())
        del content["pops"]["sin"]
        lab.file.write_text(yaml.safe_dump(content, sort_keys=False))

        async def gone() -> bool:
            return all(node["name"] != "sin-1" for node in (await lab.status())["nodes"])

        await ask_until_true(gone)
        assert REGISTRY.get_sample_value("headwater_control_node_up", {"node": "sin-1"}) is None


async def test_a_node_that_the_config_no_longer_has_is_refused(lab: Lab) -> None:
    lab.edit("shields.shield-9", {"listen": "127.0.0.1:1901", "admin": "127.0.0.1:1902"})
    async with control_node(lab.context("control")):
        await lab.snapshot_with(lambda snapshot: "shield-9" in snapshot.node_tokens)
        assert await lab.ask(node="shield-9") is not None
        content = yaml.safe_load(lab.file.read_text())
        del content["shields"]["shield-9"]
        lab.file.write_text(yaml.safe_dump(content))
        await lab.snapshot_with(lambda snapshot: "shield-9" not in snapshot.node_tokens)
        with pytest.raises(AssertionError):
            await lab.ask(node="shield-9")


@pytest.mark.parametrize("query", ["after=x", "after=-1", "wait=nan", "wait=-3", "after=1e400"])
async def test_a_query_that_means_nothing_is_a_problem(lab: Lab, query: str) -> None:
    headers = {NODE_HEADER: read_token(lab.deployment.data, "fra-1")}
    asked = f"{lab.url}/api/v1/snapshot?{query}"
    async with control_node(lab.context("control")), lab.http.get(asked, headers=headers) as reply:
        assert reply.status == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rollout?wait=nan", None),
        pytest.param("plan", b"[" * 100_000, id="plan, nested"),
        pytest.param("purge", b"[" * 100_000, id="purge, nested"),
        ("warm", b'{"urls": ["/videos/a"], "edges": [["fra"]]}'),
    ],
)
async def test_an_order_that_means_nothing_is_a_problem(lab: Lab, path: str, body: bytes | None) -> None:
    async with control_node(lab.context("control")):
        method, url = "GET" if body is None else "POST", f"{lab.url}/api/v1/{path}"
        async with lab.http.request(method, url, data=body, headers=lab.operator) as answer:
            assert answer.status == 400, await answer.text()
            assert answer.content_type == "application/problem+json"


async def test_a_hundred_nodes_that_wait_are_all_told_at_once(lab: Lab) -> None:
    async with control_node(lab.context("control")), answering(lab, "fra-1"):
        before = await lab.snapshot_with(lambda snapshot: snapshot.health["fra-1"] == "up")

        async def told() -> int:
            snapshot = before
            while snapshot.deployment.steering.answers != 1:
                snapshot = await lab.ask(snapshot.version) or snapshot
            return snapshot.version

        asking = [asyncio.create_task(told()) for _ in range(100)]
        await ask_until_true(lambda: waiting_polls(50))
        lab.edit("steering.answers", 1)
        async with asyncio.timeout(20):
            versions = await asyncio.gather(*asking)
    assert len(set(versions)) == 1


async def waiting_polls(at_least: int) -> bool:
    return value("headwater_control_waiting_polls") >= at_least


async def test_a_poll_without_news_ends_with_204_and_shows_what_the_node_holds(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        held = await lab.snapshot_with(lambda snapshot: set(snapshot.health.values()) == {"down"})
        assert await lab.ask(held.version, wait=0.05) is None
        node = await lab.node("sin-1")
        assert (node["version"], node["current"]) == (held.version, True)


async def test_a_control_that_stops_lets_waiting_nodes_go(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        held = await lab.snapshot_with(lambda snapshot: set(snapshot.health.values()) == {"down"})
        asking = asyncio.create_task(lab.ask(held.version, wait=60))
        await ask_until_true(lambda: waiting_polls(1))
    async with asyncio.timeout(5):
        assert await asking is None


async def test_a_rotated_key_reaches_the_nodes(lab: Lab) -> None:
    ring = KeyRing(lab.deployment.data / lab.deployment.signing.keys)
    async with control_node(lab.context("control")):
        assert [key.state for key in (await lab.now()).keys] == ["active"]
        ring.new("ed25519", "second")
        snapshot = await lab.snapshot_with(lambda snapshot: len(snapshot.keys) == 2)
    published = {key.key_id: key.material for key in snapshot.keys}
    assert published == {key.key_id: key.material for key in ring.published()}
    stored = ring.keys()
    assert not {key.secret for key in stored} & set(published.values()), "nodes get public halves only"


async def test_a_node_follows_control_through_its_death_and_never_takes_an_older_snapshot(lab: Lab) -> None:
    async with AsyncExitStack() as stack:
        async with control_node(lab.context("control")):
            follower = await stack.enter_async_context(following_snapshots(lab.context("dns")))

            async def answered() -> int:  # a node starts without, when control takes its time
                return follower.current.version

            first = await ask_until_true(answered)
        # Control is gone: the node answers by what it holds.
        responder = Responder(follower.current, structlog.get_logger())
        query = dns.message.make_query("v3fa.cdn.test", "A").to_wire()
        assert responder.reply(query, ip_address("127.0.0.1"), over_tcp=False)
        news = asyncio.Event()
        follower.on_change(lambda snapshot: news.set())
        async with control_node(lab.context("control")):
            async with asyncio.timeout(20):
                await news.wait()
            assert follower.current.version > first


async def test_a_node_whose_disk_takes_no_snapshot_lives_by_it_all_the_same(lab: Lab) -> None:
    """Else a full disk would cost the node every new key and every drain."""
    context = lab.context("dns")
    (context.folder / "snapshot.json").mkdir(parents=True)  # nothing can be renamed onto it
    async with control_node(lab.context("control")), following_snapshots(context) as follower:
        wanted = (await lab.now()).version

        async def taken() -> bool:
            return follower.current.version >= wanted

        await ask_until_true(taken)


async def test_the_snapshot_of_a_newer_control_is_refused_counted_and_told_once(lab: Lab) -> None:
    """Else an operator who upgraded control first would see nodes lag, and nobody would say why."""
    newer = json.loads(Snapshot(version=2**40, deployment=lab.deployment).model_dump_json()) | {"of_the_future": 1}
    site, refused = web.Application(), value("headwater_snapshot_polls_total", outcome="refused_unreadable")

    async def snapshot(request: web.Request) -> web.Response:
        return web.json_response(newer)

    site.router.add_get("/api/v1/snapshot", snapshot)

    async def refused_twice() -> bool:
        return value("headwater_snapshot_polls_total", outcome="refused_unreadable") >= refused + 2

    with structlog.testing.capture_logs() as lines:
        context = replace(lab.context("fra-1"), log=structlog.get_logger())
        async with serve_app(site, lab.deployment.control.listen), following_snapshots(context) as follower:
            await ask_until_true(refused_twice)
            assert follower.current.version < 2**40
    (line,) = [line for line in lines if line["log_level"] == "error"]
    assert "upgrade the node" in line["event"]
    assert "of_the_future" in line["problems"]


async def test_a_cache_that_answers_a_purge_with_something_else_is_missing_and_the_others_are_told(lab: Lab) -> None:
    async def something_else(request: web.Request) -> web.Response:
        return web.json_response({"status": "up"})

    async def acknowledged(request: web.Request) -> web.Response:
        return web.json_response({"sequence": (await request.json())["records"][-1]["sequence"]})

    async with AsyncExitStack() as stack:
        for node, handler in (("shield-1", something_else), ("shield-2", acknowledged), ("fra-1", acknowledged)):
            site = admin_app()
            site.router.add_post("/purge", handler)
            await stack.enter_async_context(serve_app(site, admin_address(lab.deployment, node), drain_s=0.1))
        await stack.enter_async_context(control_node(lab.context("control")))
        async with lab.http.post(f"{lab.url}/api/v1/purge", json={"tag": "news"}, headers=lab.operator) as answer:
            assert answer.status == 200, await answer.text()
            said = await answer.json()
    assert [one["node"] for one in said["acknowledged"]] == ["shield-2", "fra-1"]
    assert {one["node"] for one in said["missing"]} == {"shield-1", "iad-1", "sin-1"}


async def test_a_version_that_no_control_can_have_published_is_not_outdone(lab: Lab) -> None:
    """One damaged node would else drive the versions to where nobody may ask for a later one."""
    async with control_node(lab.context("control")):
        before = (await lab.now()).version
        assert await lab.ask(2**53 - 1, wait=0.1, node="iad-1") is None
        lab.edit("pops.fra.weight", 0)
        after = await lab.snapshot_with(lambda snapshot: snapshot.deployment.pops["fra"].weight == 0)
        assert before < after.version < 2**40


async def test_an_edit_that_needs_a_restart_says_so_until_the_node_started_again(lab: Lab) -> None:
    async with control_node(lab.context("control")), answering(lab, "shield-1"):

        async def seen() -> bool:
            return (await lab.node("shield-1"))["version"] is not None

        await ask_until_true(seen)
        lab.edit("shields.shield-1.cache", {"ram": "64 MiB"})
        await lab.snapshot_with(lambda snapshot: snapshot.deployment.shields["shield-1"].cache.ram == 64 * 2**20)
        assert (await lab.node("shield-1"))["restart"] == [
            {"path": "shields.shield-1.cache.ram", "before": "256 MiB", "after": "64 MiB"}
        ]
        assert (await lab.node("shield-2"))["restart"] == []


async def test_the_page_is_whole_and_its_own(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        for path, kind in [("/", "text/html"), ("/page/page.js", "text/javascript"), ("/page/page.css", "text/css")]:
            async with lab.http.get(lab.url + path) as reply:
                assert (reply.status, reply.content_type) == (200, kind), path
                assert "default-src 'self'" in reply.headers["Content-Security-Policy"]
                assert (
                    "//" not in (await reply.text()).replace("http://www.w3.org/2000/svg", "").replace("//", "", 0) or path != "/"
                )
        for path in ["/page/../service.py", "/page/service.py", "/nothing"]:
            async with lab.http.get(lab.url + path) as reply:
                assert reply.status == 404
                assert reply.content_type == "application/problem+json"
