"""tus 1.0.0 over the ledger (https://tus.io/protocols/resumable-upload): Uppy, tus-js-client, tuspy and others work unmodified.

POST    /upload/tus         creation, with-upload, defer-length, concatenation
HEAD    /upload/tus/{id}    the offset
PATCH   /upload/tus/{id}    append
DELETE  /upload/tus/{id}    termination
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, TypeVar

from aiohttp import web

from headwater.rules.httpdate import format_http_date
from headwater.rules.names import InvalidName, VideoId, parse_video_id
from headwater.runtime.problems import Problem
from origin.catalogue.schema import Dialect
from origin.uploads.beginning import Wanted
from origin.uploads.creator import Creator
from origin.uploads.dialects import tusfields
from origin.uploads.dialects.bodies import NO_STORE, PREFLIGHT, Permit, body_of, interrupted, route, wrong_field
from origin.uploads.dialects.naming import video_maker
from origin.uploads.refusal import Refusal, UploadRefused
from origin.uploads.streams import Append, Interrupted, Streams, StreamState

PATH: Final = "/upload/tus"
OFFSET_STREAM: Final = "application/offset+octet-stream"
T = TypeVar("T")


class Tus:
    """`base_url` is the one under which clients reach the API."""

    def __init__(self, streams: Streams, permit: Permit, base_url: str, max_size_bytes: int) -> None:
        self._streams = streams
        self._permit = permit
        self._base_url = base_url.rstrip("/")
        self._max_size_bytes = max_size_bytes

    def routes(self) -> list[web.RouteDef]:
        routes = []
        for path in (PATH, f"{PATH}/"):
            routes += [route("POST", path, self.create), web.options(path, self.options)]
        upload = f"{PATH}/{{video_id}}"
        return [
            *routes,
            web.options(upload, self.options),
            web.head(upload, self.offset),
            route("PATCH", upload, self.append),
            route("POST", upload, self.overridden),
            web.delete(upload, self.terminate),
        ]

    async def options(self, request: web.Request) -> web.Response:
        told = {
            "Tus-Resumable": tusfields.VERSION,
            "Tus-Version": tusfields.VERSION,
            "Tus-Extension": tusfields.EXTENSIONS,
            "Tus-Max-Size": str(self._max_size_bytes),
            "Tus-Checksum-Algorithm": ",".join(tusfields.ALGORITHMS),
        }
        return web.Response(status=204, headers={**told, **PREFLIGHT})

    async def create(self, request: web.Request) -> web.Response:
        _check_version(request)
        creator = await self._permit(request)
        concat = _read(request, "Upload-Concat", tusfields.concat)
        said = request.headers.get("Upload-Metadata", "")
        words = _read(request, "Upload-Metadata", lambda text: tusfields.metadata(text or ""))
        size = await self._streams.joined_size(creator, list(concat.pieces)) if concat.pieces else _length(request)
        video = video_maker(
            size,
            title=tusfields.first_of(words, "title", "name"),
            filename=tusfields.first_of(words, "filename", "name"),
            content_type=tusfields.first_of(words, "filetype", "type", "contentType"),
            description=tusfields.first_of(words, "description", "caption"),
        )
        checksum = _read(request, "Upload-Checksum", tusfields.checksum)
        concat_said = request.headers.get("Upload-Concat", "")
        wanted = Wanted(video, Dialect.TUS, concat.form, said=json.dumps({"metadata": said, "concat": concat_said}))
        if concat.pieces:
            state = await self._streams.join(creator, wanted, list(concat.pieces))
        else:
            state = await self._streams.begin(creator, wanted)
            if request.content_type == OFFSET_STREAM and request.can_read_body:
                append = Append(0, body_of(request), request.content_length, checksum=checksum)
                try:
                    state = await self._appended(request, creator, state.video_id, append)
                except UploadRefused:
                    await self._streams.discard(creator, state.video_id)  # its client was not told where it is
                    raise
        location = f"{self._base_url}{PATH}/{state.video_id}"
        headers = {**_progress(state), "Location": location, "Headwater-Video": state.video_id}
        return web.Response(status=201, headers=headers)

    async def offset(self, request: web.Request) -> web.Response:
        _check_version(request)
        state = await self._streams.state(await self._permit(request), _video_id(request))
        known = {"Upload-Length": str(state.size_bytes)} if state.size_bytes else {"Upload-Defer-Length": "1"}
        said = json.loads(state.upload.said or "{}")
        told = {"Upload-Metadata": said.get("metadata"), "Upload-Concat": said.get("concat")}
        headers = {**_progress(state), **known, **{name: text for name, text in told.items() if text}}
        return web.Response(status=200, headers=headers)

    async def append(self, request: web.Request) -> web.Response:
        _check_version(request)
        if request.content_type != OFFSET_STREAM:
            detail = f"the body is {request.content_type}; send it as {OFFSET_STREAM}"
            raise Problem(415, "not-an-offset-stream", "Offset stream expected", detail)
        creator = await self._permit(request)
        offset = _read(request, "Upload-Offset", tusfields.number)
        size = _read(request, "Upload-Length", tusfields.number) if "Upload-Length" in request.headers else None
        checksum = _read(request, "Upload-Checksum", tusfields.checksum)
        append = Append(offset, body_of(request), request.content_length, size, checksum=checksum)
        state = await self._appended(request, creator, _video_id(request), append)
        return web.Response(status=204, headers=_progress(state))

    async def overridden(self, request: web.Request) -> web.Response:
        """For clients behind proxies that let no PATCH, HEAD or DELETE through."""
        match request.headers.get("X-HTTP-Method-Override", "").upper():
            case "PATCH":
                return await self.append(request)
            case "DELETE":
                return await self.terminate(request)
            case "HEAD":
                return await self.offset(request)
            case other:
                raise Problem(
                    405, "method-not-allowed", "Method not allowed", f"POST here needs X-HTTP-Method-Override, not {other!r}"
                )

    async def terminate(self, request: web.Request) -> web.Response:
        _check_version(request)
        await self._streams.discard(await self._permit(request), _video_id(request))
        return web.Response(status=204, headers={"Tus-Resumable": tusfields.VERSION})

    async def _appended(self, request: web.Request, creator: Creator, video_id: VideoId, append: Append) -> StreamState:
        try:
            return await self._streams.append(creator, video_id, append)
        except Interrupted as error:
            raise interrupted(error) from error


def _progress(state: StreamState) -> dict[str, str]:
    expires = {} if state.finished else {"Upload-Expires": format_http_date(state.expires_at)}
    return {"Tus-Resumable": tusfields.VERSION, "Upload-Offset": str(state.offset), **expires, **NO_STORE}


def _check_version(request: web.Request) -> None:
    if (said := request.headers.get("Tus-Resumable")) != tusfields.VERSION:
        detail = f"`Tus-Resumable: {tusfields.VERSION}` was expected, not {said!r}"
        raise Problem(412, "tus-version", "Other version of tus", detail, headers={"Tus-Version": tusfields.VERSION})


def _length(request: web.Request) -> int:
    """0 where the client tells it later."""
    if "Upload-Length" in request.headers:
        length = _read(request, "Upload-Length", tusfields.number)
        if length == 0:
            raise UploadRefused(Refusal.EMPTY, "the file is empty (Upload-Length 0); choose a file that holds a video")
        return length
    if request.headers.get("Upload-Defer-Length") == "1":
        return 0
    raise wrong_field("Upload-Length", "the file's size in bytes, or `Upload-Defer-Length: 1` instead,")


def _video_id(request: web.Request) -> VideoId:
    try:
        return parse_video_id(request.match_info["video_id"])
    except InvalidName as error:
        raise UploadRefused(Refusal.NO_SUCH_VIDEO, str(error)) from error


def _read(request: web.Request, name: str, read: Callable[[str | None], T]) -> T:
    try:
        return read(request.headers.get(name))
    except ValueError as error:
        raise wrong_field(name, str(error)) from error
