"""Google's resumable upload protocol as the YouTube Data API has it: `videos.insert` of its client libraries works unmodified.

    POST   /upload/youtube/v3/videos?uploadType=resumable&part=snippet,status     Location: the session
    PUT    the session, Content-Range                                             308 with Range, at the end 200 with the video
    DELETE the session

The session's URL is a permission by itself, as at Google: clients send no token there. It holds 256 random bits, of which the
catalogue has the digest, and ends with the token that began it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headwater.rules.names import InvalidName, parse_video_id
from headwater.runtime.problems import Problem
from origin.catalogue.schema import Dialect
from origin.objects.endpoint import StillPermits
from origin.uploads.beginning import Wanted
from origin.uploads.creator import Creator
from origin.uploads.dialects.bodies import NO_STORE, PREFLIGHT, Permit, body_of, interrupted, route, wrong_field
from origin.uploads.dialects.contentrange import Sent, parse_content_range, stored_range
from origin.uploads.dialects.naming import video_maker
from origin.uploads.refusal import Refusal, UploadRefused
from origin.uploads.streams import Append, Interrupted, Streams, StreamState

PATH: Final = "/upload/youtube/v3/videos"
PATHS: Final = (PATH, "/resumable/upload/youtube/v3/videos")
MAX_JSON_BYTES: Final = 64 * 1024


class Snippet(BaseModel):
    """What we keep of YouTube's `snippet`; the rest is read and dropped."""

    model_config = ConfigDict(extra="ignore")

    title: str = Field("", max_length=1000)
    description: str = Field("", max_length=20_000)
    tags: list[str] = Field([], max_length=500)


class VideoResource(BaseModel):
    model_config = ConfigDict(extra="ignore")

    snippet: Snippet = Snippet()


class YouTube:
    """`base_url` is the one under which clients reach the API."""

    def __init__(self, streams: Streams, permit: Permit, still: StillPermits, base_url: str) -> None:
        self._streams = streams
        self._permit = permit
        self._still = still
        self._base_url = base_url.rstrip("/")

    def routes(self) -> list[web.RouteDef]:
        return [
            one
            for path in PATHS
            for one in (
                route("POST", path, self.create),
                route("PUT", path, self.put),
                web.delete(path, self.cancel),
                web.options(path, self.options),
            )
        ]

    async def options(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=PREFLIGHT)

    async def create(self, request: web.Request) -> web.Response:
        creator = await self._permit(request)
        if (kind := request.query.get("uploadType", request.headers.get("X-Goog-Upload-Protocol"))) != "resumable":
            detail = f"uploadType=resumable was expected, not {kind}; with Google's library: MediaFileUpload(…, resumable=True)"
            raise Problem(400, "upload-type", "Resumable upload expected", detail)
        said = await _resource(request)
        size = _length(request)
        secret = secrets.token_urlsafe(32)
        snippet = said.snippet
        video = video_maker(
            size,
            title=snippet.title,
            description=snippet.description,
            tags=snippet.tags,
            filename=snippet.title,
            content_type=request.headers.get("X-Upload-Content-Type"),
        )
        kept = {"session_sha256": _digest(secret), "token_id": creator.token_id, "snippet": snippet.model_dump()}
        state = await self._streams.begin(creator, Wanted(video, Dialect.YOUTUBE, said=json.dumps(kept)))
        location = f"{self._base_url}{PATH}?uploadType=resumable&upload_id={state.video_id}.{secret}"
        headers = {"Location": location, "X-GUploader-UploadID": state.video_id, "Headwater-Video": state.video_id, **NO_STORE}
        return web.Response(status=200, headers=headers)

    async def put(self, request: web.Request) -> web.Response:
        creator, state = await self._session(request)
        sent = _sent(request)
        if state.finished:
            return _video(state)
        if sent.first is None and state.offset and not state.size_bytes and sent.size == state.offset:
            # The size of a file whose end nobody knew before it had been sent: there is no byte left to send it with.
            sent = Sent(state.offset, state.offset - 1, sent.size)
        if sent.first is None:
            return _incomplete(request, state.offset)
        already = state.offset - sent.first
        if not 0 <= already <= sent.length:
            # A gap, or only bytes that are stored: the client learns where to go on, as Google has it.
            return _incomplete(request, state.offset)
        body = _after(body_of(request), already)
        append = Append(state.offset, body, sent.length - already, sent.size, last=sent.ends_the_file)
        try:
            state = await self._streams.append(creator, state.video_id, append)
        except Interrupted as error:
            raise interrupted(error) from error
        return _video(state) if state.finished else _incomplete(request, state.offset)

    async def cancel(self, request: web.Request) -> web.Response:
        creator, state = await self._session(request)
        await self._streams.discard(creator, state.video_id)
        return web.Response(status=204, headers=NO_STORE)

    async def _session(self, request: web.Request) -> tuple[Creator, StreamState]:
        """Whoever has the session's URL acts for its creator, while the token holds that began it.

        Raises UploadRefused for a URL that is none, Problem for a token that was revoked or has expired.
        """
        text, _, secret = request.query.get("upload_id", "").partition(".")
        try:
            video_id = parse_video_id(text)
        except InvalidName:
            raise _no_session() from None
        upload = await self._streams.upload(Creator(None, manages=True), video_id)
        kept = json.loads(upload.said or "{}")
        expected = str(kept.get("session_sha256", ""))
        if upload.dialect is not Dialect.YOUTUBE or not hmac.compare_digest(_digest(secret), expected):
            raise _no_session()
        await self._still(kept.get("token_id"))
        creator = Creator(upload.creator, manages=False)
        return creator, await self._streams.state(creator, video_id)


