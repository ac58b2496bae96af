"""Where clients PUT the parts of their uploads when objects are local files: no session, only the signed URL.

    PUT /objects/uploads/{upload_id}/{number}?size=&expires=&token=&signature=
    Content-Digest: sha-256=:base64:                                        (RFC 9530)

204 means that the part is on disk. Everything else is a problem document, and nothing is left of the body.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from typing import Final, TypeAlias

from aiohttp import web

from headwater.runtime.metrics import counter
from headwater.runtime.problems import Problem
from origin.objects.fileparts import FilePartStore, PartDigestWrong, PartSizeWrong, UploadNotBegun
from origin.objects.interface import DiskFull, ObjectStoreFailed
from origin.objects.partlinks import PATH_PREFIX, LinkRefused, PartLink, check_link
from origin.objects.parts import PartStore

STALL_S: Final = 60.0  # a client that sends nothing for this long has gone
WRITE_BYTES: Final = 512 * 1024
CORS: Final = {"Access-Control-Allow-Origin": "*"}
PREFLIGHT: Final = {
    **CORS,
    "Access-Control-Allow-Methods": "PUT",
    "Access-Control-Allow-Headers": "Content-Digest, Content-Type",
    "Access-Control-Max-Age": "86400",
}
# Raises Problem when the API token of this id, which the URL was given to, permits nothing any more.
StillPermits: TypeAlias = Callable[[str | None], Awaitable[None]]
_SHA256_MEMBER = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):\Z")


class PartOutcome(StrEnum):
    """How a PUT of a part ended; also the type of its problem and the metric's label."""

    STORED = "stored"
    URL_MALFORMED = "url-malformed"
    SIGNATURE_WRONG = "signature-wrong"
    URL_EXPIRED = "url-expired"
    DIGEST_MISSING = "content-digest-missing"
    DIGEST_MALFORMED = "content-digest-malformed"
    UPLOAD_UNKNOWN = "upload-unknown"
    TOO_LARGE = "part-too-large"
    TOO_SHORT = "part-too-short"
    HASH_MISMATCH = "part-hash-mismatch"
    STALLED = "part-stalled"
    CUT_OFF = "part-cut-off"
    DISK_FULL = "disk-full"
    STORE_FAILED = "store-failed"


_ANSWERS: Final = {
    PartOutcome.URL_MALFORMED: (403, "Part URL malformed"),
    PartOutcome.SIGNATURE_WRONG: (403, "Part URL signature wrong"),
    PartOutcome.URL_EXPIRED: (403, "Part URL expired"),
    PartOutcome.DIGEST_MISSING: (400, "Content-Digest missing"),
    PartOutcome.DIGEST_MALFORMED: (400, "Content-Digest malformed"),
    PartOutcome.UPLOAD_UNKNOWN: (404, "Upload unknown"),
    PartOutcome.TOO_LARGE: (413, "Part too large"),
    PartOutcome.TOO_SHORT: (422, "Part too short"),
    PartOutcome.HASH_MISMATCH: (422, "Part hash mismatch"),
    PartOutcome.STALLED: (408, "Part stalled"),
    PartOutcome.CUT_OFF: (400, "Part cut off"),
    PartOutcome.DISK_FULL: (507, "Disk full"),
    PartOutcome.STORE_FAILED: (503, "Store failed"),
}

PART_PUTS = counter(
    "headwater_origin_part_puts_total", "PUTs of upload parts at the local object store, by outcome.", ["outcome"]
)
PART_BYTES = counter("headwater_origin_part_bytes_total", "Bytes of upload parts stored by the local object store.")


async def every_token_holds(token_id: str | None) -> None:
    """StillPermits of whoever keeps no tokens."""


def part_routes(
    part_store: PartStore, clock: Callable[[], float] = time.time, still: StillPermits = every_token_holds
) -> list[web.RouteDef]:
    """The routes of the local store's part URLs; none for a store that takes the parts itself."""
    if not isinstance(part_store, FilePartStore):
        return []
    endpoint = PartEndpoint(part_store, clock, still)
    path = PATH_PREFIX + "{upload_id}/{number}"
    return [web.put(path, endpoint.put), web.options(path, endpoint.options)]


