"""`headwater logs follow` against a running control, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from control.service import control_node
from headwater.runtime.nodeprocess import log_files
from headwater.runtime.nodetoken import NODE_HEADER, read_token
from shield.service import shield_node
from tests.support.controlled import Lab, controlled_lab
from tests.support.deployments import ROOT


def logged(lab: Lab, node: str, **members: object) -> None:
    logs = log_files(lab.deployment.data, node)
    logs.access.parent.mkdir(parents=True, exist_ok=True)
    logs.service.touch()
    with logs.access.open("a") as file:
        file.write(json.dumps({"node": node, **members}) + "\n")


def as_in_a_terminal() -> None:
    """Ctrl-C counts, also where these tests run in a shell's background, which ignores it for all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


async def test_refusals_are_followed_as_they_come_also_over_a_restart_of_control(tmp_path: Path) -> None:
    async with controlled_lab(tmp_path) as lab:
        logged(lab, "fra-1", status=403, refusal="expired")
        async with control_node(lab.context("control")):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "headwater", "logs", "follow", "fra-1", "sin-1", "--refused", "--json", "-c", str(lab.file),
                cwd=ROOT, env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, preexec_fn=as_in_a_terminal,
            )  # fmt: skip
            assert process.stdout is not None
            async with asyncio.timeout(60):
                assert json.loads(await process.stdout.readline())["refusal"] == "expired"
                logged(lab, "fra-1", status=200, refusal=None)
                logged(lab, "fra-1", status=429, refusal="client_rate")
                assert json.loads(await process.stdout.readline())["refusal"] == "client_rate"
        async with control_node(lab.context("control")), asyncio.timeout(60):
            line = asyncio.create_task(process.stdout.readline())
            while not line.done():  # what is logged before the command has come back is not for it
                logged(lab, "fra-1", status=403, refusal="malformed")
                await asyncio.wait([line], timeout=0.5)
            assert json.loads(line.result())["refusal"] == "malformed"
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
        assert process.returncode == 0
        assert b"sin-1 cannot be reached for its log, and is asked again:" in errors


async def test_nodes_of_other_machines_are_followed_and_those_out_of_reach_are_named(tmp_path: Path) -> None:
    """No node here has a log file that control could read."""
    async with controlled_lab(tmp_path) as lab, control_node(lab.context("control")), shield_node(lab.context("shield-1")):
        shield = lab.deployment.shields["shield-1"]
        question = f"{lab.url}/api/v1/logs?node=shield-1&node=iad-1&last=0"
        async with asyncio.timeout(60), lab.http.get(question, headers=lab.operator) as answer:
            following = asyncio.create_task(told(answer, lambda one: one.get("of") == "shield-1"))
            while not following.done():  # lines of before the question are not for it
                await (await lab.http.get(f"{shield.listen.url}/videos/AAAAAAAAAAA/of-nobody")).release()
                await asyncio.wait([following], timeout=0.2)
            assert following.result()["line"]["status"] in (403, 404)
            assert following.result()["line"]["node"] == "shield-1"
        async with asyncio.timeout(60), lab.http.get(question, headers=lab.operator) as answer:
            assert (await told(answer, lambda one: "unreached" in one))["unreached"] == "iad-1"


async def test_only_control_may_read_a_nodes_lines(tmp_path: Path) -> None:
    async with controlled_lab(tmp_path) as lab, control_node(lab.context("control")), shield_node(lab.context("shield-1")):
        url = f"{lab.deployment.shields['shield-1'].admin.url}/log"
        for node, status in {"iad-1": 403, "control": 200}.items():
            headers = {NODE_HEADER: read_token(lab.deployment.data, node)}
            async with lab.http.post(url, json={"log": "access", "cursors": {}}, headers=headers) as answer:
                assert answer.status == status


async def told(answer: aiohttp.ClientResponse, is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first line for which `is_it`."""
    async for line in answer.content:
        if line.strip() and is_it(members := json.loads(line)):
            found: dict[str, Any] = members
            return found
    raise AssertionError("the answer ended")


async def test_wrong_questions_are_answered_with_the_cure(tmp_path: Path) -> None:
    async with controlled_lab(tmp_path) as lab, control_node(lab.context("control")):
        for query, status in {"node=mars": 404, "log=secrets": 400, "status=9": 400, "last=x": 400, "last=501": 400}.items():
            async with lab.http.get(f"{lab.url}/api/v1/logs?{query}", headers=lab.operator) as answer:
                assert answer.status == status, query
        async with lab.http.get(f"{lab.url}/api/v1/logs") as answer:
            assert answer.status == 401
