"""`DELETE /api/v1/videos/{id}`, and what is said of a video that is gone."""

from __future__ import annotations

import asyncio

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.rules.names import VideoId
from headwater.runtime.problems import Problem
from origin.api.permission import Permission
from origin.api.requests import no_such_video, video_id_in
from origin.catalogue.deletions import find_deletion
from origin.removal.deleting import Deleting


class DeletingApi:
    """`began` is set after each deletion, so that it is carried out at once."""

    def __init__(self, deleting: Deleting, permission: Permission, began: asyncio.Event) -> None:
        self._deleting = deleting
        self._permission = permission
        self._began = began

    def routes(self) -> list[web.RouteDef]:
        return [web.delete("/api/v1/videos/{video_id}", self.delete)]

    async def delete(self, request: web.Request) -> web.Response:
        """From the answer on nobody is told where the video plays; its objects, and what caches have of them, follow."""
        creator = await self._permission.creator(request)
        await self._deleting.delete(creator, video_id_in(request))
        self._began.set()
        return web.Response(status=204, headers={"Cache-Control": "no-store"})


async def missing_video(connection: AsyncConnection, video_id: VideoId) -> Problem:
    """Why there is no such video: 410 for one that was deleted, 404 for one that never was."""
    if await find_deletion(connection, video_id) is not None:
        return Problem(410, "video-gone", "Video deleted", f"video {video_id} was deleted")
    return no_such_video(f"there is no video {video_id}")
