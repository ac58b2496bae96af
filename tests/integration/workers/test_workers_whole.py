"""Tiers of two workers each behind TLS and grants, before one byte server, purged and explained by the operator."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from origin.tiers.open import open_tiers
from origin.tiers.store import TieredStore
from signer.grant import Grant, mint
from signer.keyring import KeyRing
from tests.support.certificates import Authority, authority
from tests.support.deployments import free_port
from tests.support.lab import Lab, running_lab
from tests.support.rawhttp import Answer, answers, exchange

EDGE = "fra-1"
NODES = ("control", "origin-bytes", "shield-1", "shield-2", EDGE)
VIDEO = "dQw4w9WgXcQ"
SEGMENT = f"videos/{VIDEO}/h264/720p/segment_00000.m4s"
OLD, NEW = (hashlib.shake_256(name).digest(400_000) for name in (b"old", b"new"))
HOST = "v3fa.cdn.test"


class Whole:
    """The tiers, the published objects, and a viewer whose every request is a new connection."""

    def __init__(self, lab: Lab, ca: Authority) -> None:
        self.lab = lab
        self.objects: TieredStore = open_tiers(lab.deployment)
        self._client: ssl.SSLContext = ca.client()
        key = KeyRing(lab.deployment.data / lab.deployment.signing.keys).signing_key()
        grant = Grant(key_id=key.key_id, expires_at=int(time.time()) + 600, prefix=f"/videos/{VIDEO}/")
        self.token = mint(grant, key)

    async def get(self, path: str) -> Answer:
        tls = self.lab.deployment.edge(EDGE).tls
        assert tls is not None
        request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
        (answer,) = answers(await exchange(tls.listen, request, tls=self._client, name=HOST))
        return answer

    async def crowd(self, path: str, count: int = 24) -> list[Answer]:
        return list(await asyncio.gather(*(self.get(path) for _ in range(count))))

    async def filled(self, times: int) -> None:
        """The byte server was asked for the segment so often, as its log says."""
        path = f"/{SEGMENT}"
        lines = []
        async with asyncio.timeout(20):
            while len(lines) < times:
                lines = [line for line in self.lab.access_log("origin-bytes") if line["path"] == path and line["method"] == "GET"]
                await asyncio.sleep(0.15)  # as long as the log holds lines back
        assert len(lines) == times

    async def command(self, *arguments: str) -> Any:
        done = await asyncio.to_thread(self.lab.headwater, *arguments, "--config", str(self.lab.config), "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@asynccontextmanager
async def whole_tiers(folder: Path) -> AsyncIterator[Whole]:
    ca = authority(folder / "tls")
    shown = ca.issue("edge", "*.cdn.test")

    def changes(content: dict[str, Any]) -> None:
        content["pops"] = {"fra": content["pops"]["fra"]}
        edge = content["pops"]["fra"]["edges"][EDGE]
        files = {"certificate": str(shown.certificate), "key": str(shown.key)}
        edge["tls"] = {"listen": f"127.0.1.1:{free_port('127.0.1.1')}", "certificates": [files]}
        for tier in (edge, *content["shields"].values()):
            tier["workers"] = 2

    async with running_lab(folder, NODES, changes) as lab:
        yield Whole(lab, ca)


@pytest.mark.xdist_group("workers")
async def test_tiers_of_several_workers_are_one_tier_each_to_viewers_and_operators(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with whole_tiers(tmp_path_factory.mktemp("node")) as tiers:  # a short path: the workers' sockets are in it
        await tiers.objects.put_bytes(SEGMENT, OLD, "video/iso.segment")
        signed = f"/{tiers.token}/{SEGMENT}"

        # One request reaches the byte server, whoever accepts the viewers' connections at either tier.
        first = await tiers.crowd(signed)
        assert {(answer.status, answer.body == OLD) for answer in first} == {(200, True)}
        assert {answer.fields["cache-status"].rpartition(", ")[2].partition(";")[0] for answer in first} == {EDGE}
        await tiers.filled(1)

        # Every worker refuses what the grant does not cover, and what is signed by nobody.
        elsewhere = await tiers.crowd(f"/{tiers.token}/videos/AAAAAAAAAAA/poster.jpg", 8)
        forged = await tiers.crowd(f"/{tiers.token[:-4]}AAAA/{SEGMENT}", 8)
        assert {answer.status for answer in (*elsewhere, *forged)} == {403}
        assert len({answer.reason for answer in elsewhere}) == len({answer.reason for answer in forged}) == 1

        # Explain says the same whichever worker it reaches.
        explain = ("explain", f"/{SEGMENT}", "--region", "eu")
        told = await asyncio.gather(*(tiers.command(*explain) for _ in range(3)))
        assert [held(one) for one in told] == [held(told[0])] * 3
        assert held(told[0])[EDGE] not in ("nowhere", None)

        # Gone from every worker of both tiers when the command returns.
        await tiers.objects.put_bytes(SEGMENT, NEW, "video/iso.segment")
        assert {answer.body == OLD for answer in await tiers.crowd(signed)} == {True}
        await tiers.command("purge", "--video", VIDEO)
        after = await tiers.crowd(signed)
        assert {(answer.status, answer.body == NEW) for answer in after} == {(200, True)}
        await tiers.filled(2)


def held(explained: Any) -> dict[str, Any]:
    """Where each cache says that it has the object."""
    return {node["node"]: node.get("place") for node in explained["nodes"]}