class PartEndpoint:
    def __init__(self, store: FilePartStore, clock: Callable[[], float], still: StillPermits) -> None:
        self._store = store
        self._clock = clock
        self._still = still

    async def options(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers=PREFLIGHT)

    async def put(self, request: web.Request) -> web.Response:
        try:
            link = self._link(request)
            await self._still(link.token_id)
            await self._receive(request, link)
        except Problem as problem:
            PART_PUTS.labels(problem.kind).inc()
            problem.headers.update(CORS)
            return problem.response()
        PART_PUTS.labels(PartOutcome.STORED).inc()
        PART_BYTES.inc(link.size_bytes)
        return web.Response(status=204, headers=CORS)

    def _link(self, request: web.Request) -> PartLink:
        size, expires, signature = (_only(request, name) for name in ("size", "expires", "signature"))
        try:
            return check_link(
                request.match_info["upload_id"],
                request.match_info["number"],
                size,
                expires,
                _only(request, "token"),
                signature,
                self._store.secret,
                self._clock(),
            )
        except LinkRefused as refused:
            raise _problem(PartOutcome(refused.refusal.value), refused.detail) from refused

    async def _receive(self, request: web.Request, link: PartLink) -> None:
        sha256 = content_sha256(request.headers.getall("Content-Digest", []))
        if request.content_length is not None and request.content_length > link.size_bytes:
            raise _problem(PartOutcome.TOO_LARGE, f"{link.size_bytes} bytes were declared, {request.content_length} are coming")
        try:
            await self._store.receive(link, sha256, _body(request))
        except UploadNotBegun as error:
            detail = "the upload was completed, discarded or never begun; ask for the upload's state"
            raise _problem(PartOutcome.UPLOAD_UNKNOWN, detail) from error
        except PartSizeWrong as error:
            raise _problem(PartOutcome.TOO_LARGE if error.too_long else PartOutcome.TOO_SHORT, str(error)) from error
        except PartDigestWrong as error:
            detail = f"the body's SHA-256 is {error}, Content-Digest says {sha256}; send the part again"
            raise _problem(PartOutcome.HASH_MISMATCH, detail) from error
        except DiskFull as error:
            raise _problem(PartOutcome.DISK_FULL, f"{error}; send the part again later") from error
        except ObjectStoreFailed as error:
            raise _problem(PartOutcome.STORE_FAILED, str(error)) from error


def content_sha256(fields: list[str]) -> str:
    """The SHA-256 (hex) in Content-Digest, a dictionary of algorithms (RFC 9530 section 2). Raises Problem."""
    members = [member.strip() for field in fields for member in field.split(",")]
    sha256 = [member for member in members if member.partition("=")[0] == "sha-256"]
    if not sha256:
        raise _problem(PartOutcome.DIGEST_MISSING, "send the part's SHA-256 as `Content-Digest: sha-256=:base64:` (RFC 9530)")
    # Of a member that is repeated the last counts (RFC 9651 section 3.2).
    match = _SHA256_MEMBER.match(sha256[-1])
    try:
        digest = base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise _problem(PartOutcome.DIGEST_MALFORMED, "`sha-256=:` and 32 bytes in base64 and `:` were expected in Content-Digest")
    return digest.hex()


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    """The body in pieces of about WRITE_BYTES, so that each is worth a thread."""
    gathered = bytearray()
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await request.content.readany()
        except TimeoutError:
            raise _problem(PartOutcome.STALLED, f"no byte came for {STALL_S:.0f} s; send the part again") from None
        except ConnectionError as error:
            raise _problem(PartOutcome.CUT_OFF, "the connection ended before the body did") from error
        gathered += chunk
        if gathered and (not chunk or len(gathered) >= WRITE_BYTES):
            yield bytes(gathered)
            gathered.clear()
        if not chunk:
            return


def _only(request: web.Request, name: str) -> str | None:
    values = request.query.getall(name, [])
    return values[0] if len(values) == 1 else None


def _problem(outcome: PartOutcome, detail: str) -> Problem:
    status, title = _ANSWERS[outcome]
    return Problem(status, outcome.value, title, detail, headers=CORS)
