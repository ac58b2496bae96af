"""Masters and published objects in a real S3 store, end to end on real processes: a file goes straight from its sender to Ceph,
is transcoded, and plays through an edge. By the command, and by the page in a browser."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from headwater.runtime.nodetoken import NODE_HEADER, read_token
from headwater.settings.origin import S3Store
from headwater.settings.units import Address
from tests.support.browser import running_browser, visiting
from tests.support.ceph import Ceph
from tests.support.clips import flash_clip
from tests.support.lab import JsonObject, Lab, running_lab
from tests.support.s3server import ACCESS_KEY, SECRET_KEY
from tests.support.viewing import Viewer, media_only

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("ceph")]

NODES = ["control", "origin-api", "origin-bytes", "origin-transcoder", "shield-1", "fra-1"]
PADDING = 6 * 1024 * 1024  # makes a small clip an upload of two parts


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def bucket(ceph: Ceph) -> S3Store:
    """May be written to by pages of any origin: an operator allows the page's own."""
    return await asyncio.to_thread(ceph.bucket, f"lab-{secrets.token_hex(4)}", browsers=True)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def s3_lab(bucket: S3Store, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    def on_s3(content: JsonObject) -> None:
        store = {"kind": "s3", "endpoint": bucket.endpoint, "bucket": bucket.bucket}
        content["origin"]["masters"] = {**store, "prefix": "masters"}
        content["origin"]["tiers"] = {"hot": {"store": {**store, "prefix": "hot"}}}
        ladder = [{"height": 144, "max_bitrate_kbps": 200}]
        content["origin"]["transcode"] |= {"ladder": ladder, "first_height": 144, "preset": "ultrafast", "poll": "50 ms"}
        content["origin"]["uploads"] = {"part_size": "5 MiB", "min_part_size": "5 MiB"}

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        environment.delenv("AWS_PROFILE", raising=False)
        async with running_lab(tmp_path_factory.mktemp("s3-lab"), NODES, on_s3) as lab:
            yield lab


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = flash_clip(tmp_path_factory.mktemp("clips") / "s3.mp4", seconds=2)
    with file.open("ab") as appended:  # a box that players skip
        appended.write((PADDING + 8).to_bytes(4, "big") + b"free" + bytes(PADDING))
    return file


async def plays(lab: Lab, video_id: str) -> None:
    await lab.whole_video(video_id)
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"via": "address", "region": "eu"})
    edge = lab.edges["fra-1"]
    media = media_only(await Viewer(lab, Address(edge.host, edge.port)).play(playback["hls"]))
    assert {one.response.status_code for one in media} == {200}
    assert len(media) >= 4  # two headers, and segments of picture and sound


async def deleted_everywhere(lab: Lab, video_id: str, ceph: Ceph) -> None:
    """By the command: out of Ceph and out of the edge that has it, which the origin cannot tell by itself."""
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"via": "address", "region": "eu"})
    assert (await lab.http.get(playback["hls"])).status_code == 200
    done = await asyncio.to_thread(lab.headwater, "video", "delete", "--api", lab.api, "--yes", video_id)
    assert (done.returncode, done.stderr) == (0, "")
    async with asyncio.timeout(20):
        while await lab.metric("origin-api", "headwater_origin_deletions_total") == 0:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.05)
    assert [key for key in ceph.keys(lab.deployment.origin.masters) if video_id in key] == []
    assert (await lab.http.get(playback["hls"])).status_code == 404
    assert (await lab.http.get(f"{lab.api}/api/v1/videos/{video_id}/playback")).status_code == 410
    # The origin's token orders nothing else of control.
    url = f"{lab.deployment.control.listen.url}/api/v1/purge"
    token = {NODE_HEADER: read_token(lab.deployment.data, "origin-api")}
    assert (await lab.http.post(url, json={"tag": "news"}, headers=token)).status_code == 403
    audit = (lab.deployment.data / "nodes" / "control" / "audit.log").read_text()
    assert f'"who": "origin-api", "login": "", "from": "127.0.0.1", "what": "purge", "detail": "video {video_id}"' in audit


async def test_a_file_goes_by_the_command_straight_into_ceph_and_plays(s3_lab: Lab, clip: Path, ceph: Ceph) -> None:
    video_id = await s3_lab.upload(clip)
    await plays(s3_lab, video_id)
    # Its parts did not go through the origin, and nothing of them is left.
    assert await s3_lab.metric("origin-api", "headwater_origin_part_puts_total") == 0
    stored = ceph.keys(s3_lab.deployment.origin.masters)
    assert [key for key in stored if key.startswith("masters/")] == [f"masters/masters/{video_id}/source"]
    await deleted_everywhere(s3_lab, video_id, ceph)


@pytest.mark.browser
async def test_a_file_goes_by_the_page_straight_into_ceph_and_plays(s3_lab: Lab, clip: Path) -> None:
    async with running_browser() as browser, visiting(browser) as visit:
        await visit.page.goto(f"{s3_lab.api}/#token={s3_lab.token}")
        await visit.page.set_input_files("#file", clip)
        await visit.page.click("#upload-start")
        await visit.until("location.pathname.startsWith('/watch/')")
        video_id = visit.page.url.rpartition("/")[2].partition("#")[0]
    await plays(s3_lab, video_id)
    assert await s3_lab.metric("origin-api", "headwater_origin_part_puts_total") == 0
