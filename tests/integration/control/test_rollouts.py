"""Rollouts through control's real API: real followers of snapshots, admin sites that tests may make fail, a control that dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from control.audit import Asker, AuditLog, What
from control.rollouts import rollouts
from control.service import control_node
from control.watching.probing import read_metrics
from headwater.rules.addresses import Address
from headwater.rules.warmorder import WarmOutcome, WarmReport
from headwater.runtime.httpsite import admin_app, serve_app
from headwater.runtime.node import following_snapshots
from headwater.runtime.nodetoken import NODE_HEADER, read_token
from headwater.settings.deployment import admin_address
from headwater.settings.load import load_deployment
from headwater.settings.snapshot import Snapshot
from tests.support.controlled import Lab, controlled_lab

CACHES = ("shield-1", "shield-2", "fra-1", "iad-1", "sin-1")
QUICK = {"settle": "150 ms", "ramp": "300 ms", "ramp_steps": 2, "patience": "8 s", "handoff": {"longest": "2 s"}}


@dataclass
class Node:
    """A cache of which only the admin site and the follower are there. `seen` are its snapshots in order."""

    why_down: str | None = None
    failed: int = 0
    requests: int = 0
    fails_with: Callable[[Snapshot], bool] = lambda snapshot: False
    seen: list[Snapshot] = field(default_factory=list)
    hot: list[list[Any]] = field(default_factory=list)
    ordered: list[dict[str, Any]] = field(default_factory=list)

    async def hottest(self, request: web.Request) -> web.Response:
        return web.json_response({"parts": [{"objects": self.hot}]})

    async def warm(self, request: web.Request) -> web.Response:
        """Says that it fetched whatever it is ordered to."""
        objects = (await request.json())["objects"]
        self.ordered += objects
        report = WarmReport()
        for one in objects:
            report.note(one["key"], WarmOutcome.FETCHED, 10, (*one["from"], "shield-1")[0])
        return web.json_response({"parts": [report.members()]})

    async def metrics(self) -> str:
        """As of a cache that answers 40 more requests at each look, all of them with 502 while it `fails_with` its config."""
        fails = bool(self.seen) and self.fails_with(self.seen[-1])
        self.requests, self.failed = self.requests + (0 if fails else 40), self.failed + (40 if fails else 0)
        name = "headwater_cache_requests_total"
        return (
            f'process_start_time_seconds 1.0\n{name}{{outcome="hit",status="2xx"}} {self.requests}\n'
            f'{name}{{outcome="failed",status="5xx"}} {self.failed}\n'
        )


@dataclass
class Fleet:
    lab: Lab
    nodes: dict[str, Node]

    async def order(self, path: str, members: object = None, status: int | None = None) -> dict[str, Any]:
        headers = {**self.lab.operator, "Headwater-Login": "ada"}
        method = "GET" if members is None else "POST"
        async with self.lab.http.request(method, f"{self.lab.url}/api/v1/{path}", json=members, headers=headers) as answer:
            found: dict[str, Any] = await answer.json(content_type=None)
            assert answer.status < 300 if status is None else answer.status == status, found
            return found

    async def apply(self, text: str, **members: Any) -> dict[str, Any]:
        return await self.order("apply", {"text": text, "name": "new.yaml", **members})

    async def ended(self) -> dict[str, Any]:
        """The rollout when it has ended."""
        async with asyncio.timeout(30):
            while True:
                state = (await self.order("rollout?wait=5&after=1000000"))["rollout"]
                if not state["active"]:
                    return dict(state)

    async def at_step(self, name: str) -> None:
        """Returns when the rollout has begun the step of that name."""
        async with asyncio.timeout(20):
            seen = 0
            while True:
                state = (await self.order(f"rollout?wait=5&after={seen}"))["rollout"]
                if any(name in line["text"] for line in state["lines"]):
                    return
                assert state["active"], state
                seen = len(state["lines"])

    def text(self, change: Callable[[dict[str, Any]], None]) -> str:
        content = yaml.safe_load(self.lab.file.read_text())
        change(content)
        return yaml.safe_dump(content, sort_keys=False)

    @asynccontextmanager
    async def control(self) -> AsyncIterator[None]:
        """Control, when it knows that all caches are up."""
        self.lab.deployment = load_deployment(self.lab.file)  # as a process that starts reads it
        async with control_node(self.lab.context("control")):
            await self.lab.snapshot_with(lambda snapshot: all(snapshot.health.get(node) == "up" for node in CACHES))
            yield


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with controlled_lab(tmp_path) as lab, AsyncExitStack() as stack:
        content = yaml.safe_load(lab.file.read_text())
        content["control"]["staging"] = QUICK
        content["dns"]["ttl"] = "100 ms"
        lab.file.write_text(yaml.safe_dump(content, sort_keys=False))
        nodes = {name: Node() for name in CACHES}
        for name, node in nodes.items():
            site = admin_app(partial(getattr, node, "why_down"), node.metrics)
            site.router.add_post("/hottest", node.hottest)
            site.router.add_post("/warm", node.warm)
            await stack.enter_async_context(serve_app(site, admin_address(lab.deployment, name), drain_s=0.1))
        yield Fleet(lab, nodes)


@asynccontextmanager
async def following(fleet: Fleet) -> AsyncIterator[None]:
    """Every cache follows control's snapshots, as real ones do; they outlive a control."""
    async with AsyncExitStack() as stack:
        followers = [asyncio.create_task(_enter(stack, fleet, name, node)) for name, node in fleet.nodes.items()]
        await asyncio.gather(*followers)
        yield


