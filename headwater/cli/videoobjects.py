"""All objects of a video, as its HLS manifests name them: what a player could ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urljoin

import httpx

TIMEOUT_S = 15.0
# Not SERVER-URI: a steering manifest is made for each viewer and lies nowhere.
_URI = re.compile(r'[:,]URI="([^"]+)"')
_CUE = re.compile(r"^(\S+)#xywh=", re.MULTILINE)


class NoObjects(Exception):
    """The video has no manifest that could be read. The message says why."""


def objects_of_video(api: str, video_id: str) -> list[str]:
    """Signed URLs of manifests, playlists, init sections, segments and pictures. Raises NoObjects or httpx.HTTPError."""
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        answer = client.get(f"{api}/api/v1/videos/{video_id}/playback", params={"via": "address"})
        if answer.status_code != 200:
            raise NoObjects(answer.json().get("detail", answer.text[:200]))
        playback = answer.json()
        if playback["hls"] is None:
            raise NoObjects(playback.get("reason") or f"it is {playback['status']}")
        found = [playback[name] for name in ("hls", "dash", "poster", "storyboard") if playback.get(name)]
        for playlist in references(_text(client, playback["hls"]), playback["hls"]):
            found.append(playlist)
            if playlist.partition("?")[0].endswith(".m3u8"):
                found.extend(references(_text(client, playlist), playlist))
        if playback.get("storyboard"):
            found.extend(pictures(_text(client, playback["storyboard"]), playback["storyboard"]))
    return list(dict.fromkeys(found))


def pictures(storyboard: str, base: str) -> Iterable[str]:
    """The URLs of the pictures that a storyboard's cues point into."""
    return [urljoin(base, name) for name in dict.fromkeys(_CUE.findall(storyboard))]


def references(manifest: str, base: str) -> Iterable[str]:
    """The URLs that an HLS manifest names, in lines and in URI attributes (RFC 8216 section 4)."""
    for line in manifest.splitlines():
        if line.startswith("#"):
            for uri in _URI.findall(line):
                yield urljoin(base, uri)
        elif line.strip():
            yield urljoin(base, line.strip())


def _text(client: httpx.Client, url: str) -> str:
    answer = client.get(url)
    if answer.status_code != 200:
        raise NoObjects(f"{url} answers {answer.status_code}")
    return answer.text
