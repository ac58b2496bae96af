"""What `headwater up` shows once its nodes run: the newest video's page, the operators' page, commands to try.

With `--demo` an empty catalogue gets a clip that is made here and uploaded as any other file would be.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from headwater.rules.names import Bucket, bucket_of, logical_host, parse_video_id
from headwater.settings.deployment import Deployment

SMOKE_SCENARIO = "loadtest/scenarios/smoke.yaml"


class DemoFailed(Exception):
    """The demo video could not be shown; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """What to print when everything runs."""

    watch: str
    operators: str
    commands: tuple[str, ...]

    def lines(self) -> list[str]:
        tried = [f"  {command}" for command in self.commands]
        return ["", f"Watch:    {self.watch}", f"Operate:  {self.operators}", "", "To try in another terminal:", *tried, ""]


def invitation(deployment: Deployment, config: Path, video_id: str | None, headwater: str, has_dig: bool) -> Invitation:
    """The pages and commands of this deployment, with real values."""
    public = deployment.origin.public_url
    bucket = bucket_of(parse_video_id(video_id)) if video_id else Bucket(0x3FA)
    name = logical_host(bucket, deployment.zone)
    dns = deployment.dns.listen
    dig = f"dig @{dns.host} -p {dns.port} {name}" + ("" if has_dig else "      (dig: apt install dnsutils)")
    return Invitation(
        watch=f"{public}/watch/{video_id}" if video_id else f"{public}/",
        operators=f"{deployment.control.listen.url}/",
        commands=(dig, f"{headwater} upload -c {config} FILE", f"{headwater} loadtest run -c {config} {SMOKE_SCENARIO}"),
    )


async def show_demo(deployment: Deployment, config: Path, console: Console, *, upload: bool) -> None:
    """Prints the invitation. Raises DemoFailed."""
    async with httpx.AsyncClient(base_url=deployment.origin.api.listen.url, trust_env=False, timeout=10.0) as client:
        video = await _newest_video(client)
    video_id = video["video_id"] if video else None
    for line in invitation(deployment, config, video_id, own_command(), shutil.which("dig") is not None).lines():
        console.print(line, markup=False)


async def _newest_video(client: httpx.AsyncClient) -> dict[str, Any] | None:
    try:
        answer = await client.get("/api/v1/videos", params={"limit": "1"})
        answer.raise_for_status()
        videos: list[dict[str, Any]] = answer.json()["videos"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        raise DemoFailed(f"the API does not list its videos ({error})") from error
    return videos[0] if videos else None


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
