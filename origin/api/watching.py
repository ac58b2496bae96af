"""The viewer's requests: list videos, look at one, ask where it plays, take its master manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.mediapath import MASTER_PLAYLIST, content_type_of, video_key
from headwater.rules.names import VideoId
from headwater.runtime.problems import Problem
from origin.api.answers import listed_video, playback_answer, video_answer
from origin.api.deleting import missing_video
from origin.api.playability import PlaybackStatus, Via, playability
from origin.api.playback import Playback, Route, Viewer
from origin.api.references import absolute_references
from origin.api.requests import decode_cursor, encode_cursor, invalid_fields, page_limit, video_id_in
from origin.catalogue.engine import reading
from origin.catalogue.videos import Position, Video, find_video, newest_videos
from origin.objects.interface import ObjectNotFound, ObjectStore

# Answers hold grants of their own for every viewer.
PRIVATE: Final = {"Cache-Control": "no-store"}
MAX_AVOIDED: Final = 64


class Watching:
    """`published` is the store of what the transcoder made; `seen` is told of each answer that says where a video plays."""

    def __init__(
        self, catalogue: AsyncEngine, playback: Playback, published: ObjectStore, seen: Callable[[VideoId], None]
    ) -> None:
        self._seen = seen
        self._catalogue = catalogue
        self._playback = playback
        self._published = published

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/videos", self.list),
            web.get("/api/v1/videos/{video_id}", self.show),
            web.get("/api/v1/videos/{video_id}/playback", self.play),
            web.get("/api/v1/videos/{video_id}/stream", self.stream),
        ]

    async def list(self, request: web.Request) -> web.Response:
        before = decode_cursor(request.query.get("cursor"))
        limit = page_limit(request.query.get("limit"))
        async with reading(self._catalogue) as connection:
            found = await newest_videos(connection, before, limit + 1)
        shown = found[:limit]
        routes = await self._routes(shown, self._viewer(request))
        last = shown[-1] if len(found) > limit else None
        body = {
            "videos": [listed_video(video, route) for video, route in zip(shown, routes, strict=True)],
            "next_cursor": encode_cursor(Position(last.created_at, last.id)) if last else None,
        }
        return web.json_response(body, headers=PRIVATE)

    async def show(self, request: web.Request) -> web.Response:
        video = await self._video(request)
        (route,) = await self._routes([video], self._viewer(request))
        return web.json_response(video_answer(video, route), headers=PRIVATE)

    async def play(self, request: web.Request) -> web.Response:
        video = await self._video(request)
        route = await self._playback.route(video, self._viewer(request))
        playable = playability(video)
        if playable.status is PlaybackStatus.PLAYABLE and "avoid" not in request.query:  # who avoids an edge is watching already
            self._seen(video.id)
        return web.json_response(playback_answer(video, playable, route), headers=PRIVATE)

    async def stream(self, request: web.Request) -> web.Response:
        """The master manifest's own text, its references absolute and signed."""
        video = await self._video(request)
        playable = playability(video)
        if playable.status is not PlaybackStatus.PLAYABLE:
            detail = f"video {video.id} does not play: {playable.reason}"
            raise Problem(409, "not-playable", "Not playable", detail, playability=playable.status)
        route = await self._playback.route(video, self._viewer(request))
        text = absolute_references(await self._master_playlist(video), route.urls.hls or "")
        return web.Response(body=text.encode(), headers={**PRIVATE, "Content-Type": content_type_of(MASTER_PLAYLIST)})

    async def _video(self, request: web.Request) -> Video:
        video_id = video_id_in(request)
        async with reading(self._catalogue) as connection:
            video = await find_video(connection, video_id)
            if video is None:
                raise await missing_video(connection, video_id)
        return video

    async def _routes(self, videos: Sequence[Video], viewer: Viewer) -> Sequence[Route | None]:
        """Routes for those that have something published; a video without needs no key to be shown."""
        published = [video for video in videos if video.has_poster or playability(video).status is PlaybackStatus.PLAYABLE]
        if not published:
            return [None] * len(videos)
        routes = await self._playback.routes(published, viewer)
        by_id = {video.id: route for video, route in zip(published, routes, strict=True)}
        return [by_id.get(video.id) for video in videos]

    async def _master_playlist(self, video: Video) -> str:
        try:
            return b"".join([chunk async for chunk in self._published.read(video_key(video.id, MASTER_PLAYLIST))]).decode()
        except ObjectNotFound as error:
            detail = f"the catalogue says that {video.id} is ready, but no tier has its master manifest; it has to be rebuilt"
            raise Problem(503, "manifest-missing", "Manifest missing", detail, headers={"Retry-After": "10"}) from error

    def _viewer(self, request: web.Request) -> Viewer:
        """Raises Problem for wishes that cannot be granted."""
        via, region = request.query.get("via"), request.query.get("region")
        avoid = frozenset(request.query.getall("avoid", [])[:MAX_AVOIDED])
        wrong = []
        if via is not None and via not in [*Via]:
            wrong.append(("via", f"one of {', '.join(Via)} was expected"))
        if region is not None and region not in self._playback.regions():
            wrong.append(("region", f"one of {', '.join(self._playback.regions())} was expected"))
        if wrong:
            raise invalid_fields(wrong)
        client = ip_address(request.remote) if request.remote else None
        return Viewer(client, Via(via) if via else None, region, avoid)
