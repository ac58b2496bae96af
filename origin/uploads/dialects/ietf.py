"""Resumable Uploads for HTTP, draft-ietf-httpbis-resumable-upload, interop version 8, over the ledger.

POST, PUT  /upload/resumable         Upload-Complete: ?1 (the whole file) or ?0; 104 with Location before the bytes are read
HEAD       /upload/resumable/{id}    Upload-Offset, Upload-Complete, Upload-Length, Upload-Limit
PATCH      /upload/resumable/{id}    application/partial-upload
DELETE     /upload/resumable/{id}
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from headwater.rules.names import InvalidName, VideoId, parse_video_id
from headwater.runtime.problems import Problem
from origin.catalogue.schema import Dialect
from origin.uploads.beginning import Wanted
from origin.uploads.creator import Creator
from origin.uploads.dialects import ietffields
from origin.uploads.dialects.bodies import (
    NO_STORE,
    PREFLIGHT,
    Permit,
    body_of,
    interrupted,
    route,
    send_interim,
    wrong_field,
)
from origin.uploads.dialects.naming import video_maker
from origin.uploads.refusal import Refusal, UploadRefused
from origin.uploads.streams import Append, Interrupted, Streams, StreamState

PATH: Final = "/upload/resumable"
PARTIAL: Final = "application/partial-upload"
RESUMPTION: Final = "104 Upload Resumption Supported"


class Ietf:
    """`base_url` is the one under which clients reach the API; `clock` gives Unix seconds."""

    def __init__(self, streams: Streams, permit: Permit, base_url: str, max_size_bytes: int, clock: Callable[[], float]) -> None:
        self._streams = streams
        self._permit = permit
        self._base_url = base_url.rstrip("/")
        self._max_size_bytes = max_size_bytes
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        upload = f"{PATH}/{{video_id}}"
        return [
            route("POST", PATH, self.create),
            route("PUT", PATH, self.create),
            web.options(PATH, self.options),
            web.options(upload, self.options),
            web.head(upload, self.offset),
            route("PATCH", upload, self.append),
            web.delete(upload, self.cancel),
        ]

    async def options(self, request: web.Request) -> web.Response:
        limit = {"Accept-Patch": PARTIAL, "Upload-Limit": ietffields.upload_limit(self._max_size_bytes)}
        return web.Response(status=204, headers={**limit, **PREFLIGHT})

    async def create(self, request: web.Request) -> web.Response:
        creator = await self._permit(request)
        complete = ietffields.boolean(request.headers.get("Upload-Complete"))
        last = complete is not False  # without the field it is an upload like any other, in one request
        size = self._size(request, 0, last)
        name = ietffields.filename(request.headers.get("Content-Disposition"))
        video = video_maker(
            size or 0,
            title=request.query.get("title"),
            filename=name,
            content_type=request.content_type if "Content-Type" in request.headers else None,
            description=request.query.get("description"),
        )
        state = await self._streams.begin(creator, Wanted(video, Dialect.IETF))
        location = {"Location": f"{self._base_url}{PATH}/{state.video_id}", "Headwater-Video": state.video_id}
        told = self._telling(request) if complete is not None else None
        if told is not None:
            await send_interim(request, RESUMPTION, {**_version(), **location, "Upload-Limit": self._limit(state)})
        append = Append(0, body_of(request), request.content_length, size, last=last, told=told)
        return self._answer(await self._appended(creator, state.video_id, append), location, created=True)

    async def offset(self, request: web.Request) -> web.Response:
        state = await self._streams.state(await self._permit(request), _video_id(request))
        length = {"Upload-Length": str(state.size_bytes)} if state.size_bytes else {}
        return web.Response(status=204, headers={**self._progress(state), **length})

    async def append(self, request: web.Request) -> web.Response:
        if request.content_type != PARTIAL:
            detail = f"the body is {request.content_type}; send it as {PARTIAL}"
            raise Problem(415, "not-a-partial-upload", "Partial upload expected", detail, headers={"Accept-Patch": PARTIAL})
        creator = await self._permit(request)
        offset = ietffields.integer(request.headers.get("Upload-Offset"))
        complete = ietffields.boolean(request.headers.get("Upload-Complete"))
        if offset is None:
            raise wrong_field("Upload-Offset", "the offset of the body's first byte")
        if complete is None:
            raise wrong_field("Upload-Complete", "?1 when the file ends with this body, ?0 otherwise,")
        size = self._size(request, offset, complete)
        append = Append(offset, body_of(request), request.content_length, size, last=complete, told=self._telling(request))
        return self._answer(await self._appended(creator, _video_id(request), append), {}, created=False)

    async def cancel(self, request: web.Request) -> web.Response:
        await self._streams.discard(await self._permit(request), _video_id(request))
        return web.Response(status=204, headers=NO_STORE)

    async def _appended(self, creator: Creator, video_id: VideoId, append: Append) -> StreamState:
        try:
            return await self._streams.append(creator, video_id, append)
        except Interrupted as error:
            raise interrupted(error) from error
        except UploadRefused as refused:
            raise _in_words_of_the_draft(refused, append.offset) from refused

    def _answer(self, state: StreamState, location: dict[str, str], *, created: bool) -> web.Response:
        """What the whole upload would have been answered with in one request; or how far it is."""
        headers = {**self._progress(state), **location}
        if not state.finished:
            return web.Response(status=201 if created else 204, headers=headers)
        headers["Location"] = f"{self._base_url}/api/v1/videos/{state.video_id}"
        headers["Headwater-Video"] = state.video_id
        body = {"video_id": state.video_id, "status": state.upload.state}
        return web.json_response(body, status=201, headers=headers)

    def _progress(self, state: StreamState) -> dict[str, str]:
        return {
            "Upload-Offset": str(state.offset),
            "Upload-Complete": "?1" if state.finished else "?0",
            "Upload-Limit": self._limit(state),
            **NO_STORE,
        }

    def _limit(self, state: StreamState) -> str:
        return ietffields.upload_limit(self._max_size_bytes, None if state.finished else state.expires_at - self._clock())

    def _size(self, request: web.Request, offset: int, last: bool) -> int | None:
        """The whole file's size, told outright or by the length of its last body; both must agree."""
        told = ietffields.integer(request.headers.get("Upload-Length"))
        ends = offset + request.content_length if last and request.content_length is not None else None
        if told is not None and ends is not None and told != ends:
            detail = f"Upload-Length says {told} bytes, offset and Content-Length say {ends}; they must agree"
            raise Problem(400, f"{ietffields.PROBLEMS}inconsistent-upload-length", "Inconsistent upload length", detail)
        size = told if told is not None else ends
        if size == 0:
            raise UploadRefused(Refusal.EMPTY, "the file is empty; choose a file that holds a video")
        return size

    def _telling(self, request: web.Request) -> Callable[[int], Awaitable[None]] | None:
        """Progress in interim responses, for clients that understand them: others would take the first for the last."""
        if request.headers.get("Upload-Draft-Interop-Version", "").strip() != ietffields.INTEROP_VERSION:
            return None

        async def tell(offset: int) -> None:
            await send_interim(request, RESUMPTION, {**_version(), "Upload-Offset": str(offset)})

        return tell


