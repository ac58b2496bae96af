"""The creator's requests: begin an upload, ask what arrived, complete it."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from origin.api.answers import upload_answer
from origin.api.permission import Permission
from origin.api.requests import idempotency_key, read_digests, read_new_video, read_part_digests, video_id_in
from origin.uploads.beginning import Wanted
from origin.uploads.intake import Intake

PRIVATE: Final = {"Cache-Control": "no-store"}


class Uploading:
    """Each request shows a token with the scope `upload`; the parts' own URLs are signed instead."""

    def __init__(self, intake: Intake, permission: Permission) -> None:
        self._intake = intake
        self._permission = permission

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/v1/videos", self.begin),
            web.get("/api/v1/videos/{video_id}/upload", self.state),
            web.delete("/api/v1/videos/{video_id}/upload", self.discard),
            web.post("/api/v1/videos/{video_id}/upload/parts", self.sign),
            web.post("/api/v1/videos/{video_id}/upload/complete", self.complete),
        ]

    async def begin(self, request: web.Request) -> web.Response:
        creator = await self._permission.creator(request)
        said = await read_new_video(request)
        state = await self._intake.begin(creator, Wanted(said.video, part_size=said.part_size), idempotency_key(request, said))
        body = {"video_id": state.video_id, "upload": upload_answer(state)}
        headers = {**PRIVATE, "Location": f"/api/v1/videos/{state.video_id}"}
        return web.json_response(body, status=201, headers=headers)

    async def state(self, request: web.Request) -> web.Response:
        creator = await self._permission.creator(request)
        return web.json_response(upload_answer(await self._intake.state(creator, video_id_in(request))), headers=PRIVATE)

    async def discard(self, request: web.Request) -> web.Response:
        creator = await self._permission.creator(request)
        await self._intake.discard(creator, video_id_in(request))
        return web.Response(status=204, headers=PRIVATE)

    async def sign(self, request: web.Request) -> web.Response:
        """URLs for the parts whose digests are said: a store that checks Content-MD5 has it signed."""
        creator = await self._permission.creator(request)
        said = await read_part_digests(request)
        return web.json_response(upload_answer(await self._intake.sign(creator, video_id_in(request), said)), headers=PRIVATE)

    async def complete(self, request: web.Request) -> web.Response:
        creator = await self._permission.creator(request)
        video_id = video_id_in(request)
        status = await self._intake.complete(creator, video_id, await read_digests(request))
        return web.json_response({"video_id": video_id, "status": status}, status=202, headers=PRIVATE)
