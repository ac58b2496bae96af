"""An upload whose transcoder is killed while it makes the first window early: real processes, kill -9."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from tests.support.lab import JsonObject, Lab
from tests.support.media import decode, make_with
from tests.support.origin import content_digest
from tests.support.transcoding import studio

PART = 256 * 1024
SECONDS = 10
NODES = ("origin-api", "origin-transcoder")


def small_parts(content: JsonObject) -> None:
    """A change of the lab's config: parts of 256 KiB, a small ladder."""
    content["origin"]["uploads"] = {"part_size": "256 KiB", "min_part_size": "256 KiB"}
    ladder = [{"height": 144, "max_bitrate_kbps": 200}, {"height": 240, "max_bitrate_kbps": 400}]
    content["origin"]["transcode"] = {
        "ladder": ladder,
        "first_height": 240,
        "preset": "ultrafast",
        "poll": "50 ms",
        "vmaf_samples": 0,
    }


def camera_clip(file: Path) -> bytes:
    """Eight parts or more; the index is last, as cameras write it."""
    picture = f"testsrc2=size=640x360:rate=25:duration={SECONDS},noise=alls=12:allf=t"
    coded = ["-c:v", "libx264", "-preset", "ultrafast", "-b:v", "3M", "-g", "50", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    make_with(file, "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", f"sine=440:duration={SECONDS}", *coded)
    return file.read_bytes()


async def killed_early(lab: Lab, clip: bytes, after_s: float, folder: Path) -> None:
    """Sends what the early start needs, kills the transcoder `after_s` later, starts it again, completes: the video is right."""
    headers = {"Authorization": f"Bearer {lab.token}"}
    new = {"title": "killed", "size": len(clip), "content_type": "video/mp4", "filename": "clip.mp4"}
    begun = (await lab.http.post(f"{lab.api}/api/v1/videos", json=new, headers=headers)).raise_for_status().json()
    video_id, parts = begun["video_id"], begun["upload"]["parts"]

    async def send(chosen: list[JsonObject]) -> None:
        for part in chosen:
            body = clip[(part["number"] - 1) * PART :][: part["size"]]
            put = await lab.http.put(part["url"], content=body, headers={"Content-Digest": content_digest(body)})
            put.raise_for_status()

    await send([*parts[:-2], parts[-1]])
    await asyncio.sleep(after_s)  # the moment of the kill is what is tried out
    await lab.restart("origin-transcoder", number=signal.SIGKILL)
    await send([parts[-2]])
    completed = await lab.http.post(f"{lab.api}/api/v1/videos/{video_id}/upload/complete", headers=headers)
    completed.raise_for_status()
    await lab.whole_video(video_id)
    async with studio(lab.deployment) as at:
        decoded = await asyncio.to_thread(decode, await at.export(video_id, folder) / "master.m3u8")
    assert decoded.clean, decoded.complaints
    assert [len(times) for times in decoded.video] == [25 * SECONDS] * 2
    work = lab.deployment.data / "nodes" / "origin-transcoder" / "work"
    async with asyncio.timeout(240):  # what is made besides, last of all, ends before it
        while (work / video_id).exists():  # noqa: ASYNC110  # another process removes it
            await asyncio.sleep(0.05)
