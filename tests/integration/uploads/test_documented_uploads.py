"""docs/uploading.md: each of its examples uploads a file to a real origin."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from headwater.settings.deployment import Deployment
from origin.api.observed import STATUS_OF
from origin.catalogue.engine import reading
from origin.catalogue.schema import jobs
from origin.uploads.refusal import Refusal
from tests.support.deployments import ROOT
from tests.support.origin import RunningApi, running_api

PAGE = (ROOT / "docs" / "uploading.md").read_text()
CLIP = random.Random(17).randbytes(3_500_000)
CLIENTS = ROOT / "tests" / "clients"


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


def sample(name: str) -> str:
    match = re.search(rf"<!-- sample: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert match is not None, name
    return match[1]


async def video_from(api: RunningApi, folder: Path, *command: str, stdin: str) -> str:
    """What the sample prints: the video's id."""
    clip = folder / "Holiday.mp4"
    clip.write_bytes(CLIP)
    given = {"HEADWATER_API": api.deployment.origin.api.listen.url, "HEADWATER_TOKEN": api.token.text, "FILE": str(clip)}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **given, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin.encode())
    assert (process.returncode, err.decode()) == (0, ""), err.decode()
    return out.decode().strip()


async def check(api: RunningApi, video_id: str) -> None:
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key).where(jobs.c.video_id == video_id))).scalar_one()
    assert b"".join([chunk async for chunk in api.stores.masters.read(key)]) == CLIP
    assert (await api.creator.ask("GET", f"/api/v1/videos/{video_id}")).body["title"] == "Holiday"


@pytest.mark.parametrize("name", ["parts", "tuspy", "google-api-python-client"])
async def test_the_python_samples_upload_a_file(api: RunningApi, tmp_path: Path, name: str) -> None:
    await check(api, await video_from(api, tmp_path, sys.executable, "-W", "ignore", "-", stdin=sample(name)))


async def test_the_curl_sample_uploads_a_file_in_two_pieces(api: RunningApi, tmp_path: Path) -> None:
    await check(api, await video_from(api, tmp_path, "sh", "-e", stdin=sample("curl")))


async def test_the_javascript_sample_uploads_a_file(api: RunningApi, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (CLIENTS / "node_modules" / "tus-js-client").is_dir():
        pytest.skip("tus-js-client is not installed: `make test` does it, or `npm ci` in tests/clients")
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    await check(api, await video_from(api, tmp_path, node, "--input-type=module", "-", stdin=sample("tus-js-client")))


def test_the_limits_of_the_page_are_those_of_the_code_with_their_statuses() -> None:
    told = {kind: int(status) for status, kinds in re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE, re.MULTILINE)
            for kind in re.findall(r"`([a-z-]+)`", kinds)}  # fmt: skip
    limits = (
        Refusal.TOO_LARGE,
        Refusal.BEYOND_SIZE,
        Refusal.TOO_MANY_OPEN,
        Refusal.OVER_BUDGET,
        Refusal.DISK_FULL,
        Refusal.NOT_YOURS,
    )
    assert {refusal.value: STATUS_OF[refusal][0] for refusal in limits}.items() <= told.items()
