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
import ipaddress
import os
import re
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol, runtime_checkable

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD

from headwater.cacheproxy.accesslog import AccessLog
from headwater.cacheproxy.bucketcount import LOAD
from headwater.cacheproxy.delivery import cors_fields, hidden_fields, hop_fields
from headwater.cacheproxy.gate import Gate
from headwater.cacheproxy.metadata import Metadata
from headwater.cacheproxy.metrics import FAST_LANE, FIRST_BYTE, GRANTS_CHECKED, LOOKUPS, REQUESTS, SENT_BYTES
from headwater.cacheproxy.roles import ClientAddress, Role, Site
from headwater.cacheproxy.server import NamedRefusals
from headwater.cacheproxy.store import RamBody, Store
from headwater.rules.bucketload import bucket_of_path
from headwater.rules.cachestatus import CacheStatus, Outcome
from headwater.rules.fields import Fields, field
from headwater.runtime.metrics import SECONDS_BUCKETS, TALLIES
from headwater.settings.cache import CacheSettings
from headwater.settings.snapshot import Snapshot

LONGEST_REQUEST_BYTES: Final = 4096
JOINED_BODY_BYTES: Final = 32 * 1024  # up to this size one buffer is cheaper than two; beyond it bodies are never copied
TRACES_AT_ONCE: Final = 256

# Fields that no answer of ours depends on. (Objects that vary by one lie behind a marker, which is no whole hit.)
_MEANINGLESS: Final = frozenset(
    (
        *("user-agent", "accept", "accept-encoding", "accept-language", "referer", "origin", "dnt", "priority", "sec-gpc"),
        *("sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user", "sec-ch-ua", "sec-ch-ua-mobile"),
        *("sec-ch-ua-platform", "upgrade-insecure-requests"),
    )
)
_LINE: Final = re.compile(rb"([A-Za-z-]+): ([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)")
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f]")
_OPEN_NAMES: Final = frozenset(("time", "trace_id", "path", "asker", "session", "sent_bytes", "first_byte_ms", "duration_ms"))
# Stand for the values that differ from answer to answer, in a header that is rendered once and then cut at them.
_AGE, _TTL, _TRACE = "age-of-this-answer", 9_000_000_000_001, "traceparent-of-this-answer"

# (site, path of the object, asker, session)
Recalled = tuple[Site, str, str | None, str | None]


@runtime_checkable
class RecallingRole(Protocol):
    """A role that remembers whom it let pass."""

    tier: str

    def recall(self, target: str, host: str, snapshot: Snapshot, client: ClientAddress, now: float) -> Recalled | None:
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
) -> AsyncIterator[Callable[..., web.RequestHandler]]:
    """What makes the protocol of each connection: the ordinary one where the lane is off, or the role remembers nobody."""
    if not settings.fast_lane or not isinstance(role, RecallingRole):
        yield NamedRefusals
        return
    lane = FastLane(node, role, store, snapshot, gate, access_log, settings.negative_ttl)
    try:
        yield partial(LaneConnection, lane)
    finally:
        lane.close()


class _Head:
    """The header of a whole answer for one object at one site, cut where the age, the lifetime and the trace stand."""

    __slots__ = ("bucket", "fresh_s", "parts", "site")

    def __init__(self, node: str, hidden: tuple[str, ...], site: Site, metadata: Metadata, negative_ttl_s: float) -> None:
        self.site = site
        self.bucket = bucket_of_path(metadata.key.removeprefix(site.name))
        self.fresh_s = metadata.lifetime(negative_ttl_s).fresh_s
        self.parts = _parts(node, hidden, site, metadata) if _is_plain(metadata) else None


