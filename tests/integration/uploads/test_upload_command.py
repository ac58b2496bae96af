"""`headwater upload` and `headwater video` as their users start them: a process of their own against a real API."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from headwater.cli.credentials import found_token, note_lab
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from origin.catalogue.engine import writing
from origin.catalogue.ownertoken import CREATOR_FILE, ensure_creator_token
from origin.catalogue.schema import jobs, renditions, videos
from tests.support.deployments import ROOT, lab_deployment, with_uploads
from tests.support.origin import RunningApi, running_api
from tests.support.waiting import until

PART = 256 * 1024
CLIP = random.Random(11).randbytes(30 * PART + 5)


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Small parts, so that a small file has many."""
    return with_uploads(lab_deployment(tmp_path), part_size=PART)


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    file = tmp_path / "clip.mp4"
    file.write_bytes(CLIP)
    return file


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Shell:
    """Runs `headwater` with a state folder of its own."""

    home: Path
    api: str
    token: str

    async def start(self, *arguments: str | Path, stdout: int = asyncio.subprocess.PIPE) -> asyncio.subprocess.Process:
        own = {
            "HEADWATER_API": self.api,
            "HEADWATER_TOKEN": self.token,
            "XDG_STATE_HOME": str(self.home),
            "TERM": "xterm",
            "COLUMNS": "200",
        }
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headwater", *map(str, arguments),
            cwd=ROOT, env={**os.environ, **own}, stdout=stdout, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, *arguments: str | Path) -> Ended:
        return await ended(await self.start(*arguments))


async def ended(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Ended(process.returncode or 0, (out or b"").decode(), err.decode())


@pytest.fixture
def shell(api: RunningApi, tmp_path: Path) -> Shell:
    return Shell(tmp_path / "state", api.deployment.origin.api.listen.url, api.token.text)


def parts_stored() -> float:
    return value("headwater_origin_part_puts_total", outcome="stored")


def looks_at_a_video() -> float:
    return value("headwater_api_requests_total", method="GET", route="/api/v1/videos/{video_id}", status="200")


@asynccontextmanager
async def transcoder_that_sets(api: RunningApi, **outcome: object) -> AsyncIterator[None]:
    """What the transcoder writes for each new job: one rung in work, then the outcome."""

    async def work() -> None:
        while True:
            async with writing(api.catalogue) as connection:
                waiting = (await connection.execute(select(jobs.c.video_id).where(jobs.c.state == "waiting"))).scalars().all()
            for video_id in waiting:
                await _transcode(api, video_id, outcome)
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _transcode(api: RunningApi, video_id: str, outcome: dict[str, object]) -> None:
    rung = {"video_id": video_id, "codec": "h264", "rung": "360p", "kind": "video", "updated_at": 1.0}
    async with writing(api.catalogue) as connection:
        await connection.execute(insert(renditions).values(**rung, state="encoding", progress=0.4))
        await connection.execute(update(jobs).where(jobs.c.video_id == video_id).values(state="done"))
    seen = looks_at_a_video()
    await until(lambda: looks_at_a_video() > seen + 1)  # the second look began after the rung was there
    async with writing(api.catalogue) as connection:
        await connection.execute(update(renditions).where(renditions.c.video_id == video_id).values(state="ready", progress=1.0))
        await connection.execute(update(videos).where(videos.c.id == video_id).values(**outcome))


async def only_master(api: RunningApi) -> bytes:
    """The master of the only video."""
    (video,) = (await api.creator.ask("GET", "/api/v1/videos")).body["videos"]
    return b"".join([chunk async for chunk in api.stores.masters.read(f"masters/{video['video_id']}/source")])


async def test_a_file_is_uploaded_and_the_command_ends_when_it_plays(api: RunningApi, shell: Shell, clip: Path) -> None:
    async with transcoder_that_sets(api, state="ready", duration_s=3725.04, ready_at=time.time()):
        result = await shell.run("upload", clip, "--title", "Grüße")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0] == f"clip.mp4: sent 0 of {len(CLIP)} bytes (0%)"
    assert f"clip.mp4: sent {len(CLIP)} of {len(CLIP)} bytes (100%)" in lines
    assert "clip.mp4: transcoding, 40% (360p 40%)" in lines
    assert "plays (360p)" in lines[-1]
    assert "\x1b" not in result.out
    assert await only_master(api) == CLIP

    listed = await shell.run("video", "list")
    assert ("Grüße" in listed.out, "1:02:05.0" in listed.out, listed.status) == (True, True, 0)
    (video,) = json.loads((await shell.run("video", "list", "--json")).out)
    shown = await shell.run("video", "show", video["video_id"])
    assert ("clip.mp4" in shown.out, "master.m3u8" in shown.out, shown.status) == (True, True, 0)
    assert json.loads((await shell.run("video", "show", video["video_id"], "--json")).out)["title"] == "Grüße"


async def test_a_video_that_cannot_be_played_fails_the_command_with_the_reason(api: RunningApi, shell: Shell, clip: Path) -> None:
    failed = {"state": "failed", "failure_kind": "not-a-video", "failure_detail": "the file is text"}
    async with transcoder_that_sets(api, **failed):
        result = await shell.run("upload", clip)
    assert result.status == 1
    assert "(not-a-video): the file is text" in result.err