async def _enter(stack: AsyncExitStack, fleet: Fleet, name: str, node: Node) -> None:
    follower = await stack.enter_async_context(following_snapshots(fleet.lab.context(name)))
    node.seen.append(follower.current)
    follower.on_change(node.seen.append)


def drained(pop: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["pops"][pop].update(weight=0)


def leeway(content: dict[str, Any]) -> None:
    content["signing"] = {"leeway": "9 s"}


def first_version_with(node: Node, holds: Callable[[Snapshot], bool]) -> int:
    return next(snapshot.version for snapshot in node.seen if holds(snapshot))


async def test_an_apply_reaches_the_canary_then_pop_by_pop_and_becomes_the_file_and_a_version(fleet: Fleet) -> None:
    async with fleet.control(), following(fleet):
        text = fleet.text(lambda content: (leeway(content), drained("sin")(content)))
        begun = await fleet.apply(text)
        assert begun["plan"]["moved_buckets"] == 4096
        running = await fleet.order("apply", {"text": text, "name": "x"}, 409)
        assert running["type"].endswith("rollout-running")
        state = await fleet.ended()
        assert state["status"] == "done", state
        versions = {
            name: first_version_with(node, lambda snapshot: snapshot.deployment.signing.leeway == 9)
            for name, node in fleet.nodes.items()
        }
        assert versions["fra-1"] < versions["iad-1"] < versions["sin-1"] < versions["shield-1"] < versions["shield-2"]
        weights = [snapshot.deployment.pops["sin"].weight for snapshot in fleet.nodes["fra-1"].seen]
        assert list(dict.fromkeys(weights)) == [100, 50, 0]
        assert fleet.lab.file.read_text() == text
        listed = await fleet.order("versions")
        assert listed["in_force"] == 2
        assert [(one["source"], one["outcome"]) for one in listed["versions"]] == [("apply", "applied"), ("start", "applied")]
        assert (await fleet.order("versions/2"))["text"] == text
        lines = (await fleet.order("audit"))["lines"]
        assert {line["what"] for line in lines} == {"apply", "refused"}  # the second apply, while the first ran
        assert (lines[0]["login"], lines[0]["from"], lines[0]["outcome"]) == ("ada", "127.0.0.1", "done")
        happenings = (await fleet.lab.status())["happenings"]
        assert not [one for one in happenings if one["kind"] == "config"]  # our own writing is no edit


async def test_a_failing_canary_rolls_back_by_itself_and_nobody_else_saw_the_change(fleet: Fleet) -> None:
    async with fleet.control(), following(fleet):
        before = fleet.lab.file.read_text()

        fleet.nodes["fra-1"].fails_with = lambda snapshot: snapshot.deployment.signing.leeway == 9
        await fleet.apply(fleet.text(leeway))
        state = await fleet.ended()
        assert state["status"] == "rolled back"
        assert "fra-1 fails" in state["reason"]
        assert fleet.nodes["fra-1"].seen[-1].deployment.signing.leeway == 5
        assert all(snapshot.deployment.signing.leeway == 5 for snapshot in fleet.nodes["iad-1"].seen)
        assert fleet.lab.file.read_text() == before
        listed = await fleet.order("versions")
        assert (listed["in_force"], listed["versions"][0]["outcome"]) == (1, "rolled back")
        assert "fra-1 fails" in listed["versions"][0]["reason"]


async def test_an_edge_that_goes_down_during_a_ramp_rolls_back_and_says_which(fleet: Fleet) -> None:
    async with fleet.control(), following(fleet):
        await fleet.apply(fleet.text(drained("fra")))
        await fleet.at_step("weights: 50%")
        fleet.nodes["iad-1"].why_down = "the disk is gone"
        state = await fleet.ended()
        assert state["status"] == "rolled back"
        assert "iad-1 went down" in state["reason"]
        assert "the disk is gone" in state["reason"]
        assert fleet.nodes["sin-1"].seen[-1].deployment.pops["fra"].weight == 100


async def test_an_operator_stops_a_rollout(fleet: Fleet) -> None:
    async with fleet.control(), following(fleet):
        await fleet.apply(fleet.text(drained("fra")))
        await fleet.at_step("weights: 50%")
        assert "stopped" in await fleet.order("rollback", {})
        state = await fleet.ended()
        assert (state["status"], state["reason"]) == ("rolled back", "stopped by operator")


async def test_a_rollout_that_is_said_to_be_stopped_goes_back_however_late_that_was(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.lab.edit("control.staging.ramp_steps", 1)
    readings, last_look, answered = 0, asyncio.Event(), asyncio.Event()

    async def slowly(session: aiohttp.ClientSession, admin: Address, timeout_s: float) -> str | None:
        """The second look at what nodes count, after which the only step that is watched holds, takes its time."""
        nonlocal readings
        readings += 1
        if readings > len(CACHES):
            last_look.set()
            await answered.wait()
        return await read_metrics(session, admin, timeout_s)

    monkeypatch.setattr(rollouts, "read_metrics", slowly)
    async with fleet.control(), following(fleet):
        await fleet.order("drain", {"names": ["fra"], "gently": True})
        await last_look.wait()
        assert "stopped" in await fleet.order("rollback", {})
        answered.set()
        assert (await fleet.ended())["status"] == "rolled back"
        assert (await fleet.lab.status())["drained"] == []


async def test_a_control_that_ends_at_any_step_goes_on_there_and_an_edit_of_meanwhile_is_put_aside(fleet: Fleet) -> None:
    async with AsyncExitStack() as stack:
        async with fleet.control():
            await stack.enter_async_context(following(fleet))
            text = fleet.text(lambda content: (leeway(content), drained("sin")(content)))
            await fleet.apply(text)
            await fleet.at_step("canary fra-1")
        held = {name: node.seen[-1].deployment.signing.leeway for name, node in fleet.nodes.items()}
        assert held["sin-1"] == 5
        async with control_node(fleet.lab.context("control")):
            await fleet.at_step("weights: 50%")
        fleet.lab.file.write_text(fleet.lab.file.read_text() + "# mine\n")
        async with control_node(fleet.lab.context("control")):
            state = await fleet.ended()
            assert state["status"] == "done", state
            assert fleet.lab.file.read_text() == text
            aside = list((fleet.lab.deployment.data / "nodes" / "control").glob("set-aside-*.yaml"))
            assert aside[0].read_text().endswith("# mine\n")
            assert fleet.nodes["iad-1"].seen[-1].deployment.pops["sin"].weight == 0


async def test_a_new_edge_that_nobody_started_ends_the_rollout_with_the_cure(fleet: Fleet) -> None:
    def with_lim(content: dict[str, Any]) -> None:
        content["pops"]["lim"] = {"region": "us", "edges": {"lim-1": {"listen": "127.0.4.1:1901", "admin": "127.0.4.1:1902"}}}
        content["control"]["staging"] |= {"patience": "500 ms"}

    async with fleet.control(), following(fleet):
        await fleet.apply(fleet.text(with_lim))
        state = await fleet.ended()
        assert state["status"] == "rolled back"
        assert "lim-1 did not come up" in state["reason"]
        assert "lim" not in fleet.nodes["fra-1"].seen[-1].deployment.pops


async def test_a_wrong_file_is_refused_with_all_its_problems_and_what_cannot_hold_with_its_cure(fleet: Fleet) -> None:
    async with fleet.control():
        bad = fleet.text(lambda content: (content.update(foo=1), content["pops"]["fra"].update(wieght=3)))
        problem = await fleet.order("apply", {"text": bad, "name": "new.yaml"}, 422)
        assert {one["path"] for one in problem["problems"]} == {"foo", "pops.fra.wieght"}
        assert "new.yaml" in problem["detail"]
        nothing = fleet.text(lambda content: [pop.update(weight=0) for pop in content["pops"].values()])
        refused = await fleet.order("apply", {"text": nothing, "name": "new.yaml"}, 409)
        assert refused["type"].endswith("plan-refused")
        assert "every edge would be drained" in refused["detail"]
        other = fleet.text(lambda content: content.update(name="other"))
        impossible = await fleet.order("apply", {"text": other, "name": "new.yaml", "force": True}, 409)
        assert impossible["type"].endswith("plan-impossible")
        assert [line["what"] for line in (await fleet.order("audit"))["lines"]] == ["refused", "refused"]
        for node in ("control", "fra-1"):
            headers = {NODE_HEADER: read_token(fleet.lab.deployment.data, node)}
            for path in ("plan", "apply", "rollback", "drain", "warm"):
                async with fleet.lab.http.post(f"{fleet.lab.url}/api/v1/{path}", json={}, headers=headers) as answer:
                    assert answer.status == 401


async def test_a_drain_lasts_until_it_is_undone_also_over_a_restart_of_control(fleet: Fleet) -> None:
    async with fleet.control(), following(fleet):
        file = fleet.lab.file.read_text()
        assert (await fleet.order("drain", {"names": ["fra"]}))["drained"] == ["fra"]
        assert (await fleet.order("drain", {"names": ["mars"]}, 404))["detail"].startswith("mars is no POP or edge")
        refused = await fleet.order("drain", {"names": ["iad", "sin"]}, 409)
        assert "every edge would be drained" in refused["detail"]
    async with fleet.control():
        status = await fleet.lab.status()
        assert status["drained"] == ["fra"]
        assert (await fleet.lab.now()).deployment.pops["fra"].weight == 0
        assert {node["name"] for node in status["nodes"] if node["drained"]} == {"fra-1"}
        assert fleet.lab.file.read_text() == file
        async with following(fleet):
            assert (await fleet.order("drain", {"names": ["fra"], "drained": False, "gently": True}))["rollout"]
            assert (await fleet.ended())["status"] == "done"
            assert (await fleet.lab.now()).deployment.pops["fra"].weight == 100
            assert (await fleet.lab.status())["drained"] == []


async def test_an_edit_of_the_file_during_a_gentle_drain_is_taken_when_that_is_over(fleet: Fleet) -> None:
    async with fleet.control(), following(fleet):
        await fleet.order("drain", {"names": ["fra"], "gently": True})
        await fleet.at_step("weights: 50%")
        fleet.lab.edit("signing", {"leeway": "9 s"})
        assert (await fleet.ended())["status"] == "done"
        after = await fleet.lab.snapshot_with(lambda snapshot: snapshot.deployment.signing.leeway == 9)
        assert after.deployment.pops["fra"].weight == 0, "the drain holds beside it"


async def test_where_edits_are_staged_an_edit_is_a_rollout_and_one_that_was_rolled_back_is_not_tried_again(fleet: Fleet) -> None:
    fleet.lab.edit("control.rollout", "staged")
    async with fleet.control(), following(fleet):
        fleet.lab.edit("pops.sin.weight", 0)
        await fleet.lab.snapshot_with(lambda snapshot: snapshot.deployment.pops["sin"].weight == 0)
        assert (await fleet.ended())["status"] == "done"
        fleet.lab.edit("pops.fra.weight", 0)
        await fleet.lab.snapshot_with(lambda snapshot: snapshot.deployment.pops["fra"].weight == 50)
        await fleet.order("rollback", {})
        assert (await fleet.ended())["status"] == "rolled back"
    async with fleet.control():
        assert (await fleet.lab.now()).deployment.pops["fra"].weight == 100
        assert (await fleet.lab.now()).deployment.pops["sin"].weight == 0
        listed = await fleet.order("versions")
        latest = [(one["source"], one["outcome"]) for one in listed["versions"][:2]]
        assert latest == [("edit", "rolled back"), ("edit", "applied")]


async def test_an_edit_that_is_seen_while_another_rollout_ends_waits_for_that(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.lab.edit("control.rollout", "staged")
    note = AuditLog.note

    def slowly(log: AuditLog, asker: Asker, what: What, detail: str, outcome: str) -> None:
        if outcome == "done":
            time.sleep(1.5)  # a slow disk: control looks at the file meanwhile
        note(log, asker, what, detail, outcome)

    monkeypatch.setattr(AuditLog, "note", slowly)
    async with fleet.control(), following(fleet):
        await fleet.order("drain", {"names": ["fra"], "gently": True})
        await fleet.at_step("weights: 50%")
        fleet.lab.edit("signing", {"leeway": "9 s"})
        await fleet.lab.snapshot_with(lambda snapshot: snapshot.deployment.signing.leeway == 9)
        assert (await fleet.ended())["what"] == "the edit of the config file"


async def test_the_gaining_edge_fetches_from_the_losing_one_or_when_that_says_nothing_what_shields_call_hot(fleet: Fleet) -> None:
    fra, iad = fleet.nodes["fra-1"], fleet.nodes["iad-1"]
    fra.hot = [["video/videos/a", 10], ["video/videos/b", 10]]
    fleet.nodes["shield-2"].hot = [["video/videos/c", 10]]
    async with fleet.control(), following(fleet):
        await fleet.order("drain", {"names": ["fra"], "gently": True})
        state = await fleet.ended()
        assert [(one["key"], one["from"]) for one in iad.ordered] == [
            ("video/videos/a", ["fra-1"]),
            ("video/videos/b", ["fra-1"]),
        ]
        assert any("iad-1 fetched 2 objects" in line["text"] and "2 from fra-1" in line["text"] for line in state["lines"])
        await fleet.order("drain", {"names": ["fra"], "drained": False})
        iad.ordered.clear()
        fra.hot = [["no size"]]  # an answer of another form
        await fleet.order("drain", {"names": ["fra"], "gently": True})
        state = await fleet.ended()
        assert [(one["key"], one["from"]) for one in iad.ordered] == [("video/videos/c", [])]
        assert any("no list of what is hot at fra-1" in line["text"] for line in state["lines"])


async def test_of_orders_given_at_once_one_begins_and_no_drain_is_forgotten(fleet: Fleet) -> None:
    async with fleet.control(), following(fleet):
        orders: list[tuple[str, dict[str, Any]]] = [
            ("drain", {"names": ["sin"]}),
            ("drain", {"names": ["iad"]}),
            *(("apply", {"text": fleet.text(leeway), "name": f"{number}.yaml"}) for number in range(3)),
        ]

        async def given(path: str, members: dict[str, Any]) -> int:
            url = f"{fleet.lab.url}/api/v1/{path}"
            async with fleet.lab.http.post(url, json=members, headers=fleet.lab.operator) as answer:
                return answer.status

        statuses = await asyncio.gather(*(given(path, members) for path, members in orders))
        assert set(statuses) <= {200, 202, 409}, statuses
        if 202 in statuses:
            await fleet.ended()
        listed = (await fleet.order("versions"))["versions"]
        assert len(listed) == 1 + statuses.count(202)
        assert statuses.count(202) <= 1, "one rollout at a time"
        drained_by = [one for one, status in zip(("sin", "iad"), statuses, strict=False) if status == 200]
        assert (await fleet.lab.status())["drained"] == sorted(drained_by)
