"""All dialects that arrive as a stream, for the API's application."""

from __future__ import annotations

from aiohttp import web

from origin.objects.endpoint import StillPermits
from origin.uploads.dialects.bodies import Permit
from origin.uploads.dialects.ietf import Ietf
from origin.uploads.dialects.tus import Tus
from origin.uploads.dialects.youtube import YouTube
from origin.uploads.streams import Streams


def dialect_routes(streams: Streams, permit: Permit, still: StillPermits, base_url: str) -> list[web.RouteDef]:
    """`base_url` is the one under which clients reach the API."""
    most = streams.limits.max_size
    return [
        *Tus(streams, permit, base_url, most).routes(),
        *YouTube(streams, permit, still, base_url).routes(),
        *Ietf(streams, permit, base_url, most, streams.clock).routes(),
    ]


def is_dialect(path: str) -> bool:
    return path.startswith(("/upload/", "/resumable/upload/"))
