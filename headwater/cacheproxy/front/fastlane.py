"""The fast lane: whole hits in memory, answered as their request arrives, with the very bytes of the ordinary handler.

It stands in front of the ordinary handler and takes only what is plain in every respect: a complete GET between two
requests, whose fields cannot change the answer, for a fresh object in memory, under a grant that was verified before.
Whatever else arrives goes to the ordinary handler untouched. Each decision is still the one place's that makes it: the
store finds the object (so that what is purged or replaced is gone here too), the role lets the asker pass, the object's
metadata tells its age and lifetime, `delivery.hop_fields` its header. Only their results are kept: per connection what
the fields of the request say, per object the bytes of its header. `cache.fast_lane` turns it off.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol, runtime_checkable

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD

from headwater.cacheproxy.answers.delivery import hidden_fields
from headwater.cacheproxy.answers.sending import send_pages, sends_pages
from headwater.cacheproxy.bucketcount import LOAD
from headwater.cacheproxy.front.accesslog import LINES_AT_MOST, AccessLog, PlainAnswer
from headwater.cacheproxy.front.connection import NOBODY
from headwater.cacheproxy.front.gate import Gate
from headwater.cacheproxy.front.lanehead import LaneHead
from headwater.cacheproxy.front.server import NamedRefusals
from headwater.cacheproxy.front.tally import tally_of
from headwater.cacheproxy.metrics import FAST_LANE, GRANTS_CHECKED, LOOKUPS
from headwater.cacheproxy.roles import ClientAddress, Permit, Role
from headwater.cacheproxy.store.rambody import PAGED_FROM_BYTES, RamBody
from headwater.cacheproxy.store.store import Store
from headwater.rules.cachestatus import Outcome
from headwater.runtime.metrics import TALLIES
from headwater.runtime.trace import new_traces
from headwater.settings.cache import CacheSettings
from headwater.settings.snapshot import Snapshot

LONGEST_REQUEST_BYTES: Final = 4096
BLOCKS_REMEMBERED: Final = 256  # headers that were read: players of one make send the same one
LINES_REMEMBERED: Final = 1024  # of the access log: a player opens several connections
JOINED_BODY_BYTES: Final = 32 * 1024  # up to this size one buffer is cheaper than two; beyond it bodies are never copied
_NEVER: Final = b"\0"  # no request begins so

# Fields that no answer of ours depends on. (Objects that vary by one lie behind a marker, which is no whole hit.)
_MEANINGLESS: Final = frozenset(
    (
        *("user-agent", "accept", "accept-encoding", "accept-language", "referer", "origin", "dnt", "priority", "sec-gpc"),
        *("sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-ch-ua", "sec-ch-ua-mobile"),
        *("sec-ch-ua-platform", "upgrade-insecure-requests"),
    )
)
_LINE: Final = re.compile(rb"([A-Za-z-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")


@runtime_checkable
class RecallingRole(Protocol):
    """A role that remembers whom it let pass."""

    tier: str

    def recall(self, target: str, host: str, snapshot: Snapshot, client: ClientAddress, now: float) -> Permit | None:
        """What `admit` and `authorise` say of a target without query, in normal form, when nothing is refused and nothing
        need be verified anew; else None."""


@asynccontextmanager
async def fast_lane(
    node: str,
    role: Role,
    settings: CacheSettings,
    store: Store,
    snapshot: Callable[[], Snapshot],
    gate: Gate,
    access_log: AccessLog,
) -> AsyncIterator[Callable[[], LaneConnection] | None]:
    """What makes each connection's way through the lane; None where it is off, or the role remembers nobody."""
    if not settings.fast_lane or not isinstance(role, RecallingRole):
        yield None
        return
    lane = FastLane(node, role, store, snapshot, gate, access_log, settings.negative_ttl)
    try:
        yield lambda: LaneConnection(lane)
    finally:
        lane.close()


class LanedHandler(NamedRefusals):
    """The ordinary handler of a connection that has a lane too: it knows whether the next request may be answered past it."""

    __slots__ = ("_answers", "_at_boundary")

    def __init__(self, server: web.Server, **arguments: Any) -> None:
        super().__init__(server, **arguments)
        self._answers = 0  # that are whole and leave the connection open
        self._at_boundary = True  # all that the parser was given were whole requests

    @property
    def is_done(self) -> bool:
        """Whether every request is answered. The task that handled the last one need not have come round to wait for the next:
        a quick client asks again before."""
        answered = self._answers == self._request_count and self._at_boundary
        return answered and not self._close and not self._force_close

    def answered_elsewhere(self, now_s: float) -> None:
        """The connection is in use."""
        self._next_keepalive_close_time = now_s + self._keepalive_timeout

    def data_received(self, data: bytes) -> None:
        if self._close or self._force_close:
            return
        before = self._request_count
        super().data_received(data)
        # The parser tells what it finished, not what it holds; a bodiless request that ends with these bytes leaves nothing.
        self._at_boundary = (
            self._request_count == before + 1
            and data.endswith(b"\r\n\r\n")
            and len(self._messages) == 1
            and self._messages[0][1] is EMPTY_PAYLOAD
            and not self._upgraded
        )

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        sent, broken = await super().finish_response(request, resp, start_time)
        self._answers += bool(sent.keep_alive and not broken)
        return sent, broken


