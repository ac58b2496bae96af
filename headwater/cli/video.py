"""`headwater video list|show|delete|retry`: the origin's videos on the command line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.cli.credentials import TokenOption, found_token
from headwater.cli.originclient import (
    DEFAULT_API,
    ApiOption,
    OriginClient,
    OriginRefused,
    OriginUnreachable,
    checked_api,
    origin_client,
)
from headwater.cli.requeue import requeue
from headwater.cli.taskview import print_making, span

Json = dict[str, Any]
JsonOption = Annotated[bool, typer.Option("--json", help="Print what the API answers.")]
MOST_IN_ONE_ANSWER = 100

commands = typer.Typer(name="video", help="Look at an origin's videos.", no_args_is_help=True)


@commands.command("list")
def list_videos(
    api: ApiOption = DEFAULT_API,
    token: TokenOption = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List videos, newest first."""
    videos = _asked(api, token, lambda origin: _newest(origin, limit))
    if as_json:
        print(json.dumps(videos, indent=2))
        return
    if not videos:
        print("There is no video yet: `headwater upload FILE` makes one.")
        return
    table = Table(box=None)
    for name, least in (("id", 11), ("title", 12), ("status", 10), ("length", 9), ("rungs", 6), ("created", 10)):
        table.add_column(name, no_wrap=True, min_width=least)  # a narrow terminal shortens titles, never ids
    for video in videos:
        table.add_row(video["video_id"], Text(video["title"]), _status(video), _length(video), _rungs(video), _created(video))
    Console().print(table)


@commands.command("show")
def show_video(
    video_id: Annotated[str, typer.Argument(help="Video id.", metavar="ID")],
    api: ApiOption = DEFAULT_API,
    token: TokenOption = None,
    tasks: Annotated[bool, typer.Option("--tasks", help="List every task, not only those that run or had trouble.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one video: where it plays, its renditions, its tasks, what is waited for and when each rung is expected."""
    at = f"/api/v1/videos/{_segment(video_id)}"
    video = _asked(api, token, lambda origin: origin.json("GET", at))
    making = _asked(api, token, lambda origin: origin.json("GET", f"{at}/making"))
    if as_json:
        print(json.dumps({**video, "making": making}, indent=2))
        return
    for name, value in _facts(video, checked_api(api)):
        print(f"{name:<9}{value}")  # URLs stay whole, however narrow the terminal is
    if video["renditions"]:
        Console().print(_renditions(video, making["ready_in_s"]))
    print_making(making, every_task=tasks)


@commands.command("delete")
def delete_video(
    video_ids: Annotated[list[str], typer.Argument(help="Video ids.", metavar="ID...")],
    api: ApiOption = DEFAULT_API,
    token: TokenOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete videos for good: their streams, their original files, and what caches have of them."""
    for video_id in video_ids:
        at = f"/api/v1/videos/{_segment(video_id)}"
        if not yes:
            video = _asked(api, token, partial(OriginClient.json, method="GET", path=at))
            typer.confirm(f"Delete “{video['title']}” ({video_id}) for good?", abort=True)
        _asked(api, token, partial(OriginClient.delete, path=at))
        print(f"{video_id} is deleted; its objects and what caches have of it follow.")


def _asked(api: str, token: str | None, ask: Callable[[OriginClient], Awaitable[Any]]) -> Any:
    """What `ask` gets from the origin; or its error on stderr and exit status 1."""

    async def run() -> Any:
        base = checked_api(api)
        async with origin_client(base, found_token(base, token)) as origin:
            return await ask(origin)

    try:
        return asyncio.run(run())
    except (OriginRefused, OriginUnreachable) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error


async def _newest(origin: OriginClient, limit: int) -> list[Json]:
    videos: list[Json] = []
    cursor: str | None = None
    while len(videos) < limit:
        query = {"limit": str(min(limit - len(videos), MOST_IN_ONE_ANSWER)), **({"cursor": cursor} if cursor else {})}
        answer = await origin.json("GET", "/api/v1/videos", params=query)
        videos += answer["videos"]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    return videos


def _segment(video_id: str) -> str:
    """As one path segment, so that what is no id is refused as such by the origin."""
    return "".join(
        character if character.isascii() and (character.isalnum() or character in "-_") else "." for character in video_id
    )


def _facts(video: Json, api: str) -> list[tuple[str, str]]:
    facts = [
        ("video", video["video_id"]),
        ("title", video["title"]),
        ("status", _status(video)),
        ("file", f"{video['filename']} ({video['size_bytes']} bytes)"),
        ("length", _length(video)),
        ("picture", _picture(video)),
        ("created", _created(video)),
    ]
    if video["failure"]:
        facts.append(("failure", f"{video['failure']['detail']} ({video['failure']['kind']})"))
    if video["manifests"]:
        facts += [("watch", f"{api}/watch/{video['video_id']}"), ("hls", video["manifests"]["hls"])]
        facts.append(("dash", video["manifests"]["dash"]))
    return facts


def _renditions(video: Json, ready_in_s: dict[str, float]) -> Table:
    table = Table("codec", "rung", "state", "done", "ready in", "size", "peak", "average", "vmaf", box=None)
    for one in video["renditions"]:
        size = f"{one['width']}x{one['height']}" if one["width"] else ""
        rates = (_rate(one["bandwidth_bps"]), _rate(one["average_bandwidth_bps"]))
        expected = ready_in_s.get(f"{one['codec']}/{one['rung']}")
        done = (f"{one['progress']:.0%}", "" if expected is None else span(expected))
        quality = f"{one['vmaf']['mean']:.1f} ({one['vmaf']['low']:.1f})" if one.get("vmaf") else ""
        table.add_row(one["codec"], one["rung"], one["state"], *done, size, *rates, quality)
    return table


def _rate(bps: int | None) -> str:
    return f"{bps / 1000:.0f} kbit/s" if bps else ""


def _status(video: Json) -> str:
    return f"{video['status']} {video['progress']:.0%}" if video["status"] == "processing" else str(video["status"])


def _length(video: Json) -> str:
    if video["duration_s"] is None:
        return ""
    tenths = round(video["duration_s"] * 10)
    return f"{tenths // 36000}:{tenths // 600 % 60:02}:{tenths % 600 / 10:04.1f}"


def _picture(video: Json) -> str:
    return f"{video['width']}x{video['height']} at {video['frame_rate']}/s" if video["width"] else ""


def _rungs(video: Json) -> str:
    return " ".join(one["rung"] for one in video["renditions"] if one["state"] == "ready" and one["kind"] == "video")


def _created(video: Json) -> str:
    return datetime.fromtimestamp(video["created_at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


commands.command("retry")(requeue)


def register(app: typer.Typer) -> None:
    app.add_typer(commands)