class LaneConnection(NamedRefusals):
    """The ordinary server protocol, with the lane in front of its parser."""

    __slots__ = ("_at_boundary", "_block", "_host", "_lane", "_lane_client", "_log_template", "_rated")

    def __init__(self, lane: FastLane, server: web.Server, **arguments: Any) -> None:
        super().__init__(server, **arguments)
        self._lane = lane
        self._at_boundary = True  # all that the parser was given were whole requests
        self._block: bytes | None = None  # the header fields that were read last, and what they say
        self._host = ""
        self._log_template = ""
        self._lane_client: ClientAddress | None = None
        self._rated = True  # whether the client has a rate that its requests count against

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter  # of the ordinary handler for its next request
        if self._at_boundary and waiter is not None and not waiter.done() and not self._messages and self._answer(data):
            return
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

    def _answer(self, data: bytes) -> bool:
        """Whether the request was answered."""
        transport = self.transport
        if self._close or self._force_close or self._paused or self._upgraded or transport is None or transport.is_closing():
            return False
        end = data.find(b"\r\n")
        if not data.startswith(b"GET /") or data[end - 9 : end] != b" HTTP/1.1" or len(data) > self._lane.longest_bytes:
            return False
        if data[end:] != self._block and not self._read_fields(data[end:]):
            return False
        assert self._lane_client is not None
        if transport.get_write_buffer_size() or not self._lane.answer(
            transport, data[4 : end - 9].decode("latin-1"), self._host, self._lane_client, self._rated, self._log_template
        ):
            return False
        self._request_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _read_fields(self, block: bytes) -> bool:
        """Remembers the fields (from the end of the request line to the empty line) if all are plain."""
        fields = _plain_fields(block)
        peer = self.transport.get_extra_info("peername") if self.transport is not None else None
        if fields is None or len(fields) >= self._lane.most_fields or not peer:
            return False
        self._block, self._host = block, fields["host"]
        self._lane_client = ipaddress.ip_address(peer[0])
        self._rated = self._lane.gate.is_rated(self._lane_client)
        self._log_template = self._lane.log_template(self._lane_client, self._host, fields.get("user-agent"))
        return True


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
        self._node = node
        self._role = role
        self._hidden = hidden_fields(role.tier)
        self._store = store
        self._snapshot = snapshot
        self._access_log = access_log
        self._negative_ttl_s = negative_ttl_s
        self._traces = ""
        self._second, self._second_text = 0, ""
        self._tally = _Tally()
        TALLIES.append(self._tally.take)

    def close(self) -> None:
        TALLIES.remove(self._tally.take)
        self._tally.take()
        self._access_log.flush()

    def log_template(self, client: ClientAddress, host: str, user_agent: str | None) -> str:
        known = {
            "node": self._node,
            "client": str(client),
            "method": "GET",
            "host": host,
            "status": 200,
            "outcome": Outcome.HIT.value,
            "user_agent": user_agent,
        }
        return self._access_log.line_template(known, _OPEN_NAMES)

    def answer(
        self, transport: asyncio.Transport, target: str, host: str, client: ClientAddress, rated: bool, log_template: str
    ) -> bool:
        """Answers a plain GET for `target` when that is a whole hit; else False, and nothing has happened."""
        started, now = time.perf_counter(), time.time()
        if self.gate.leaving:  # the ordinary handler bids farewell
            return False
        if "?" in target or "#" in target:  # the key has marks of its own for variants
            return False
        recalled = self._role.recall(target, host, self._snapshot(), client, now)
        if recalled is None:
            return False
        site, path, asker, session = recalled
        # A path that is the key of a stored object is in normal form: `parse_target` would leave it as it is.
        stored = self._store.in_ram(f"{site.name}{path}")
        if stored is None or not isinstance(stored.body, RamBody):
            return False
        metadata, body = stored.metadata, stored.body.data
        head = metadata.rendered.get("fast lane")
        if head is None or head.site is not site:
            head = metadata.rendered["fast lane"] = _Head(self._node, self._hidden, site, metadata, self._negative_ttl_s)
        age_s = metadata.age_s(now)
        if head.parts is None or age_s >= head.fresh_s:
            return False
        if rated and self.gate.rate_wait_s(client):  # the ordinary handler finds the same, and refuses
            return False
        trace_id, span_id = self._next_trace()
        until_age, until_ttl, until_trace, rest = head.parts
        header = b"%b%d%b%d%b00-%b-%b-01%b" % (
            until_age, int(age_s), until_ttl, int(head.fresh_s - age_s), until_trace, trace_id.encode(), span_id.encode(), rest,
        )  # fmt: skip
        if len(body) <= JOINED_BODY_BYTES:
            transport.write(header + body)
        else:
            transport.writelines((header, body))
        taken_s = time.perf_counter() - started
        self._access_log.append(
            log_template
            % {
                "time": self._time_text(now),
                "trace_id": f'"{trace_id}"',
                "path": f'"{path}"',
                "asker": "null" if asker is None else f'"{asker}"',
                "session": "null" if session is None else f'"{session}"',
                "sent_bytes": len(body),
                "first_byte_ms": round(taken_s * 1000, 3),
                "duration_ms": round(taken_s * 1000, 3),
            }
        )
        self._tally.count(len(body), taken_s, asker is not None)
        LOAD.sent_bytes[head.bucket] += len(body)
        return True

    def _next_trace(self) -> tuple[str, str]:
        """A new (trace id, span id), from random bytes that are asked for many at once."""
        if not self._traces:
            self._traces = os.urandom(24 * TRACES_AT_ONCE).hex()
        trace, self._traces = self._traces[:48], self._traces[48:]
        return trace[:32], trace[32:]

    def _time_text(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second, self._second_text = second, time.strftime('"%Y-%m-%dT%H:%M:%S', time.gmtime(second))
        return f'{self._second_text}.{int((now - second) * 1000):03d}+00:00"'


class _Tally:
    """Counts in plain numbers what the ordinary path counts request by request."""

    def __init__(self) -> None:
        self._requests = self._bytes = self._granted = 0
        self._seconds = 0.0
        self._buckets = [0] * (len(SECONDS_BUCKETS) + 1)

    def count(self, sent_bytes: int, first_byte_s: float, granted: bool) -> None:
        self._requests += 1
        self._bytes += sent_bytes
        self._granted += granted
        self._seconds += first_byte_s
        self._buckets[bisect_left(SECONDS_BUCKETS, first_byte_s)] += 1

    def take(self) -> None:
        """Moves what was counted into the metrics."""
        hit = Outcome.HIT.value
        FAST_LANE.inc(self._requests)
        REQUESTS.labels(hit, "2xx").inc(self._requests)
        LOOKUPS.labels("ram").inc(self._requests)
        SENT_BYTES.labels(hit).inc(self._bytes)
        GRANTS_CHECKED.labels("remembered").inc(self._granted)
        first_byte = FIRST_BYTE.labels(hit)
        first_byte._sum.inc(self._seconds)  # the library has no way to observe many values at once
        for bucket, observed in zip(first_byte._buckets, self._buckets, strict=True):
            bucket.inc(observed)
        self.__init__()  # type: ignore[misc]


def _plain_fields(block: bytes) -> dict[str, str] | None:
    """The fields by name in lower case, if each is of a kind that cannot change the answer, is written in the one usual
    way, and stands there once; None otherwise, or when this is not exactly one header."""
    if not block.endswith(b"\r\n\r\n"):
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


def _is_plain(metadata: Metadata) -> bool:
    """Whether the header depends on the object alone: what aiohttp would add at the moment of sending is there already."""
    fields = metadata.fields
    return (
        metadata.status == 200
        and metadata.size_bytes > 0
        and field(fields, "date") is not None
        and not any(_UNSAFE.search(name + value) or not (name + value).isascii() for name, value in fields)
    )


def _parts(node: str, hidden: tuple[str, ...], site: Site, metadata: Metadata) -> tuple[bytes, bytes, bytes, bytes] | None:
    status = CacheStatus(node, Outcome.HIT, ttl_s=_TTL)
    fields: Fields = (
        *hop_fields(metadata.fields, hidden, cors_fields(site), _AGE, node, status, _TRACE),
        ("Accept-Ranges", "bytes"),
        ("Content-Length", str(metadata.size_bytes)),
    )
    if field(fields, "content-type") is None:
        fields = (*fields, ("Content-Type", "application/octet-stream"))  # as aiohttp does
    text = "\r\n".join(["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields), "", ""]).encode("ascii")
    parts = re.split(b"|".join(str(mark).encode() for mark in (_AGE, _TTL, _TRACE)), text)
    return (parts[0], parts[1], parts[2], parts[3]) if len(parts) == 4 else None