class LaneConnection:
    """One connection's way through the lane. It has an ordinary handler from its first request that needs one.

    Requests of one client are alike but for the end of their target: what the beginning (with its grant) and the header
    fields say is remembered, and not read again while they are the same bytes.
    """

    __slots__ = ("_begin", "_end", "_handler", "_lane", "_path_at", "_said", "client", "paused", "transport")

    def __init__(self, lane: FastLane) -> None:
        self.transport: Any = None
        self.client: ClientAddress = NOBODY
        self.paused = False
        self._lane = lane
        self._handler: LanedHandler | None = None
        self._begin = self._end = _NEVER  # of requests that `_said` is about
        self._path_at = 0  # where in them the path of the object begins
        self._said: _Said | None = None

    def handler(self, server: web.Server, **arguments: Any) -> LanedHandler:
        """The ordinary handler, for what the lane leaves to it."""
        self._handler = LanedHandler(server, **arguments)
        return self._handler

    def answer_at_once(self, data: bytes) -> bool:
        """Whether these bytes were a request that the lane has answered; else nothing has happened."""
        handler, transport = self._handler, self.transport
        if (handler is not None and not handler.is_done) or self.paused or transport.is_closing():
            return False
        now, lane = time.time(), self._lane
        said = self._said
        if (
            said is None
            or not data.startswith(self._begin)
            or not data.endswith(self._end)
            or not said.permit.from_s <= now < said.permit.until_s
            or lane.snapshot() is not said.snapshot
        ):
            said = self._read(data, now)
            if said is None:
                return False
        if len(data) > lane.longest_bytes or not lane.answer(
            transport, said, data[self._path_at : -len(self._end)].decode("latin-1"), now
        ):
            return False
        if handler is not None:
            handler.answered_elsewhere(lane.gate.now_s)
        return True

    def _read(self, data: bytes, now: float) -> _Said | None:
        """What a request says, if it is plain. Where that holds for others too, it is remembered."""
        self._said = None
        at = data.find(b"\r\n") - len(b" HTTP/1.1")
        end = data[at:]
        if not data.startswith(b"GET /") or not end.startswith(b" HTTP/1.1\r\n"):
            return None
        fields = _plain_fields(end[len(b" HTTP/1.1") :])
        if fields is None or len(fields) >= self._lane.most_fields or self.client is NOBODY:
            return None
        said = self._lane.said(data[len(b"GET ") : at].decode("latin-1"), fields, self.client, now)
        if said is None:
            return None
        self._end, self._path_at = end, len(b"GET ") + said.permit.path_at
        if said.permit.start.endswith("/"):
            # It ends where no space can be, and `_end` begins with one: of a request that has both, they do not overlap.
            self._begin, self._said = b"GET " + said.permit.start.encode("latin-1"), said
        return said


@dataclass(frozen=True, slots=True)
class _Said:
    """What requests of one connection say beside the path: who asks for what of which site, and how that is logged."""

    permit: Permit
    snapshot: Snapshot
    client: ClientAddress
    rated: bool
    granted: bool
    line: tuple[str, ...]


