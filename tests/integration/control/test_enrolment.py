"""Enrolment as a node and a stranger meet it: real control, shields and commands on real sockets."""

from __future__ import annotations

import asyncio
import ssl
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from control.audit import AuditLog
from control.enrolment.authority import open_authority
from control.service import control_node
from headwater.rules.names import parse_video_id
from headwater.rules.nodeidentity import NodeIdentity
from headwater.runtime.enrolment.identity import FILE, Identity, new_key, write_identity
from headwater.runtime.enrolment.joining import TOKEN_FILE, VARIABLE
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.metrics import value
from headwater.runtime.node import NodeContext, joined
from headwater.settings.deployment import admin_address
from headwater.settings.load import load_deployment
from origin.removal.purging import ControlPurge, NotPurged
from shield.service import shield_node
from tests.support.controlled import Lab, controlled_lab
from tests.support.deployments import free_port

NODE = "shield-1"


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    monkeypatch.delenv(VARIABLE, raising=False)
    async with controlled_lab(tmp_path) as lab:
        lab.edit("control.enrolment", {"listen": f"127.0.0.1:{free_port()}"})
        lab.deployment = load_deployment(lab.file)
        yield lab


async def order(lab: Lab, path: str, **members: Any) -> dict[str, Any]:
    """What control's API answers an operator."""
    async with lab.http.post(f"{lab.url}/api/v1/{path}", json=members, headers=lab.operator) as reply:
        answer: dict[str, Any] = await reply.json(content_type=None)
        return {**answer, "http": reply.status}


async def token(lab: Lab, node: str = NODE) -> str:
    made = await order(lab, "enrolment/token", node=node)
    assert made["http"] == 201, made
    return str(made["token"])


def folder(lab: Lab, node: str = NODE) -> Path:
    return lab.deployment.data / "nodes" / node


def give(lab: Lab, text: str, node: str = NODE) -> None:
    folder(lab, node).mkdir(parents=True, exist_ok=True)
    (folder(lab, node) / TOKEN_FILE).write_text(text + "\n")


def identity(lab: Lab, node: str = NODE) -> Identity:
    return Identity(folder(lab, node) / FILE, lab.context(node).log)


@asynccontextmanager
async def running(lab: Lab, node: str = NODE) -> AsyncIterator[NodeContext]:
    context = await joined(lab.context(node))
    async with shield_node(context):
        yield context


async def asked_control(lab: Lab, context: ssl.SSLContext, path: str = "snapshot") -> tuple[int, str]:
    """(status, kind of problem) of a node's question to control."""
    assert lab.deployment.control.enrolment is not None
    url = f"https://{lab.deployment.control.enrolment.listen}/api/v1/{path}"
    async with lab.http.get(url, ssl=context, server_hostname="control") as reply:
        return reply.status, str((await reply.json(content_type=None)).get("type", "")).rpartition(":")[2]


async def who_purged(lab: Lab) -> set[str]:
    """Who acknowledges a purge."""
    return {one["node"] for one in (await order(lab, "purge", tag="x"))["acknowledged"]}


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Waits for what other nodes' loops do."""
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 - other nodes' loops
            await asyncio.sleep(0.05)


async def ordered_by(lab: Lab, context: ssl.SSLContext | None, path: str = "/purge", node: str = NODE) -> tuple[int, str]:
    """(status, kind of problem) of somebody's order to a node."""
    address = admin_address(lab.deployment, node)
    url = f"https://{address}{path}" if context else f"http://{address}{path}"
    secured: dict[str, Any] = {"ssl": context, "server_hostname": node} if context else {}
    async with aiohttp.ClientSession() as http, http.post(url, json={"after": 0, "records": []}, **secured) as reply:
        return reply.status, str((await reply.json(content_type=None)).get("type", "")).rpartition(":")[2]


