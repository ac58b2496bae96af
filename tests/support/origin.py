"""The origin's API on a real socket over a real catalogue and real files, with a client that speaks its dialect."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine
from yarl import URL

from headwater.rules.apitokens import ApiToken
from headwater.runtime.httpsite import serve_app
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot
from origin.api.service import Stores, api_app, open_stores
from origin.catalogue.engine import open_catalogue
from origin.catalogue.ownertoken import ensure_creator_token
from origin.uploads.intake import Intake

MIB = 1024 * 1024


@dataclass(frozen=True)
class RunningApi:
    """What a story needs to look behind the API."""

    deployment: Deployment
    catalogue: AsyncEngine
    intake: Intake
    stores: Stores
    creator: Creator
    token: ApiToken


@asynccontextmanager
async def running_api(
    deployment: Deployment, *, clock: Callable[[], float] | None = None, snapshot: Snapshot | None = None
) -> AsyncIterator[RunningApi]:
    """The API without control: it serves by the config file, or by `snapshot`."""
    stores = await asyncio.to_thread(open_stores, deployment)
    seen = snapshot or Snapshot(version=1, deployment=deployment)
    async with open_catalogue(deployment) as catalogue:
        options = {"clock": clock} if clock else {}
        intake = Intake(catalogue, stores.parts, stores.masters, deployment.origin.uploads, **options)
        app = await asyncio.to_thread(api_app, catalogue, intake, stores, lambda: seen, structlog.get_logger())
        token = await ensure_creator_token(deployment)
        async with (
            serve_app(app, deployment.origin.api.listen, drain_s=0.2, linger_s=0.2),
            aiohttp.ClientSession(deployment.origin.api.listen.url, headers=bearer(token)) as session,
        ):
            yield RunningApi(deployment, catalogue, intake, stores, Creator(session), token)


def bearer(token: ApiToken) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.text}"}


def content_digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@dataclass(frozen=True)
class Answer:
    """A response, read whole."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def problem(self) -> str:
        """The stable word of a problem document, "" for other answers."""
        kind = self.body.get("type", "") if isinstance(self.body, dict) else ""
        return str(kind).removeprefix("urn:headwater:problem:")


class Creator:
    """Someone who uploads through the API by hand, one request at a time."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def ask(self, method: str, path: str | URL, **options: Any) -> Answer:
        async with self.session.request(method, path, **options) as response:
            body = await response.json(content_type=None) if "json" in response.content_type else await response.text()
            return Answer(response.status, body, dict(response.headers))

    async def begin(self, size: int, key: str | None = None, **said: Any) -> Answer:
        body = {"title": "A clip", "size": size, "content_type": "video/mp4", "filename": "clip.mp4", **said}
        return await self.ask("POST", "/api/v1/videos", json=body, headers={"Idempotency-Key": key} if key else {})

    async def put(self, part: dict[str, Any], body: bytes, **headers: str) -> Answer:
        said = part.get("headers") or {"Content-Digest": content_digest(body)}
        return await self.ask("PUT", part["url"], data=io.BytesIO(body), headers={**said, **headers})

    async def signed(self, video_id: str, number: int, body: bytes) -> dict[str, Any]:
        """The part with a URL for exactly this body."""
        digests = {"sha256": hashlib.sha256(body).hexdigest(), "md5": hashlib.md5(body).hexdigest()}
        answer = await self.ask(
            "POST", f"/api/v1/videos/{video_id}/upload/parts", json={"parts": [{"number": number, **digests}]}
        )
        assert answer.status == 200, answer
        [part] = answer.body["parts"]
        return dict(part)

    async def put_all(self, parts: Sequence[dict[str, Any]], content: bytes) -> None:
        """Every part of `content` that has not arrived."""
        offset = 0
        for part in parts:
            if not part["arrived"]:
                answer = await self.put(part, content[offset : offset + part["size"]])
                assert answer.status == 204, answer
            offset += part["size"]

    async def state(self, video_id: str) -> Answer:
        return await self.ask("GET", f"/api/v1/videos/{video_id}/upload")

    async def complete(self, video_id: str, **options: Any) -> Answer:
        return await self.ask("POST", f"/api/v1/videos/{video_id}/upload/complete", **options)

    async def upload(self, content: bytes, **said: Any) -> str:
        """The whole way; the video's id."""
        begun = await self.begin(len(content), **said)
        assert begun.status == 201, begun
        await self.put_all(begun.body["upload"]["parts"], content)
        completed = await self.complete(begun.body["video_id"])
        assert completed.status == 202, completed
        return str(begun.body["video_id"])
