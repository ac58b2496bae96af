"""The origin's API as viewers use it: which videos there are, and how to play one."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlsplit

import aiohttp

from loadtest.failures import Cause, RequestFailed, cause_of_status
from loadtest.fetching import require_allowed
from loadtest.measures import Measures

TIMEOUT: Final = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True)
class Playback:
    """`hls_url` is the signed master playlist under the logical host."""

    hls_url: str


class OriginApi:
    def __init__(self, session: aiohttp.ClientSession, base_url: str, measures: Measures, *, allow_remote: bool) -> None:
        require_allowed(urlsplit(base_url).hostname or "", allow_remote)
        self._session = session
        self._base_url = base_url.rstrip("/")
        self._measures = measures

    async def ready_videos(self, newest: int) -> list[str]:
        """Ids of ready videos, newest first. Raises RequestFailed."""
        ready: list[str] = []
        cursor = ""
        while len(ready) < newest:
            page = await self._get(f"/api/v1/videos?limit=100{cursor}")
            try:
                ready += [video["video_id"] for video in page["videos"] if video["status"] == "ready"]
                following = page["next_cursor"]
            except (KeyError, TypeError) as error:
                raise RequestFailed(Cause.BAD_ANSWER, f"the list of videos lacks {error}") from error
            if not following:
                break
            cursor = f"&cursor={quote(following, safe='')}"
        return ready[:newest]

    async def playback(self, video_id: str) -> Playback:
        """How to play the video now, by name. Raises RequestFailed."""
        answer = await self._get(f"/api/v1/videos/{video_id}/playback?via=dns")
        if answer.get("status") != "playable" or not isinstance(answer.get("hls"), str):
            reason = answer.get("reason") or answer.get("status")
            raise RequestFailed(Cause.NOT_PLAYABLE, f"video {video_id} is not playable: {reason}", again=False)
        return Playback(answer["hls"])

    async def _get(self, path: str) -> dict[str, Any]:
        started = time.monotonic()
        try:
            async with self._session.get(self._base_url + path, timeout=TIMEOUT, allow_redirects=False) as answer:
                body = await answer.read()
                if answer.status != 200:
                    raise RequestFailed(cause_of_status(answer.status), f"{answer.status} for {path}: {_detail(body)}")
                document = json.loads(body)
        except TimeoutError as error:
            raise RequestFailed(Cause.TIMEOUT, f"{path} of the API took more than {TIMEOUT.total:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise RequestFailed(Cause.CONNECT, f"no API answers at {self._base_url}: start it with `headwater up`") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RequestFailed(Cause.CUT_OFF, f"{path} of the API: {error!r}") from error
        except ValueError as error:
            raise RequestFailed(Cause.BAD_ANSWER, f"{path} of the API is no JSON") from error
        if not isinstance(document, dict):
            raise RequestFailed(Cause.BAD_ANSWER, f"{path} of the API is no JSON object")
        self._measures.api.record(time.monotonic() - started)
        return document


def _detail(body: bytes) -> str:
    """What a problem document (RFC 9457) says."""
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return "no detail"