def _no_session() -> UploadRefused:
    return UploadRefused(
        Refusal.NO_SUCH_VIDEO, "this upload session is not known; begin a new one, and use its Location as it is"
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


async def _resource(request: web.Request) -> VideoResource:
    body = await request.read() if (request.content_length or 0) <= MAX_JSON_BYTES else b"?"
    if not body.strip():
        return VideoResource()
    try:
        return VideoResource.model_validate_json(body)
    except ValidationError as error:
        detail = f"a video resource in JSON was expected, with `snippet`: {error.errors()[0]['msg']}"
        raise Problem(400, "not-json", "JSON expected", detail) from error


def _length(request: web.Request) -> int:
    """0 while it is not known."""
    text = request.headers.get("X-Upload-Content-Length", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise wrong_field("X-Upload-Content-Length", "the file's size in bytes")
    if text and int(text) == 0:
        raise UploadRefused(Refusal.EMPTY, "the file is empty; choose a file that holds a video")
    return int(text or 0)


def _sent(request: web.Request) -> Sent:
    """A body without Content-Range is the whole file."""
    if (text := request.headers.get("Content-Range")) is not None:
        try:
            return parse_content_range(text)
        except ValueError as error:
            raise wrong_field("Content-Range", str(error)) from error
    if not request.content_length:
        raise wrong_field("Content-Length", "the size of the whole file, or Content-Range,")
    return Sent(0, request.content_length - 1, request.content_length)


async def _after(chunks: AsyncIterator[bytes], skipped: int) -> AsyncIterator[bytes]:
    """Without the first bytes, which are stored already."""
    async for chunk in chunks:
        useful = chunk[skipped:]
        skipped = max(0, skipped - len(chunk))
        if useful:
            yield useful


def _incomplete(request: web.Request, offset: int) -> web.Response:
    """308; for clients that take this for a redirect, such as Google's for Go, the 200 that they ask for instead."""
    headers = {**stored_range(offset), **NO_STORE}
    if request.headers.get("X-GUploader-No-308", "").lower() == "yes":
        return web.Response(status=200, headers={**headers, "X-HTTP-Status-Code-Override": "308"})
    return web.Response(status=308, headers=headers)


def _video(state: StreamState) -> web.Response:
    """The video as the YouTube Data API has it, as far as it is known here."""
    snippet = json.loads(state.upload.said or "{}").get("snippet", {})
    body = {
        "kind": "youtube#video",
        "id": state.video_id,
        "snippet": snippet,
        "status": {"uploadStatus": "uploaded", "privacyStatus": "public"},
    }
    return web.json_response(body, headers={**NO_STORE, "Headwater-Video": state.video_id})
