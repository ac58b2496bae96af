"""The whole path on real processes: the upload command, transcoding, our DNS, an edge under a grant, and what players decode."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from headwater.settings.units import Address
from tests.support.clips import REAL_MEDIA, decode, flash_and_tone
from tests.support.lab import Lab
from tests.support.media import make_with
from tests.support.viewing import Viewer, at_edge, media_only, path_of

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("lab")]

AAC_FRAME_S = 1024 / 48000


async def test_a_clip_uploaded_by_the_command_plays_through_the_edge_that_our_dns_names(lab: Lab, unwatched_video: str) -> None:
    video_id = unwatched_video
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"via": "dns"})
    assert (playback["status"], playback["reason"]) == ("playable", None)
    host = playback["logical_host"]
    answers = await lab.resolve(host, subnet="198.51.100.0/24")  # a network of the region us
    iad = lab.edges["iad-1"]
    assert answers[0] == iad.host
    viewer = Viewer(lab, Address(answers[0], iad.port), host=f"{host}:{iad.port}")

    first = media_only(await viewer.play(playback["hls"]))
    again = media_only(await viewer.play(playback["hls"]))

    assert {one.path.rsplit("/", 2)[0].removeprefix(f"/videos/{video_id}/") for one in first} == {"h264", "aac"}
    assert [one.edge_status.partition(";")[0] for one in first] == ["iad-1"] * len(first)
    assert [one.path for one in first if one.is_hit] == []
    assert [one.path for one in again if not one.is_hit] == []
    assert [one.response.content for one in first] == [one.response.content for one in again]


async def test_one_trace_id_is_in_the_access_logs_of_all_three_tiers(lab: Lab, unwatched_video: str) -> None:
    video_id = unwatched_video
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"via": "address", "region": "ap"})
    viewer = Viewer(lab, lab.edges["sin-1"])
    # Nobody else fetches the poster, so that every tier has to ask the next one.
    trace_id = secrets.token_hex(16)
    got = await viewer.get(playback["poster"], traceparent=f"00-{trace_id}-{secrets.token_hex(8)}-01")
    assert got.response.status_code == 200
    assert trace_id in got.response.headers["traceparent"]
    members = [member.strip().partition(";")[0] for member in got.response.headers["cache-status"].split(",")]
    shield, edge = members
    assert edge == "sin-1"
    for node in (edge, shield, "origin-bytes"):
        line = await lab.logged(node, lambda line: line.get("trace_id") == trace_id)
        assert line["path"] == path_of(playback["poster"])


@pytest.mark.parametrize("manifest", ["hls", "dash"])
async def test_a_player_decodes_every_frame_in_sync_through_an_edge(
    lab: Lab, video_id: str, flash_file: Path, manifest: str
) -> None:
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"via": "address", "region": "eu"})
    url = at_edge(playback[manifest], lab.edges["fra-1"])

    [source], renditions = await asyncio.gather(asyncio.to_thread(decode, str(flash_file)), asyncio.to_thread(decode, url))
    assert len(renditions) == 2
    for played in renditions:
        assert played.video_frames == source.video_frames
        assert played.video_s == pytest.approx(source.video_s, abs=played.frame_s)
        assert played.audio_start_s == pytest.approx(played.video_start_s, abs=played.frame_s)
        assert played.audio_end_s == pytest.approx(played.video_end_s, abs=played.frame_s + AAC_FRAME_S)

    flash_s, tone_s = await asyncio.to_thread(flash_and_tone, url)
    source_flash_s, source_tone_s = await asyncio.to_thread(flash_and_tone, str(flash_file))
    assert flash_s - tone_s == pytest.approx(source_flash_s - source_tone_s, abs=0.01)


@pytest.mark.skipif(not REAL_MEDIA.is_dir(), reason="needs ../shared/media, real files beside the clone")
@pytest.mark.parametrize("name", ["bbb_480p24_30s_51.mp4", "gen_720p23976_12s.mp4"])
async def test_a_real_file_keeps_its_length_in_frames(lab: Lab, name: str, tmp_path: Path) -> None:
    file = tmp_path / name  # its beginning, as it is: encoding it up the lab's whole ladder takes long
    await asyncio.to_thread(make_with, file, "-i", str(REAL_MEDIA / name), "-t", "5", "-c", "copy")
    video = await lab.whole_video(await lab.upload(file))
    playback = await lab.ask(f"/api/v1/videos/{video['video_id']}/playback", params={"via": "address"})
    [source] = await asyncio.to_thread(decode, str(file))
    for manifest in ("hls", "dash"):
        for played in await asyncio.to_thread(decode, playback[manifest]):
            assert played.video_s == pytest.approx(source.video_s, abs=source.frame_s), manifest
            assert played.audio_end_s == pytest.approx(played.video_end_s, abs=2 * played.frame_s), manifest
