"""Keys rotate under running edges: URLs from the real command, judged by real edges, in every form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from signer.grant import Refusal
from tests.support.lab import Lab, running_lab

# Nothing is published under this id: a request with a good grant gets the origin's 404, any other one the edge's 403.
VIDEO = "dQw4w9WgXcQ"
READ_PIPE = ("control", "origin-bytes", "shield-1", "shield-2", "fra-1", "sin-1")


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with running_lab(tmp_path, READ_PIPE) as running:
        yield running


async def types(lab: Lab, *words: str) -> str:
    done = await asyncio.to_thread(lab.headwater, *words, "--config", str(lab.config))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


async def answer_when(lab: Lab, url: str, status: int) -> httpx.Response:
    """The edge's answer as soon as its status is the one expected: news of keys takes a moment."""
    async with asyncio.timeout(30):
        while True:
            answer = await lab.http.get(url)
            if answer.status_code == status:
                return answer
            await asyncio.sleep(0.05)


async def test_a_rotation_refuses_no_viewer_and_a_retired_key_every_one(lab: Lab) -> None:
    signed = [await types(lab, "sign", VIDEO, "--edge", edge) for edge in ("fra-1", "sin-1")]
    for url in signed:
        assert (await lab.http.get(url)).status_code == 404
    await types(lab, "keys", "new", "--id", "k2", "--algorithm", "hmac-sha256")
    await types(lab, "keys", "activate", "k2", "--force")
    for edge, url in zip(("fra-1", "sin-1"), signed, strict=True):
        await answer_when(lab, await types(lab, "sign", VIDEO, "--edge", edge), 404)
        assert (await lab.http.get(url)).status_code == 404
    (first,) = [line.split()[0] for line in (await types(lab, "keys", "list")).splitlines()[1:] if "*" not in line]
    await types(lab, "keys", "retire", first, "--yes")
    for url in signed:
        assert Refusal.RETIRED_KEY in (await answer_when(lab, url, 403)).text


async def test_every_form_of_a_grant_is_taken_and_every_refusal_named(lab: Lab) -> None:
    path = f"/videos/{VIDEO}/master.m3u8"
    base = lab.edges["fra-1"].url
    in_path = await types(lab, "sign", path, "--edge", "fra-1")
    in_query = await types(lab, "sign", path, "--edge", "fra-1", "--form", "query")
    assert (await lab.http.get(in_path)).status_code == 404
    assert (await lab.http.get(in_query)).status_code == 404
    cookie = {"Cookie": f"headwater-grant={in_query.partition('grant=')[2]}"}
    assert (await lab.http.get(base + path, headers=cookie)).status_code == 404

    elsewhere = await types(lab, "sign", path, "--edge", "fra-1", "--network", "192.0.2.0/24")
    later = await types(lab, "sign", path, "--edge", "fra-1", "--not-before", "1 h")
    refusals = {
        Refusal.MISSING: base + path,
        Refusal.MALFORMED: f"{base}{path}?grant=nonsense",
        Refusal.BAD_SIGNATURE: in_query[:-8] + ("AAAAAAAA" if not in_query.endswith("AAAAAAAA") else "BBBBBBBA"),
        Refusal.NOT_YET_VALID: later,
        Refusal.WRONG_PREFIX: in_path.replace(f"/videos/{VIDEO}/", "/videos/AAAAAAAAAAA/"),
        Refusal.WRONG_NETWORK: elsewhere,
    }
    for refusal, url in refusals.items():
        answer = await lab.http.get(url)
        assert (answer.status_code, refusal in answer.text) == (403, True), (refusal, answer.text)
        assert "no-store" in answer.headers["Cache-Control"]