class FastLane:
    """What the connections of a node share. `close` must be called at the end."""

    def __init__(
        self,
        node: str,
        role: RecallingRole,
        store: Store,
        snapshot: Callable[[], Snapshot],
        gate: Gate,
        access_log: AccessLog,
        negative_ttl_s: float,
    ) -> None:
        limits = gate.limits
        self.longest_bytes = min(LONGEST_REQUEST_BYTES, limits.request_line, limits.header_field, limits.header)
        self.most_fields = limits.header_fields
        self.gate = gate
        self.snapshot = snapshot
        self._node = node
        self._role = role
        self._hidden = hidden_fields(role.tier)
        self._store = store
        self._access_log = access_log
        self._line = lru_cache(maxsize=LINES_REMEMBERED)(self._line_of)
        self._negative_ttl_s = negative_ttl_s
        self._hits = tally_of(Outcome.HIT.value, 2)
        self._unused = store.ahead.unused
        self._traces: list[tuple[str, bytes]] = []
        self._counting = access_log.flush  # each answer is noted once, for the log, and counted when its line is made
        access_log.on_plain = self._count
        TALLIES.insert(0, self._counting)  # before the tally that it counts into

    def close(self) -> None:
        self._counting()
        self._access_log.on_plain = None
        TALLIES.remove(self._counting)

    def _count(self, answers: Sequence[PlainAnswer]) -> None:
        _, _, _, _, sizes, seconds, granted = zip(*answers, strict=True)
        self._hits.count_many(sizes, seconds)
        FAST_LANE.inc(len(sizes))
        LOOKUPS.labels("ram").inc(len(sizes))
        GRANTS_CHECKED.labels("remembered").inc(sum(granted))

    def said(self, target: str, fields: Mapping[str, str], client: ClientAddress, now: float) -> _Said | None:
        """What a plain request says; None when the role does not remember it."""
        snapshot, host = self.snapshot(), fields["host"]
        permit = None if "?" in target or "#" in target else self._role.recall(target, host, snapshot, client, now)
        if permit is None:
            return None
        line = self._line(client, host, permit.asker, permit.session, fields.get("user-agent"))
        return _Said(permit, snapshot, client, self.gate.is_rated(client), permit.asker is not None, line)

    def _line_of(
        self, client: ClientAddress, host: str, asker: str | None, session: str | None, user_agent: str | None
    ) -> tuple[str, ...]:
        """The lines of the access log about hits that are asked for so."""
        known = {
            "node": self._node,
            "client": str(client),
            "method": "GET",
            "host": host,
            "status": 200,
            "outcome": Outcome.HIT.value,
            "asker": asker,
            "session": session,
            "user_agent": user_agent,
        }
        return self._access_log.line_around(known)

    def answer(self, transport: asyncio.Transport, said: _Said, path: str, now: float) -> bool:
        """Answers a plain GET for `path` when that is a whole hit; else False, and nothing has happened."""
        started = time.perf_counter()
        if self.gate.leaving:  # the ordinary handler bids farewell
            return False
        site = said.permit.site
        # A path that is the key of a stored object is in normal form: `parse_target` would leave it as it is.
        key = site.name + path
        if key in self._unused:  # the ordinary handler notes that it was of use, and what to fetch next
            return False
        stored = self._store.in_ram(key)
        if stored is None or not isinstance(stored.body, RamBody):
            return False
        metadata, body = stored.metadata, stored.body
        head: LaneHead | None = metadata.rendered.get("fast lane")
        if head is None or head.site is not site:
            head = metadata.rendered["fast lane"] = LaneHead(self._node, self._hidden, site, metadata, self._negative_ttl_s)
        if not head.since <= now < head.until and not head.render(metadata.age_s(now), now):
            return False
        if said.rated and self.gate.rate_wait_s(said.client):  # the ordinary handler finds the same, and refuses
            return False
        if not self._traces:
            self._traces = new_traces()
        trace_id, traceparent = self._traces.pop()
        size = body.size_bytes
        if size <= JOINED_BODY_BYTES and body.as_bytes is not None:
            transport.write(b"".join((head.until_trace, traceparent, head.rest, body.as_bytes)))
        else:
            _send(transport, b"".join((head.until_trace, traceparent, head.rest)), body)
        taken_s = time.perf_counter() - started
        waiting = self._access_log.waiting
        waiting.append((said.line, now, trace_id, path, size, taken_s, said.granted))
        if len(waiting) == 1 or len(waiting) >= LINES_AT_MOST:
            self._access_log.look()
        LOAD.sent_bytes[head.bucket] += size
        return True


def _send(transport: asyncio.Transport, head: bytes, body: RamBody) -> None:
    whole = body.pages_or_data() if body.size_bytes >= PAGED_FROM_BYTES and sends_pages(transport) else body.data
    if isinstance(whole, bytes):
        transport.writelines((head, whole))
        return
    transport.write(head)
    with contextlib.suppress(ConnectionResetError):  # the transport tells the protocol
        send_pages(transport, whole, 0, body.size_bytes)


@lru_cache(maxsize=BLOCKS_REMEMBERED)
def _plain_fields(block: bytes) -> Mapping[str, str] | None:
    """The fields by name in lower case, if each is of a kind that cannot change the answer, is written in the one usual
    way, and stands there once; None otherwise, or when this is not exactly one header."""
    if not block.endswith(b"\r\n\r\n") or len(block) > LONGEST_REQUEST_BYTES:
        return None
    fields: dict[str, str] = {}
    for line in block[2:-4].split(b"\r\n"):
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        name, value = match[1].decode("ascii").lower(), match[2].decode("ascii")
        if name in fields or not _is_meaningless(name, value):
            return None
        fields[name] = value
    return fields if "host" in fields else None


def _is_meaningless(name: str, value: str) -> bool:
    return name in _MEANINGLESS or name == "host" or (name == "connection" and value.lower() == "keep-alive")
