"""Other people's upload clients, as they are, against a real origin: tuspy, tus-js-client, Google's Python client, curl."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.discovery_cache import get_static_doc
from googleapiclient.http import MediaFileUpload
from sqlalchemy import select
from tusclient.client import TusClient

from headwater.settings.deployment import Deployment
from origin.catalogue.engine import reading
from origin.catalogue.schema import jobs
from tests.support.deployments import ROOT, lab_deployment, with_uploads
from tests.support.origin import RunningApi, running_api

MIB = 1024 * 1024
CLIP = random.Random(9).randbytes(5 * MIB + 321)
CLIENTS = ROOT / "tests" / "clients"


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """Parts of 1 MiB, so that a small file has several."""
    return with_uploads(lab_deployment(tmp_path), part_size=MIB)


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """These clients would ask a proxy named in the environment even for this machine."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    file = tmp_path / "Ferienclip.mp4"
    file.write_bytes(CLIP)
    return file


def url(api: RunningApi, path: str) -> str:
    return f"{api.deployment.origin.api.listen.url}{path}"


async def master_of(api: RunningApi, video_id: str) -> bytes:
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key).where(jobs.c.video_id == video_id))).scalar_one()
    return b"".join([chunk async for chunk in api.stores.masters.read(key)])


async def title_of(api: RunningApi, video_id: str) -> str:
    return str((await api.creator.ask("GET", f"/api/v1/videos/{video_id}")).body["title"])


async def run(*command: str | Path) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=CLIENTS, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("chunk", [1_000_000, 64 * MIB])
async def test_tuspy_uploads_a_file(api: RunningApi, clip: Path, chunk: int) -> None:
    def upload() -> str:
        client = TusClient(url(api, "/upload/tus"), headers={"Authorization": f"Bearer {api.token.text}"})
        with clip.open("rb") as file:
            uploader = client.uploader(file_stream=file, chunk_size=chunk, metadata={"filename": clip.name}, upload_checksum=True)
            uploader.upload()
        return str(uploader.url)

    video_id = (await asyncio.to_thread(upload)).rpartition("/")[2]
    assert await master_of(api, video_id) == CLIP
    assert await title_of(api, video_id) == "Ferienclip"


async def test_tuspy_goes_on_with_an_upload_that_another_machine_began(api: RunningApi, clip: Path) -> None:
    def upload() -> str:
        headers = {"Authorization": f"Bearer {api.token.text}"}
        with clip.open("rb") as file, clip.open("rb") as elsewhere:
            first = TusClient(url(api, "/upload/tus"), headers=headers).uploader(file_stream=file, chunk_size=700_000)
            first.upload(stop_at=1_400_000)
            other = TusClient(url(api, "/upload/tus"), headers=headers)
            second = other.uploader(file_stream=elsewhere, chunk_size=MIB, url=first.url)
            assert second.offset == 1_400_000
            second.upload()
        return str(second.url)

    assert await master_of(api, (await asyncio.to_thread(upload)).rpartition("/")[2]) == CLIP


def node() -> str:
    """Node.js with tus-js-client installed; skips the test without."""
    program = shutil.which("node")
    if program is None or not (CLIENTS / "node_modules" / "tus-js-client").is_dir():
        pytest.skip("tus-js-client is not installed: `make test` does it, or `npm ci` in tests/clients")
    return program


@pytest.mark.parametrize(("chunk", "parallel"), [("0", "1"), ("1000000", "1"), ("0", "3")])
async def test_tus_js_client_uploads_a_file_whole_in_chunks_and_in_parallel(
    api: RunningApi, clip: Path, chunk: str, parallel: str
) -> None:
    status, out, err = await run(node(), "tus-upload.mjs", url(api, "/upload/tus"), api.token.text, clip, chunk, parallel)
    assert (status, err) == (0, "")
    assert await master_of(api, out.strip().rpartition("/")[2]) == CLIP
    assert len((await api.creator.ask("GET", "/api/v1/videos")).body["videos"]) == 1


