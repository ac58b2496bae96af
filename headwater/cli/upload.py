"""`headwater upload FILE…`: send video files to an origin and wait until they play."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated

import rich.progress
import typer
from rich.console import Console

from headwater.cli.begunuploads import BegunUploads, state_folder
from headwater.cli.credentials import TokenOption, found_token
from headwater.cli.interrupt import run_interruptible
from headwater.cli.originclient import DEFAULT_API, ApiOption, OriginRefused, OriginUnreachable, checked_api, origin_client
from headwater.cli.uploader import Progress, Source, Uploader, UploadFailed, open_source
from headwater.settings.units import format_size

EXIT_NOT_PLAYABLE = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
LINE_STEP = 0.1


class Bar:
    """Progress on a terminal."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self._bars = bars
        self._task: rich.progress.TaskID | None = None
        self._processing: rich.progress.TaskID | None = None

    def began(self, name: str, size_bytes: int, already_bytes: int) -> None:
        self._processing = None
        self._task = self._bars.add_task(f"upload {name}", total=size_bytes, completed=already_bytes)

    def sent(self, size_bytes: int) -> None:
        if self._task is not None:
            self._bars.advance(self._task, size_bytes)

    def processing(self, fraction: float, what: str) -> None:
        if self._processing is None:
            self._processing = self._bars.add_task("transcode", total=1.0)
        self._bars.update(self._processing, completed=fraction, description=f"transcode {what}")

    def note(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)


class Lines:
    """Progress where nobody draws: a line for each tenth."""

    def __init__(self) -> None:
        self._name, self._size, self._sent, self._step = "", 1, 0, -1
        self._last_processing = ""

    def began(self, name: str, size_bytes: int, already_bytes: int) -> None:
        self._name, self._size, self._sent, self._step = name, size_bytes, 0, -1
        self._last_processing = ""
        self.sent(already_bytes)

    def sent(self, size_bytes: int) -> None:
        self._sent += size_bytes
        step = int(self._sent / self._size / LINE_STEP)
        if step > self._step:
            self._step = step
            self.note(f"{self._name}: sent {self._sent} of {self._size} bytes ({self._sent / self._size:.0%})")

    def processing(self, fraction: float, what: str) -> None:
        shown = f"{self._name}: transcoding, {int(fraction / LINE_STEP) * LINE_STEP:.0%}"
        if shown != self._last_processing:
            self._last_processing = shown
            self.note(f"{shown} ({what})")

    def note(self, text: str) -> None:
        print(text, flush=True)


def upload(
    files: Annotated[list[Path], typer.Argument(help="Video files.", metavar="FILE...")],
    api: ApiOption = DEFAULT_API,
    token: TokenOption = None,
    title: Annotated[str | None, typer.Option(help="Title of the video; the file's name without it.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait until the video plays.")] = False,
) -> None:
    """Upload video files and wait until they play. Killed and started again, it goes on where it was."""
    api = checked_api(api)
    if title is not None and len(files) > 1:
        raise typer.BadParameter("one title is for one file; upload the others on their own", param_hint="--title")
    try:
        good = run_interruptible(_upload_all(files, api, found_token(api, token), title, wait=not no_wait))
    except KeyboardInterrupt:
        print("Interrupted; the same command goes on from here.", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if not good:
        raise typer.Exit(EXIT_NOT_PLAYABLE)


async def _upload_all(files: list[Path], api: str, token: str | None, title: str | None, *, wait: bool) -> bool:
    """Each file in turn; one that fails does not keep the others from being sent. True when all are well."""
    bars, progress = shown_progress()
    good = True
    with bars:
        async with origin_client(api, token) as origin:
            uploader = Uploader(origin, BegunUploads(state_folder()), progress)
            for file in files:
                try:
                    progress.note(await _upload_one(uploader, open_source(file, title), api, wait=wait))
                except UploadFailed as error:
                    good = False
                    print(error, file=sys.stderr, flush=True)
                except OriginRefused as error:
                    good = False
                    print(f"{file}: {error}", file=sys.stderr, flush=True)
                except OriginUnreachable as error:
                    print(error, file=sys.stderr, flush=True)
                    return False
    return good


async def _upload_one(uploader: Uploader, source: Source, api: str, *, wait: bool) -> str:
    """Returns what to tell at the end."""
    video_id = await uploader.upload(source)
    if not wait:
        uploader.finished(source)
        return f"{source.path.name}: uploaded ({format_size(source.size_bytes)}), video {video_id} is being processed"
    video = await uploader.wait(source, video_id)
    ready = [rendition["rung"] for rendition in video["renditions"] if rendition["state"] == "ready"]
    return f"{source.path.name}: plays ({', '.join(ready)}), watch it at {api}/watch/{video_id}"


def shown_progress() -> tuple[AbstractContextManager[object], Progress]:
    """A bar on a terminal, plain lines otherwise: (what to enter while it is shown, what to tell)."""
    if not sys.stdout.isatty():
        return nullcontext(), Lines()
    bars = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(),
        console=Console(),
    )
    return bars, Bar(bars)


def register(app: typer.Typer) -> None:
    app.command()(upload)
