"""Uploading one file: begin or resume, send the missing parts, complete, wait until it plays.

Every step may be repeated, so that whatever goes wrong is answered by asking the origin what is there and going on.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import mimetypes
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from headwater.cli.begunuploads import Begun, BegunUploads, Fingerprint
from headwater.cli.originclient import REFUSED_BY_STORE, OriginClient, OriginRefused, OriginUnreachable

PARALLEL_PARTS: Final = 4
CHUNK_BYTES: Final = 256 * 1024
PATIENCE_S: Final = 60.0  # an origin that restarts is back well before
FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0
POLL_S: Final = 0.5
ROUNDS: Final = 4  # of sending what is missing; a part that never arrives intact is not sent for ever
MAX_TITLE_CHARS: Final = 200

T = TypeVar("T")
Json = dict[str, Any]


class UploadFailed(Exception):
    """The file is not playable; the message is one sentence that says why and what to do."""


class Progress(Protocol):
    """What a watcher is told. Sizes in bytes."""

    def began(self, name: str, size_bytes: int, already_bytes: int) -> None: ...

    def sent(self, size_bytes: int) -> None:
        """So many more bytes; fewer than 0 when a part has to be sent again."""

    def processing(self, fraction: float, what: str) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Source:
    """The file as it was when the upload began."""

    path: Path
    size_bytes: int
    mtime_ns: int
    title: str

    def fingerprint(self, api: str) -> Fingerprint:
        return Fingerprint(api, str(self.path), self.size_bytes, self.mtime_ns, self.title)

    def is_unchanged(self) -> bool:
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size_bytes, self.mtime_ns)

    def read(self, offset: int, size: int) -> bytes:
        """One part. Raises UploadFailed when the file has become shorter."""
        with self.path.open("rb") as file:
            body = os.pread(file.fileno(), size, offset)
        if len(body) != size:
            raise UploadFailed(f"{self.path} became shorter while it was uploaded: run the same command again.")
        return body


def open_source(file: Path, title: str | None) -> Source:
    """Raises UploadFailed for what cannot be uploaded."""
    try:
        path = file.resolve(strict=True)
        status = path.stat()
        if not path.is_file():
            raise UploadFailed(f"{file} is no file: name a video file.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise UploadFailed(f"{file} cannot be read ({error.strerror}): name a video file that you may read.") from error
    if status.st_size == 0:
        raise UploadFailed(f"{file} is empty: name a file that holds a video.")
    shown = printable(title if title is not None else path.stem)[:MAX_TITLE_CHARS].strip()
    return Source(path, status.st_size, status.st_mtime_ns, shown or "Untitled")


def printable(text: str) -> str:
    """File names may hold bytes that are no text, and control characters."""
    readable = os.fsencode(text).decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in readable)


class Uploader:
    def __init__(self, origin: OriginClient, begun: BegunUploads, progress: Progress) -> None:
        self._origin = origin
        self._begun = begun
        self._progress = progress

    async def upload(self, source: Source) -> str:
        """Sends the file; returns its video id once the origin has acknowledged all of it. Raises UploadFailed."""
        fingerprint = source.fingerprint(self._origin.api)
        video_id, state = await self._begin(source, fingerprint)
        self._progress.began(source.path.name, source.size_bytes, _bytes_arrived(state))
        digests: dict[int, str] = {}
        for _ in range(ROUNDS):
            await self._send_missing(source, video_id, state, digests)
            if not await asyncio.to_thread(source.is_unchanged):
                self._begun.forget(fingerprint)
                raise UploadFailed(f"{source.path} changed while it was uploaded: run the same command again.")
            damaged = await self._complete(video_id, digests)
            if damaged is None:
                return video_id
            state = _without(await self._state(video_id), damaged)
        raise UploadFailed(
            f"{source.path.name}: some parts do not arrive intact, even when sent {ROUNDS} times; try again later."
        )

    async def wait(self, source: Source, video_id: str) -> Json:
        """The video once it plays. Raises UploadFailed when it never will."""
        while True:
            video = await self._patiently(lambda: self._origin.json("GET", f"/api/v1/videos/{video_id}"))
            if video["status"] == "ready":
                self._begun.forget(source.fingerprint(self._origin.api))
                return video
            if video["status"] == "failed":
                self._begun.forget(source.fingerprint(self._origin.api))
                failure = video["failure"] or {"kind": "unknown", "detail": "no reason was recorded"}
                why = f"({failure['kind']}): {failure['detail']}"
                raise UploadFailed(f"{source.path.name} was uploaded but cannot be played {why}")
            self._progress.processing(video["progress"], _rungs_in_work(video))
            await asyncio.sleep(POLL_S)

    def finished(self, source: Source) -> None:
        """Nobody waits for the video: uploading the same file again is a new video from now on."""
        self._begun.forget(source.fingerprint(self._origin.api))

    async def _begin(self, source: Source, fingerprint: Fingerprint) -> tuple[str, Json]:
        begun = self._begun.recall(fingerprint)
        if begun.video_id is not None:
            try:
                state = await self._origin.json("GET", f"/api/v1/videos/{begun.video_id}/upload")
                self._progress.note(f"{source.path.name}: resuming video {begun.video_id}")
                return begun.video_id, state
            except OriginRefused as refused:
                if refused.status != 404:
                    raise
                # Collected meanwhile, or another origin under the same address.
                self._begun.forget(fingerprint)
                begun = self._begun.recall(fingerprint)
        said = {
            "title": source.title,
            "filename": printable(source.path.name)[-255:],
            "size": source.size_bytes,
            "content_type": mimetypes.guess_type(source.path.name)[0] or "application/octet-stream",
        }
        answer = await self._origin.json("POST", "/api/v1/videos", json=said, headers={"Idempotency-Key": begun.key})
        self._begun.note(fingerprint, Begun(begun.key, answer["video_id"]))
        return answer["video_id"], answer["upload"]

    async def _state(self, video_id: str) -> Json:
        return await self._patiently(lambda: self._origin.json("GET", f"/api/v1/videos/{video_id}/upload"))

    async def _send_missing(self, source: Source, video_id: str, state: Json, digests: dict[int, str]) -> None:
        """Sends what has not arrived, a few parts at a time; gives up at the first that cannot be sent.

        `digests` gets the SHA-256 of each part that the origin cannot have checked yet.
        """
        urls = PartUrls(state, lambda: self._state(video_id))
        waiting = iter(head_and_index_first([part for part in state["parts"] if part["sha256"] is None]))

        async def send_in_turn() -> None:
            for part in waiting:
                number, offset = part["number"], (part["number"] - 1) * state["part_size"]
                body = await asyncio.to_thread(source.read, offset, part["size"])
                digest = await asyncio.to_thread(hashlib.sha256, body)
                digests[number] = digest.hexdigest()
                if not part["arrived"]:
                    await self._send_part(video_id, number, body, digest.digest(), urls)

        senders = [asyncio.create_task(send_in_turn()) for _ in range(PARALLEL_PARTS)]
        try:
            await asyncio.gather(*senders)
        finally:
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    async def _send_part(self, video_id: str, number: int, body: bytes, sha256: bytes, urls: PartUrls) -> None:
        async def put() -> None:
            count = 0

            async def chunks() -> AsyncIterator[bytes]:
                nonlocal count
                for first in range(0, len(body), CHUNK_BYTES):
                    chunk = body[first : first + CHUNK_BYTES]
                    yield chunk
                    count += len(chunk)
                    self._progress.sent(len(chunk))

            url, headers = urls.of(number), {"Content-Digest": f"sha-256=:{_base64(sha256)}:"}  # RFC 9530
            if url is None:
                url, headers = await self._signed(video_id, number, body, sha256)
            try:
                await self._origin.put_part(url, chunks(), len(body), headers)
            except (OriginUnreachable, OriginRefused) as error:
                self._progress.sent(-count)
                if isinstance(error, OriginRefused) and error.kind == "url-expired":
                    await urls.renew(url, number)
                    raise OriginUnreachable(str(error)) from error
                raise

        try:
            await self._patiently(put)
        except OriginRefused as refused:
            if refused.kind not in ("part-hash-mismatch", "part-cut-off", "upload-unknown", REFUSED_BY_STORE):
                raise
            # Left for the next round, which asks anew what is missing.
            self._progress.note(f"part {number} was refused and will be sent again: {refused}")

    async def _signed(self, video_id: str, number: int, body: bytes, sha256: bytes) -> tuple[str, dict[str, str]]:
        """URL and headers for exactly these bytes: a store that is not the origin's own checks their MD5."""
        md5 = await asyncio.to_thread(hashlib.md5, body, usedforsecurity=False)
        said = {"parts": [{"number": number, "sha256": sha256.hex(), "md5": md5.hexdigest()}]}
        answer = await self._origin.json("POST", f"/api/v1/videos/{video_id}/upload/parts", json=said)
        (part,) = answer["parts"]
        return part["url"], part["headers"]

    async def _complete(self, video_id: str, digests: dict[int, str]) -> list[int] | None:
        """None when the origin has acknowledged the file; else the parts that have to be sent again although they arrived."""
        said = {"parts": [{"number": number, "sha256": digests[number]} for number in sorted(digests)]}
        try:
            await self._patiently(lambda: self._origin.json("POST", f"/api/v1/videos/{video_id}/upload/complete", json=said))
        except OriginRefused as refused:
            if refused.kind not in ("parts-missing", "parts-damaged"):
                raise
            self._progress.note(str(refused))
            return list(refused.facts.get("damaged", []))
        return None

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Asks again while the origin is away or overloaded, for PATIENCE_S."""
        until = time.monotonic() + PATIENCE_S
        pause_s = FIRST_PAUSE_S
        told = False
        while True:
            try:
                return await ask()
            except (OriginUnreachable, OriginRefused) as error:
                if (isinstance(error, OriginRefused) and not error.is_passing) or time.monotonic() > until:
                    raise
                if not told:
                    self._progress.note(f"waiting for the origin: {error}")
                    told = True
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


class PartUrls:
    """The parts' URLs, renewed together when one has expired."""

    def __init__(self, state: Json, ask: Callable[[], Awaitable[Json]]) -> None:
        self._urls = _urls(state)
        self._ask = ask
        self._renewing = asyncio.Lock()

    def of(self, number: int) -> str | None:
        """None when the part's digests have to be said first."""
        return self._urls[number]

    async def renew(self, expired: str, number: int) -> None:
        """Asks once, however many parts find their URL expired at the same time."""
        async with self._renewing:
            if self._urls[number] == expired:
                self._urls = _urls(await self._ask())


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode("ascii")


def _urls(state: Json) -> dict[int, str | None]:
    return {part["number"]: part["url"] for part in state["parts"]}


def head_and_index_first(parts: list[Json]) -> list[Json]:
    """The first and the last part say what is in most files: the origin begins to make what viewers see first of them."""
    return [parts[0], parts[-1], *parts[1:-1]] if len(parts) > 2 else parts


def _without(state: Json, damaged: list[int]) -> Json:
    """The upload's state, with these parts as if they had not arrived."""
    parts = [{**part, "arrived": False, "sha256": None} if part["number"] in damaged else part for part in state["parts"]]
    return {**state, "parts": parts}


def _bytes_arrived(state: Json) -> int:
    return sum(part["size"] for part in state["parts"] if part["arrived"])


def _rungs_in_work(video: Json) -> str:
    """`360p 70 %, 720p 0 %`."""
    shown = [f"{one['rung']} {one['progress']:.0%}" for one in video["renditions"] if one["state"] != "ready"]
    return ", ".join(shown) or "probing"
