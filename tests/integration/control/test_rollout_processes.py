"""Rollouts on real processes, under viewers: control killed in the middle, a canary that fails, starts in any order."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

from headwater.rules.names import video_id_from_bits
from headwater.settings.load import load_deployment
from tests.support.asking import ask_until_true
from tests.support.deployments import free_port
from tests.support.goingon import going_on
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.scriptedparent import Asked, header, scripted_parent

NODES = ("control", "shield-1", "fra-1", "iad-1")
BODY = b"x" * 2000
STAGING = {"settle": "800 ms", "ramp": "1600 ms", "ramp_steps": 2, "patience": "20 s", "canary": "fra-1"}
ORDERS_SAMPLED = 1  # `make drills DRILL=rollouts` takes six


async def site(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(header("200 OK", 'ETag: "1"', "Cache-Control: max-age=3600", f"Content-Length: {len(BODY)}") + BODY)
    await writer.drain()


class Viewers:
    """Ask both edges for known objects, and for new ones, again and again. `failed` says what was not answered well."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.answered = 0
        self.failed: list[str] = []

    async def watch(self, edge: str) -> None:
        number = 0
        while True:
            number += 1
            video = video_id_from_bits(number.to_bytes(8, "big"))
            path = f"/videos/{video}/{edge}.m4s" if number % 2 else f"/videos/{video_id_from_bits(bytes(8))}/same.m4s"
            answer = await self._lab.http.get(f"{self._lab.edges[edge].url}{path}")
            if answer.status_code == 200 and answer.content == BODY:
                self.answered += 1
            else:
                self.failed.append(f"{edge} {answer.status_code}")
            await asyncio.sleep(0.01)


@asynccontextmanager
async def viewers_of(lab: Lab) -> AsyncIterator[Viewers]:
    viewers = Viewers(lab)
    async with going_on(viewers.watch(edge) for edge in ("fra-1", "iad-1")):
        yield viewers


async def headwater(lab: Lab, *arguments: str) -> CompletedProcess[str]:
    return await asyncio.to_thread(lab.headwater, *arguments, "--config", str(lab.config))


def wanted(lab: Lab, name: str, change: Any) -> Path:
    content = yaml.safe_load(lab.config.read_text())
    change(content)
    file = lab.config.parent / name
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


async def until_all_up(lab: Lab) -> None:
    async def up() -> bool:
        with contextlib.suppress(Exception):
            tree = (await lab.http.get(f"{lab.deployment.control.listen.url}/api/v1/status", headers=lab.operator)).json()
            return all(node["health"] == "up" and node["current"] for node in tree["nodes"] if node["name"] in NODES)
        return False

    await ask_until_true(up)


async def test_rollouts_survive_a_killed_control_a_failing_canary_and_starts_in_any_order(tmp_path: Path) -> None:
    async with scripted_parent(site) as origin:

        def change(content: JsonObject) -> None:
            content["control"] |= {"staging": STAGING, "probe_interval": "200 ms"}
            content["dns"]["ttl"] = "100 ms"
            content["properties"]["video"] |= {"signed": False, "parent": origin.address.url}
            del content["pops"]["sin"], content["shields"]["shield-2"]

        async with running_lab(tmp_path, NODES, change) as lab:
            await until_all_up(lab)
            async with viewers_of(lab) as viewers:
                await killed_in_the_middle(lab, viewers)
                assert viewers.failed == []
                await failing_canary(lab, viewers)
            await in_any_order(lab, ORDERS_SAMPLED)


async def killed_in_the_middle(lab: Lab, viewers: Viewers) -> None:
    """The command sees its rollout through, though control is killed at a step; nobody who watches notices."""

    def after(content: JsonObject) -> None:
        content["pops"]["iad"]["weight"] = 40
        content["signing"] = {"leeway": "9 s"}

    file = wanted(lab, "new.yaml", after)
    applying = asyncio.create_task(headwater(lab, "apply", str(file)))
    state = lab.deployment.data / "nodes" / "control" / "rollout.json"

    async def under_way() -> bool:
        return state.exists() and '"step": 2' in state.read_text()

    await ask_until_true(under_way)
    await lab.kill("control")
    answered = viewers.answered
    await asyncio.sleep(0.5)
    assert viewers.answered > answered  # everything serves on
    await lab.start("control")
    done = await applying
    assert done.returncode == 0, done.stdout + done.stderr
    assert lab.config.read_text() == file.read_text()


async def failing_canary(lab: Lab, viewers: Viewers) -> None:
    """The property's site moves to where nobody listens: the canary fails its viewers, and alone."""
    await until_all_up(lab)
    nowhere = f"http://127.0.0.1:{free_port()}"
    file = wanted(lab, "bad.yaml", lambda content: content["properties"]["video"].update(parent=nowhere, shielded=False))
    before = lab.config.read_text()
    done = await headwater(lab, "apply", str(file))
    assert done.returncode == 3, done.stdout + done.stderr
    assert "rolled back: fra-1 fails" in done.stdout
    assert {failure.split()[0] for failure in viewers.failed} == {"fra-1"}
    assert lab.config.read_text() == before
    failed = len(viewers.failed)
    await asyncio.sleep(0.3)
    assert len(viewers.failed) <= failed + 1  # it is over


async def in_any_order(lab: Lab, orders: int) -> None:
    """All are killed and started in an order drawn at random; the version in force is in force again."""
    draw = random.Random(5)
    for _ in range(orders):
        order = draw.sample(NODES, len(NODES))
        await lab.kill(*NODES)
        lab.deployment = load_deployment(lab.config)
        await lab.start(*order)
        await until_all_up(lab)
        tree = (await lab.http.get(f"{lab.deployment.control.listen.url}/api/v1/status", headers=lab.operator)).json()
        assert next(node for node in tree["nodes"] if node["name"] == "iad-1")["weight"] == 100
        assert {pop["name"]: pop["weight"] for region in tree["regions"] for pop in region["pops"]} == {"fra": 100, "iad": 40}
        listed = await headwater(lab, "history", "--json")
        assert '"in_force": 2' in listed.stdout, listed.stdout
