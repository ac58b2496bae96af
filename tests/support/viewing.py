"""A viewer of tests: what a player fetches, through any edge, by address or by our DNS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx
import m3u8

from headwater.settings.units import Address
from tests.support.lab import Lab


@dataclass(frozen=True)
class Fetched:
    """One answer; `path` is without the grant."""

    path: str
    response: httpx.Response

    @property
    def edge_status(self) -> str:
        """The edge's own member of Cache-Status, the last one: `fra-1; hit`."""
        return str(self.response.headers.get("cache-status", "")).rpartition(",")[2].strip()

    @property
    def is_hit(self) -> bool:
        return "; hit" in self.edge_status


def at_edge(url: str, edge: Address) -> str:
    """The same object under the same grant at another edge."""
    return urlunsplit(urlsplit(url)._replace(netloc=str(edge)))


def path_of(url: str) -> str:
    """`/videos/…` of a URL in path form."""
    return "/" + urlsplit(url).path.lstrip("/").partition("/")[2]


class Viewer:
    """Fetches through one edge. With `host`, connections go to `edge` while requests name the host, as after DNS."""

    def __init__(self, lab: Lab, edge: Address, host: str | None = None) -> None:
        self._http = lab.http
        self._edge = edge
        self._host = host

    async def get(self, url: str, **headers: str) -> Fetched:
        if self._host is not None:
            headers["Host"] = self._host
        response = await self._http.get(
            at_edge(url, self._edge), headers={name.replace("_", "-"): it for name, it in headers.items()}
        )
        return Fetched(path_of(url), response)

    async def urls_of(self, master_url: str) -> list[str]:
        """Every URL of an HLS stream: master, playlists, inits and segments of all renditions."""
        master = m3u8.loads((await self._good(master_url)).text, uri=master_url)
        playlists = [item.uri for item in master.playlists] + [item.uri for item in master.media if item.uri]
        urls = [master_url]
        for playlist_url in (urljoin(master_url, uri) for uri in dict.fromkeys(playlists)):
            playlist = m3u8.loads((await self._good(playlist_url)).text, uri=playlist_url)
            urls += [playlist_url, *(urljoin(playlist_url, uri) for uri in _media(playlist))]
        return urls

    async def play(self, master_url: str) -> list[Fetched]:
        """Fetches all of an HLS stream once; every answer is a 200 with the length that it names."""
        fetched = [await self.get(url) for url in await self.urls_of(master_url)]
        for one in fetched:
            assert one.response.status_code == 200, (one.path, one.response.text)
            assert len(one.response.content) == int(one.response.headers["content-length"])
        return fetched

    async def _good(self, url: str) -> httpx.Response:
        response = (await self.get(url)).response
        assert response.status_code == 200, response.text
        return response


def _media(playlist: m3u8.M3U8) -> Iterator[str]:
    for section in playlist.segment_map:
        yield str(section.uri)
    for segment in playlist.segments:
        yield str(segment.uri)


def media_only(fetched: list[Fetched]) -> list[Fetched]:
    """Inits and segments: what is immutable."""
    return [one for one in fetched if one.path.endswith((".m4s", "init.mp4"))]