async def test_tus_js_client_goes_on_after_its_tab_was_closed_uppy_1724(api: RunningApi, clip: Path) -> None:
    """uppy #1724, #2900: the next start of the client goes on where the last one was, not from zero."""
    endpoint = url(api, "/upload/tus")
    _, out, err = await run(node(), "tus-upload.mjs", endpoint, api.token.text, clip, "600000", "1", "1800000")
    assert err == ""
    stopped = out.strip()
    head = await api.creator.ask("HEAD", stopped, headers={"Tus-Resumable": "1.0.0"})
    assert 1_800_000 <= int(head.headers["Upload-Offset"]) < len(CLIP)
    status, out, err = await run(node(), "tus-upload.mjs", endpoint, api.token.text, clip, "0", "1", "0", stopped)
    assert (status, err, out.strip()) == (0, "", stopped)
    assert await master_of(api, stopped.rpartition("/")[2]) == CLIP


@pytest.mark.parametrize("chunk", [1024 * 1024, -1])
async def test_googles_client_uploads_a_video_as_to_youtube(api: RunningApi, clip: Path, chunk: int) -> None:
    def upload() -> dict[str, Any]:
        # The library's own description of the API, its address apart.
        described = {**json.loads(get_static_doc("youtube", "v3")), "rootUrl": url(api, "/")}
        youtube = build_from_document(described, credentials=Credentials(api.token.text))
        body = {"snippet": {"title": "Ferien", "description": "Am Meer", "tags": ["meer"]}, "status": {"privacyStatus": "public"}}
        media = MediaFileUpload(str(clip), mimetype="video/mp4", chunksize=chunk, resumable=True)
        request = youtube.videos().insert(part="snippet,status", body=body, media_body=media)
        done = None
        while done is None:
            _, done = request.next_chunk()
        media.stream().close()
        youtube.close()
        return dict(done)

    video = await asyncio.to_thread(upload)
    assert (video["kind"], video["status"]["uploadStatus"]) == ("youtube#video", "uploaded")
    assert await master_of(api, video["id"]) == CLIP
    assert await title_of(api, video["id"]) == "Ferien"


async def test_curl_uploads_a_file_in_one_request(api: RunningApi, clip: Path) -> None:
    address = url(api, "/upload/resumable?title=By%20curl")
    field = f"Authorization: Bearer {api.token.text}"
    status, out, err = await run("curl", "-sS", "-f", "-T", clip, "-X", "POST", "-H", field, "-H", "Upload-Complete: ?1", address)
    assert (status, err) == (0, "")
    video_id = out.partition('"video_id": "')[2].partition('"')[0]
    assert await master_of(api, video_id) == CLIP
    assert await title_of(api, video_id) == "By curl"


async def test_curl_goes_on_by_the_draft_after_it_was_cut_off(api: RunningApi, clip: Path, tmp_path: Path) -> None:
    field = ("-H", f"Authorization: Bearer {api.token.text}", "-H", "Upload-Draft-Interop-Version: 8")
    address = url(api, "/upload/resumable")
    size = ("-H", f"Upload-Length: {len(CLIP)}")
    first = tmp_path / "first"
    first.write_bytes(CLIP[: 2 * MIB])
    _, out, _ = await run(
        "curl", "-sS", "-D", "-", "-X", "POST", "-T", first, *field, *size, "-H", "Upload-Complete: ?0", address
    )  # fmt: skip
    assert "HTTP/1.1 104" in out
    location = out.rpartition("Location: ")[2].split()[0]
    _, head, _ = await run("curl", "-sS", "-I", *field, location)
    assert f"Upload-Offset: {2 * MIB}" in head
    rest = tmp_path / "rest"
    rest.write_bytes(CLIP[2 * MIB :])
    appended = ("-H", "Content-Type: application/partial-upload", "-H", f"Upload-Offset: {2 * MIB}", "-H", "Upload-Complete: ?1")
    status, _, err = await run("curl", "-sS", "-f", "-X", "PATCH", "-T", rest, *field, *appended, location)
    assert (status, err) == (0, "")
    assert await master_of(api, location.rpartition("/")[2]) == CLIP
