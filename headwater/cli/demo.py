"""What `headwater up` shows once its nodes run: the newest video's page, the operators' page, commands to try.

With `--demo` an empty catalogue gets a clip that is made here and uploaded as any other file would be.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from control.operators.ownertoken import ensure_operator_token
from headwater.cli.begunuploads import BegunUploads
from headwater.cli.originclient import OriginClient, OriginRefused, OriginUnreachable, origin_client
from headwater.cli.upload import shown_progress
from headwater.cli.uploader import Uploader, UploadFailed, open_source
from headwater.rules.names import Bucket, bucket_of, logical_host, parse_video_id
from headwater.settings.deployment import Deployment
from origin.transcode.media.testclip import make_demo_clip
from origin.transcode.programs.tools import NoFfmpeg

CLIP_NAME = "headwater-demo.mp4"
CLIP_TITLE = "Headwater demo clip"
SMOKE_SCENARIO = "loadtest/scenarios/smoke.yaml"


class DemoFailed(Exception):
    """The demo video could not be shown; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What to print when everything runs."""

    watch: str
    upload: str
    operators: str
    commands: tuple[str, ...]

    def lines(self) -> list[str]:
        tried = [f"  {command}" for command in self.commands]
        pages = [f"Watch:    {self.watch}", f"Upload:   {self.upload}", f"Operate:  {self.operators}"]
        return ["", *pages, "", "To try in another terminal:", *tried, ""]


def invitation(
    deployment: Deployment, config: Path, video_id: str | None, headwater: str, has_dig: bool, token: str, operator: str
) -> Invitation:
    """The pages and commands of this deployment, with real values. A URL's fragment stays in the browser: no server logs it."""
    public = deployment.origin.public_url
    bucket = bucket_of(parse_video_id(video_id)) if video_id else Bucket(0x3FA)
    name = logical_host(bucket, deployment.zone)
    dns = deployment.dns.listen
    dig = f"dig @{dns.host} -p {dns.port} {name}" + ("" if has_dig else "      (dig: apt install dnsutils)")
    return Invitation(
        watch=f"{public}/watch/{video_id}" if video_id else f"{public}/",
        upload=f"{public}/#token={token}",
        operators=f"{deployment.control.listen.url}/#token={operator}",
        commands=(
            dig,
            f"{headwater} upload --api {public} FILE",
            f"{headwater} loadtest run -c {config} {SMOKE_SCENARIO}",
        ),
    )


async def show_demo(deployment: Deployment, config: Path, console: Console, token: str, *, upload: bool) -> None:
    """Prints the invitation, after a first video was made if `upload`; `token` is the creator's. Raises DemoFailed."""
    clip = deployment.data / "demo" / CLIP_NAME
    try:
        async with origin_client(deployment.origin.api.listen.url, token) as origin:
            video_id = await _newest_video(origin)
            # The clip is removed when its video plays: one that is still there was interrupted, and is gone on with.
            if upload and (video_id is None or clip.exists()):
                video_id = await _upload_clip(origin, clip, deployment.origin.transcode.ffmpeg, console)
    except (OriginUnreachable, OriginRefused, UploadFailed, NoFfmpeg) as error:
        raise DemoFailed(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise DemoFailed(f"ffmpeg could not make it: {error.stderr.decode(errors='replace').strip()[-300:]}") from error
    has_dig = shutil.which("dig") is not None
    operator = (await asyncio.to_thread(ensure_operator_token, deployment)).text
    for line in invitation(deployment, config, video_id, own_command(), has_dig, token, operator).lines():
        console.print(line, markup=False)


async def _newest_video(origin: OriginClient) -> str | None:
    videos = (await origin.json("GET", "/api/v1/videos", params={"limit": "1"}))["videos"]
    return str(videos[0]["video_id"]) if videos else None


async def _upload_clip(origin: OriginClient, clip: Path, ffmpeg: str, console: Console) -> str:
    """Makes the clip, uploads it, waits until it plays. Returns the video id."""
    if not await asyncio.to_thread(clip.exists):
        console.print("There is no video yet. Making a clip: moving picture, burnt-in time, a tone…")
        await asyncio.to_thread(_make_clip, clip, ffmpeg)
    bars, progress = shown_progress()
    with bars:
        uploader = Uploader(origin, BegunUploads(clip.parent), progress)
        source = open_source(clip, CLIP_TITLE)
        video_id = await uploader.upload(source)
        await uploader.wait(source, video_id)
    await asyncio.to_thread(clip.unlink)
    console.print("It plays; its better renditions join while you watch.")
    return video_id


def _make_clip(clip: Path, ffmpeg: str) -> None:
    """Makes it aside, so that a clip that is there is whole."""
    make_demo_clip(clip.with_name("draft.mp4"), ffmpeg=ffmpeg).replace(clip)


def own_command() -> str:
    """How this command was called, relative to the working folder where that is shorter."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{_shown(Path(sys.executable))} -m headwater"
    if shutil.which(program.name) == str(program):
        return program.name
    return _shown(program)


def _shown(program: Path) -> str:
    here = Path.cwd()
    return os.path.relpath(program, here) if program.is_relative_to(here) else str(program)
