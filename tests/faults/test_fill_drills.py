"""Drills of shared and broken fills; docs/fill-drills.md tells what other caches do in the same three experiments."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import Asked, Script, ScriptedParent, header, scripted_parent, serving
from tests.support.waiting import until

PATH = "/videos/abcdefghijA/h264/360p/segment_00000.m4s"
KEY = f"video{PATH}"
BODY = os.urandom(1_000_000)
PIECE = len(BODY) // 40
PACE_S = 2.0 / 40  # 1 MB over two seconds
FIELDS = ('ETag: "v1"', "Cache-Control: max-age=60")


@dataclass(frozen=True)
class Answer:
    """What a client got: its body, whether it was cut off, and when its first byte came after it asked."""

    body: bytes
    cut_off: bool
    first_byte_s: float


async def ask(edge: RunningEdge) -> Answer:
    began = time.monotonic()
    first_byte_s, body = 0.0, bytearray()
    try:
        async with edge.client.get(edge.url(PATH)) as response:
            assert response.status == 200
            async for chunk in response.content.iter_any():
                first_byte_s = first_byte_s or time.monotonic() - began
                body += chunk
    except aiohttp.ClientPayloadError:
        return Answer(bytes(body), True, first_byte_s)
    return Answer(bytes(body), False, first_byte_s)


def slowly(body: bytes, dies_at: int | None = None) -> Script:
    """`body` from the offset asked for, over two seconds; resets the connection when byte `dies_at` is reached."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.offset:
            span = f"Content-Range: bytes {asked.offset}-{len(body) - 1}/{len(body)}"
            writer.write(header("206 Partial Content", *FIELDS, span, f"Content-Length: {len(body) - asked.offset}"))
        else:
            writer.write(header("200 OK", *FIELDS, f"Content-Length: {len(body)}"))
        for start in range(asked.offset, len(body), PIECE):
            if dies_at is not None and start >= dies_at:
                writer.transport.abort()
                return
            writer.write(body[start : start + PIECE])
            await writer.drain()
            await asyncio.sleep(PACE_S)

    return script