async def test_a_node_enrols_is_ordered_by_its_certificate_restarts_without_a_token_and_is_revoked(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        with pytest.raises(CannotStart, match=f"headwater enrol token {NODE}"):
            await joined(lab.context(NODE))
        used = await token(lab)
        give(lab, used)
        async with running(lab) as context:
            assert context.identity is not None
            assert stat.S_IMODE((folder(lab) / FILE).stat().st_mode) == 0o600
            assert not (folder(lab) / TOKEN_FILE).exists()
            assert await who_purged(lab) == {NODE}
            assert (await lab.node(NODE))["version"] is not None, "it follows snapshots"

            # Nobody but control may order, whatever they show; health is for all.
            stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
            assert await ordered_by(lab, None) == (403, "certificate-missing")
            assert await ordered_by(lab, stranger) == (403, "certificate-missing")
            other = open_authority(folder(lab) / "elsewhere", lab.deployment.name, 1.8e9)
            key = new_key()
            posing = NodeIdentity(lab.deployment.name, "control", "control", 1)
            write_identity(folder(lab) / "posing", key, other.issue(posing, key.public_key(), time.time(), 86400), other.pem)
            stranger.load_cert_chain(folder(lab) / "posing")
            with pytest.raises((aiohttp.ClientError, OSError)):
                await ordered_by(lab, stranger)
            assert await ordered_by(lab, context.identity.client) == (403, "certificate-of-a-node")
            assert await ordered_by(lab, identity(lab, "control").client) == (200, "")
            async with lab.http.get(f"{admin_address(lab.deployment, NODE).url}/healthz") as reply:
                assert reply.status == 200
            # Nodes do not ask at the operators' address any more, whatever token they show.
            async with lab.http.get(f"{lab.url}/api/v1/snapshot", headers={"Headwater-Node": context.token}) as reply:
                assert (reply.status, (await reply.json(content_type=None))["title"]) == (403, "Enrolment required")

        async with running(lab):  # without a token
            assert await who_purged(lab) == {NODE}
            held = identity(lab).client
            assert await asked_control(lab, held, "snapshot?after=0") == (200, "")
            assert (await order(lab, "enrolment/revoke", node=NODE))["revoked"]
            assert await asked_control(lab, held, "snapshot?after=0") == (403, "certificate-revoked")
            assert await asked_control(lab, held, "purges?after=0") == (403, "certificate-revoked")
            state = await lab.node(NODE)
            assert state["certificate"]["state"] == "revoked"

            # It serves on, and enrols again with a new token, without a restart.
            give(lab, await token(lab))

            former = identity(lab).held.identity.enrolment

            async def enrolled() -> bool:
                return identity(lab).held.identity.enrolment > former

            await until(enrolled)
            assert (await lab.node(NODE))["certificate"]["state"] == "enrolled"
            assert await asked_control(lab, identity(lab).client, "snapshot?after=0") == (200, "")
            assert await asked_control(lab, held, "snapshot?after=0") == (403, "certificate-replaced")

            async def follows_again() -> bool:
                return bool((await lab.node(NODE))["current"])

            await until(follows_again)

        # Used, and of another control: refused by name; who holds a certificate starts with it all the same.
        (folder(lab) / FILE).unlink()
        give(lab, used)
        with pytest.raises(CannotStart, match="has been used already"):
            await joined(lab.context(NODE))
    lines = AuditLog(folder(lab, "control"), lab.context("control").log).last(50)
    told = [(line["who"], line["outcome"]) for line in reversed(lines) if line["what"] == "enrol"]
    node = f"node {NODE}"
    assert told == [("operator", "made"), (node, "enrolled"), ("operator", "revoked"), ("operator", "made"), (node, "enrolled")]


async def test_a_token_is_not_shown_to_a_control_that_did_not_make_it_and_a_wrong_one_names_its_cure(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with control_node(lab.context("control")):
        right = await token(lab)
        foreign = right[:-64] + "0" * 64
        monkeypatch.setenv(VARIABLE, foreign)
        with pytest.raises(CannotStart, match="is not the control that made this token"):
            await joined(lab.context(NODE))
        assert (await order(lab, "enrolment/token", node=NODE))["http"] == 201, "which ends the first"
        for text, told in (
            (right, "was ended by a later one"),
            (await token(lab, "fra-1"), "is for fra-1, not for shield-1"),
            (f"hwe_{'0' * 12}{right[16:]}", "is not known here"),
            ("hwe_x", "copy it whole"),
        ):
            monkeypatch.setenv(VARIABLE, text)
            with pytest.raises(CannotStart, match=told):
                await joined(lab.context(NODE))
        assert value("headwater_control_enrolments_total", outcome="enrol-token-ended") >= 1
        assert value("headwater_enrolments_total", outcome="wrong_authority") >= 1
        assert (await order(lab, "enrolment/token", node="nobody"))["http"] == 404
        assert (await order(lab, "enrolment/token", node="nobody", role="control"))["http"] == 404
        assert (await order(lab, "enrolment/token", node=NODE, role="edge"))["http"] == 404
        assert (await order(lab, "enrolment/revoke", node="nobody"))["http"] == 404
        assert (await order(lab, "enrolment/token", node=NODE, expires_s=0))["http"] == 400


async def test_a_certificate_is_renewed_in_time_without_a_restart_and_control_keeps_its_authority(lab: Lab) -> None:
    lab.edit("control.enrolment.lifetime", "6 s")
    lab.deployment = load_deployment(lab.file)
    async with AsyncExitStack() as nodes:
        async with control_node(lab.context("control")):
            give(lab, await token(lab))
            context = await nodes.enter_async_context(running(lab))
            assert context.identity is not None
            first = context.identity.held
            before = value("headwater_enrolments_total", outcome="renewed")
            held = context.identity

            async def renewed() -> bool:
                return held.held.expires > first.expires

            await until(renewed)
            assert held.held.begins <= first.begins + (first.expires - first.begins) * 2 / 3
            assert value("headwater_enrolments_total", outcome="renewed") > before
            assert await who_purged(lab) == {NODE}
        async with control_node(lab.context("control")):  # as after a restart: the same CA, so that nothing has to be enrolled
            assert context.identity.held.authority == identity(lab, "control").held.authority
            assert await who_purged(lab) == {NODE}


async def test_a_node_waits_with_its_token_until_the_config_has_it_and_the_origin_purges_deleted_videos(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        made = await order(lab, "enrolment/token", node="fra-2", role="edge")
        give(lab, made["token"], "fra-2")
        wanted = yaml.safe_load(lab.file.read_text())
        wanted["pops"]["fra"]["edges"]["fra-2"] = {"listen": f"127.0.1.1:{free_port()}", "admin": f"127.0.1.1:{free_port()}"}
        lab.file.write_text(yaml.safe_dump(wanted))
        lab.deployment = load_deployment(lab.file)
        waited = value("headwater_control_enrolments_total", outcome="enrol-node-unknown")
        assert (await joined(lab.context("fra-2"))).identity is not None
        assert value("headwater_control_enrolments_total", outcome="enrol-node-unknown") > waited

        give(lab, await token(lab, "origin-api"), "origin-api")
        origin = await joined(lab.context("origin-api"))
        await ControlPurge(lambda: lab.deployment, origin.token, origin.identity)(parse_video_id("dQw4w9WgXcQ"))
        give(lab, await token(lab))
        shield = await joined(lab.context(NODE))
        with pytest.raises(NotPurged, match="only the origin's API"):
            await ControlPurge(lambda: lab.deployment, shield.token, shield.identity)(parse_video_id("dQw4w9WgXcQ"))