def _version() -> dict[str, str]:
    return {"Upload-Draft-Interop-Version": ietffields.INTEROP_VERSION}


def _video_id(request: web.Request) -> VideoId:
    try:
        return parse_video_id(request.match_info["video_id"])
    except InvalidName as error:
        raise UploadRefused(Refusal.NO_SUCH_VIDEO, str(error)) from error


def _in_words_of_the_draft(refused: UploadRefused, offset: int) -> Exception:
    match refused.refusal:
        case Refusal.OFFSET_DIFFERS:
            expected = refused.facts["offset"]
            headers = {"Upload-Offset": str(expected), "Upload-Complete": "?0"}
            members = {"expected-offset": expected, "provided-offset": offset}
            kind, title = f"{ietffields.PROBLEMS}mismatching-upload-offset", "Mismatching upload offset"
            return Problem(409, kind, title, refused.detail, headers=headers, **members)
        case Refusal.COMPLETED:
            return Problem(400, f"{ietffields.PROBLEMS}completed-upload", "Completed upload", refused.detail)
        case Refusal.SIZE_DIFFERS | Refusal.BEYOND_SIZE:
            return Problem(400, f"{ietffields.PROBLEMS}inconsistent-upload-length", "Inconsistent upload length", refused.detail)
        case _:
            return refused
