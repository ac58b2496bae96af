"""`headwater requeue VIDEO…`: failed videos are made again from their masters."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated

import typer

from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.rules.names import InvalidName, parse_video_id
from headwater.settings.deployment import Deployment


def requeue(
    videos: Annotated[list[str], typer.Argument(help="Ids of videos whose transcode failed, wholly or in some rungs.")],
    config: ConfigOption,
) -> None:
    """Make failed videos again from what was uploaded."""
    deployment = deployment_or_exit(config)
    results = [asyncio.run(_requeued(deployment, video)) for video in videos]
    raise typer.Exit(0 if all(results) else 1)


async def _requeued(deployment: Deployment, text: str) -> bool:
    # Imported here: every command of `headwater` would wait for the database library otherwise.
    from origin.catalogue.engine import open_catalogue
    from origin.catalogue.jobs import requeue as requeue_job

    try:
        video_id = parse_video_id(text)
    except InvalidName as error:
        print(error, file=sys.stderr)
        return False
    async with open_catalogue(deployment) as engine:
        if not await requeue_job(engine, video_id, time.time()):
            print(f"{video_id} has no failed transcode: its state is in `headwater status` or the API.", file=sys.stderr)
            return False
    print(f"{video_id} waits for the transcoder again.")
    return True


def register(app: typer.Typer) -> None:
    app.command()(requeue)