async def leader_and_ten(edge: RunningEdge) -> list[Answer]:
    """A leader, and ten followers when a quarter is in."""
    leader = asyncio.create_task(ask(edge))
    await until(lambda: (fill := edge.proxy.fills.running(KEY)) is not None and fill.machine.received >= len(BODY) // 4)
    followers = await asyncio.gather(*(ask(edge) for _ in range(10)))
    return [await leader, *followers]


async def test_ten_followers_have_their_first_byte_at_once_and_the_parent_sees_one_request(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with (
        scripted_parent(slowly(BODY)) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        answers = await leader_and_ten(edge)
        assert [(answer.body == BODY, answer.cut_off) for answer in answers] == [(True, False)] * 11
        assert len(parent.asked) == 1
        latest = max(answer.first_byte_s for answer in answers[1:])
        print(f"the latest of ten followers had its first byte after {latest * 1000:.1f} ms")
        assert latest < 1.0, "the followers waited for the end of the fill"


async def test_a_parent_that_dies_half_way_is_noticed_by_nobody_while_there_is_a_second(
    deployment: Deployment, tmp_path: Path
) -> None:
    async with running_before_two(deployment, tmp_path, slowly(BODY, len(BODY) // 2), slowly(BODY)) as (edge, first, second):
        answers = await leader_and_ten(edge)
        assert [(answer.body == BODY, answer.cut_off) for answer in answers] == [(True, False)] * 11
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert second.asked[0].offset == len(BODY) // 2


async def test_without_a_second_parent_all_can_tell_nothing_is_stored_and_the_next_starts_fresh(
    deployment: Deployment, tmp_path: Path
) -> None:
    dying = slowly(BODY, len(BODY) // 2)
    async with running_before_two(deployment, tmp_path, dying, dying) as (edge, first, second):
        second.script = slowly(BODY, 0)
        answers = await leader_and_ten(edge)
        assert all(answer.cut_off and BODY.startswith(answer.body) for answer in answers)
        assert (len(first.asked), len(second.asked)) == (1, 1)
        await edge.settled()
        first.script = second.script = serving(BODY)
        assert (await ask(edge)).body == BODY
        assert len(first.asked) + len(second.asked) == 3


@asynccontextmanager
async def running_before_two(
    deployment: Deployment, folder: Path, first: Script, second: Script, settings: CacheSettings | None = None
) -> AsyncIterator[tuple[RunningEdge, ScriptedParent, ScriptedParent]]:
    """An edge and its parents in the order in which it asks them."""
    async with (
        scripted_parent(first) as one,
        scripted_parent(first) as other,
        running_edge(with_parents(deployment, [one.address, other.address]), folder, settings) as edge,
    ):
        asked_first, asked_second = (one, other) if edge.parents_in_order(KEY)[0] == "shield-1" else (other, one)
        asked_second.script = second
        yield edge, asked_first, asked_second


# -- a parent that dies at any byte -----------------------------------------------------------------------------------

Framing = Callable[[bytes], tuple[str, bytes]]
SMALL = os.urandom(200_000)
OFFSETS = (0, 1, 29_999, 30_000, 65_536, 131_072, len(SMALL) - 1)


def with_length(sent: bytes) -> tuple[str, bytes]:
    return f"Content-Length: {len(SMALL)}", sent


def in_chunks(sent: bytes) -> tuple[str, bytes]:
    pieces = [sent[start : start + 30_000] for start in range(0, len(sent), 30_000)]
    return "Transfer-Encoding: chunked", b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def without_length(sent: bytes) -> tuple[str, bytes]:
    return "Connection: close", sent


class Dying:
    """Sends the first `offset` bytes; the edge reads them all; then the connection is closed, reset, or goes silent."""

    def __init__(self, offset: int, framing: Framing, end: str, etag: str = 'ETag: "v1"') -> None:
        self.offset = offset
        self.edge: RunningEdge | None = None
        self._framing = framing
        self._end = end
        self._etag = etag

    async def script(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        field, sent = self._framing(SMALL[: self.offset])
        writer.write(header("200 OK", self._etag, "Cache-Control: max-age=60", field) + sent)
        await writer.drain()
        await until(self._is_read)  # a reset overtakes what was not read yet
        match self._end:
            case "closed":
                writer.transport.close()
            case "reset":
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            case _:
                await asyncio.Event().wait()

    def _is_read(self) -> bool:
        fill = self.edge.proxy.fills.running(KEY) if self.edge is not None else None
        return fill is not None and fill.header is not None and fill.machine.received >= self.offset


# HTTP cannot tell a closed connection from the end of a body without length or chunks, so that case is not among these.
ENDS: list[tuple[Framing, str]] = [
    (with_length, "closed"),
    (with_length, "reset"),
    (in_chunks, "closed"),
    (in_chunks, "reset"),
    (without_length, "reset"),
]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(("framing", "end"), ENDS)
async def test_a_parent_may_die_at_any_byte(
    deployment: Deployment, tmp_path: Path, offset: int, framing: Framing, end: str
) -> None:
    dying = Dying(offset, framing, end)
    async with running_before_two(deployment, tmp_path, dying.script, serving(SMALL)) as (edge, first, second):
        dying.edge = edge
        answers = await asyncio.gather(*(ask(edge) for _ in range(5)))
        assert all(answer.body == SMALL and not answer.cut_off for answer in answers)
        assert (len(first.asked), len(second.asked)) == (1, 1)
        assert second.asked[0].offset == offset
        await edge.settled()
        assert (await ask(edge)).body == SMALL
        assert (len(first.asked), len(second.asked)) == (1, 1), "it was stored"


@pytest.mark.parametrize("framing", [with_length, in_chunks, without_length])
async def test_a_body_with_a_digest_has_all_its_bytes_when_its_parent_dies(
    deployment: Deployment, tmp_path: Path, framing: Framing
) -> None:
    """Its last bytes are held back until the digest is known to hold: which are the last, where no length was told?"""
    digest = f"Repr-Digest: sha-256=:{b64encode(sha256(SMALL).digest()).decode()}:"
    dying = Dying(100_000, framing, "reset", f'ETag: "v1"\r\n{digest}')
    async with running_before_two(deployment, tmp_path, dying.script, serving(SMALL)) as (edge, _, second):
        dying.edge = edge
        answer = await ask(edge)
        assert (len(answer.body), answer.body == SMALL, answer.cut_off) == (len(SMALL), True, False)
        assert second.asked[0].offset == 100_000
        await edge.settled()
        assert (await ask(edge)).body == SMALL


@pytest.mark.parametrize("framing", [with_length, in_chunks])
async def test_a_parent_that_falls_silent_midway_is_left_for_the_next(
    deployment: Deployment, tmp_path: Path, framing: Framing
) -> None:
    silent = Dying(100_000, framing, "silent")
    settings = CacheSettings.model_validate({"stall_timeout": "200 ms"})
    async with running_before_two(deployment, tmp_path, silent.script, serving(SMALL), settings) as (edge, first, second):
        silent.edge = edge
        answers = await asyncio.gather(*(ask(edge) for _ in range(5)))
        assert all(answer.body == SMALL and not answer.cut_off for answer in answers)
        assert (len(first.asked), len(second.asked)) == (1, 1)


async def server_error(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(header("503 Service Unavailable", "Content-Length: 5") + b"sorry")
    await writer.drain()


async def with_another_version(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(header("200 OK", 'ETag: "v2"', f"Content-Length: {len(SMALL)}") + SMALL[::-1])
    await writer.drain()


@pytest.mark.parametrize(
    ("framing", "etag", "second_script", "second_asked"),
    [
        (with_length, 'ETag: "v1"', server_error, 1),
        (in_chunks, 'ETag: "v1"', server_error, 1),
        (with_length, 'ETag: "v1"', with_another_version, 1),
        (in_chunks, 'ETag: "v1"', with_another_version, 1),
        (with_length, 'ETag: W/"v1"', serving(SMALL), 0),
        (in_chunks, "X-None: 1", serving(SMALL), 0),
        (without_length, "X-None: 1", serving(SMALL), 0),
    ],
)
async def test_what_cannot_be_resumed_is_cut_off_and_not_stored(
    deployment: Deployment, tmp_path: Path, framing: Framing, etag: str, second_script: Script, second_asked: int
) -> None:
    dying = Dying(100_000, framing, "reset", etag)
    async with running_before_two(deployment, tmp_path, dying.script, second_script) as (edge, first, second):
        dying.edge = edge
        # One that waits for its header with the leader, so that sharing does not depend on what may be stored.
        answers = await asyncio.gather(*(ask(edge) for _ in range(2)), return_exceptions=True)
        assert all(isinstance(answer, Answer) and answer.cut_off for answer in answers), answers
        assert all(SMALL.startswith(answer.body) for answer in answers if isinstance(answer, Answer))
        assert (len(first.asked), len(second.asked)) == (1, second_asked)
        await edge.settled()
        first.script = second.script = serving(SMALL)
        again = await ask(edge)
        assert (again.body, again.cut_off) == (SMALL, False)
        assert len(first.asked) + len(second.asked) == 2 + second_asked


async def test_a_thousand_followers_of_a_slow_fill_are_all_woken_when_the_bytes_exist(
    deployment: Deployment, tmp_path: Path
) -> None:
    go_on = asyncio.Event()
    sent_at = 0.0

    async def held(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_at
        writer.write(header("200 OK", *FIELDS, "Content-Length: 2000"))
        await go_on.wait()
        sent_at = time.monotonic()
        writer.write(b"a" * 1000)
        await writer.drain()
        await until(lambda: all_have_some)
        writer.write(b"b" * 1000)
        await writer.drain()

    all_have_some = False
    async with (
        scripted_parent(held) as parent,
        running_edge(with_parents(deployment, [parent.address]), tmp_path) as edge,
    ):
        responses = await asyncio.gather(*(edge.client.get(edge.url(PATH)) for _ in range(1000)))
        assert edge.followers(KEY) == 1000

        async def first_byte(response: aiohttp.ClientResponse) -> float:
            await response.content.readexactly(1)
            return time.monotonic()

        waiting = [asyncio.create_task(first_byte(response)) for response in responses]
        await asyncio.sleep(0)
        go_on.set()
        came_at = await asyncio.gather(*waiting)
        print(f"the last of 1,000 followers had its first byte {(max(came_at) - sent_at) * 1000:.1f} ms after it was sent")
        all_have_some = True
        rest = await asyncio.gather(*(response.read() for response in responses))
        assert set(rest) == {b"a" * 999 + b"b" * 1000}
        assert len(parent.asked) == 1