async def test_killed_with_kill_9_the_same_command_sends_only_what_is_missing(api: RunningApi, shell: Shell, clip: Path) -> None:
    before = parts_stored()
    process = await shell.start("upload", "--no-wait", clip)
    await until(lambda: parts_stored() - before >= 3)
    process.kill()
    await ended(process)
    at_kill = parts_stored() - before
    assert at_kill < 31

    result = await shell.run("upload", "--no-wait", clip)
    assert (result.status, result.err) == (0, "")
    assert "resuming video" in result.out
    assert parts_stored() - before <= 31 + 4  # the parts on their way at the kill may have been stored, and were sent again
    assert await only_master(api) == CLIP


async def test_interrupted_by_the_user_it_says_how_to_go_on(api: RunningApi, shell: Shell, clip: Path) -> None:
    before = value("headwater_uploads_total", outcome="completed")
    process = await shell.start("upload", clip)  # nobody transcodes: it waits
    await until(lambda: value("headwater_uploads_total", outcome="completed") > before)
    process.send_signal(signal.SIGINT)
    result = await ended(process)
    assert result.status == 130
    assert "goes on from here" in result.err
    assert "Traceback" not in result.err

    async with transcoder_that_sets(api, state="ready", duration_s=1.0, ready_at=time.time()):
        result = await shell.run("upload", clip)
    assert result.status == 0
    assert await only_master(api) == CLIP


async def test_an_origin_that_restarts_in_the_middle_is_waited_for(deployment: Deployment, tmp_path: Path, clip: Path) -> None:
    shell = Shell(tmp_path / "state", deployment.origin.api.listen.url, (await ensure_creator_token(deployment)).text)
    before = parts_stored()
    async with running_api(deployment):
        process = await shell.start("upload", "--no-wait", clip)
        await until(lambda: parts_stored() - before >= 3)
    async with running_api(deployment) as again:
        result = await ended(process)
        assert result.status == 0, result
        assert await only_master(again) == CLIP


async def test_the_same_file_again_after_the_end_is_a_new_video(api: RunningApi, shell: Shell, clip: Path) -> None:
    for _ in range(2):
        assert (await shell.run("upload", "--no-wait", clip)).status == 0
    assert len((await api.creator.ask("GET", "/api/v1/videos")).body["videos"]) == 2


async def test_without_a_token_the_upload_is_refused_with_the_cure(api: RunningApi, shell: Shell, clip: Path) -> None:
    result = await replace(shell, token="").run("upload", "--no-wait", clip)
    assert (result.status, len(result.err.splitlines())) == (1, 1)
    assert "headwater tokens create NAME --scope upload" in result.err
    result = await replace(shell, token="").run("upload", "--token", "hw_1", clip)
    assert (result.status, "copy it whole" in result.err) == (2, True)


async def test_the_token_of_a_lab_of_this_user_is_found_by_its_address(
    api: RunningApi, shell: Shell, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(shell.home))
    note_lab(shell.api, api.deployment.data)
    assert (await replace(shell, token="").run("upload", "--no-wait", clip)).status == 0
    assert await only_master(api) == CLIP
    assert found_token("http://127.0.0.1:1", None) is None  # the token is for that address alone
    assert (api.deployment.data / CREATOR_FILE).stat().st_mode & 0o777 == 0o600


async def test_on_a_terminal_a_bar_is_drawn(api: RunningApi, shell: Shell, clip: Path) -> None:
    ours, theirs = pty.openpty()
    process = await shell.start("upload", "--no-wait", clip, stdout=theirs)
    os.close(theirs)
    drawn = await asyncio.to_thread(_read_all, ours)
    assert (await ended(process)).status == 0
    assert "100%" in drawn
    assert "upload clip.mp4" in drawn
    assert "\x1b[" in drawn


def _read_all(terminal: int) -> str:
    gathered = b""
    try:
        while chunk := os.read(terminal, 65536):
            gathered += chunk
    except OSError:  # EIO: the other side has closed
        pass
    os.close(terminal)
    return gathered.decode()


async def test_what_cannot_be_uploaded_is_one_clear_sentence_each(api: RunningApi, shell: Shell, clip: Path) -> None:
    empty = clip.with_name("empty.mp4")
    empty.touch()
    result = await shell.run("upload", "--no-wait", clip.with_name("no.mp4"), empty, clip.parent, clip)
    assert result.status == 1
    assert len(result.err.splitlines()) == 3
    assert ("no.mp4 cannot be read" in result.err, "empty.mp4 is empty" in result.err, "is no file" in result.err) == (True,) * 3
    assert await only_master(api) == CLIP  # the good one was uploaded all the same


@pytest.mark.parametrize("command", [["upload", str(Path(__file__))], ["video", "list"], ["video", "show", "AAAAAAAAAAA"]])
async def test_an_origin_that_is_not_there_is_named_with_the_cure(tmp_path: Path, command: list[str]) -> None:
    result = await Shell(tmp_path, "http://127.0.0.1:1", "").run(*command)
    assert result.status == 1
    assert "http://127.0.0.1:1 does not answer" in result.err
    assert "headwater up" in result.err
    assert len(result.err.splitlines()) == 1


async def test_a_video_that_is_not_there_is_said_so(shell: Shell) -> None:
    result = await shell.run("video", "show", "AAAAAAAAAAA")
    assert (result.status, result.err) == (1, "there is no video AAAAAAAAAAA\n")
