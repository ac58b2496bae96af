"""Answers messages by the current snapshot, remembers answers within it, counts, and never lets an error out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

import dns.rdatatype
from cachetools import LRUCache

from dnssteer.answer import Reply, answer
from dnssteer.metrics import ANSWER_SECONDS, QUERIES, REMEMBERED, STEERED, TRUNCATED
from dnssteer.query import read_header
from dnssteer.reply import PLAIN_PAYLOAD_BYTES, Outcome, bare_reply
from dnssteer.zone import Zone, zone_of
from headwater.rules.steering import World, region_of
from headwater.runtime.logs import Log
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of

ID_BYTES: Final = 2
# 4096 buckets, two types, a few spellings and subnets; about 500 bytes each.
MAX_REMEMBERED: Final = 16_384
# Types that viewers ask for; a metric label for each of 65,536 types would be an attack on the metrics.
COUNTED_TYPES: Final = {
    int(kind): dns.rdatatype.to_text(kind)
    for kind in map(dns.rdatatype.from_text, ("A", "AAAA", "ANY", "CNAME", "HTTPS", "MX", "NS", "SOA", "TXT"))
}
REMEMBERED_OUTCOMES: Final = frozenset({Outcome.NOERROR, Outcome.NODATA})

Memory = LRUCache[tuple[bytes, str, bool], Reply]


@dataclass(frozen=True, slots=True)
class View:
    """What one snapshot makes of the zone. The memory dies with it, so no answer outlives its world."""

    zone: Zone
    world: World
    memory: Memory


class Responder:
    """The server behind the sockets."""

    def __init__(self, snapshot: Snapshot, log: Log) -> None:
        self._log = log
        self._view = _view(snapshot)

    def use(self, snapshot: Snapshot) -> None:
        """Answers by `snapshot` from now on."""
        self._view = _view(snapshot)

    def reply(self, wire: bytes, source: IPv4Address | IPv6Address, *, over_tcp: bool) -> bytes | None:
        """What to send back for `wire`, or None for nothing."""
        started = time.perf_counter()
        try:
            reply = self._remembered(wire, source, over_tcp)
        except Exception:
            # A fault of ours must cost one answer, not the server.
            self._log.exception("a query could not be answered", query=wire[:600].hex())
            header = read_header(wire)
            reply = Reply(Outcome.SERVFAIL, bare_reply(header, Outcome.SERVFAIL) if header else None)
        ANSWER_SECONDS.observe(time.perf_counter() - started)
        QUERIES.labels("tcp" if over_tcp else "udp", COUNTED_TYPES.get(reply.qtype, "OTHER"), reply.outcome).inc()
        if reply.steered is not None:
            STEERED.labels(reply.steered.region, reply.steered.known_by).inc()
        if reply.truncated:
            TRUNCATED.inc()
        return reply.wire

    def _remembered(self, wire: bytes, source: IPv4Address | IPv6Address, over_tcp: bool) -> Reply:
        """The answer depends on the bytes behind the id, the resolver's region and the transport, and on nothing else."""
        view = self._view
        key = (wire[ID_BYTES:], region_of(source, view.world).region, over_tcp)
        known = view.memory.get(key)
        if known is not None and known.wire is not None:
            REMEMBERED.inc()
            return Reply(known.outcome, wire[:ID_BYTES] + known.wire[ID_BYTES:], known.qtype, known.steered, known.truncated)
        reply = answer(wire, source, view.zone, view.world, over_tcp=over_tcp)
        if reply.outcome in REMEMBERED_OUTCOMES and len(wire) <= PLAIN_PAYLOAD_BYTES:
            view.memory[key] = reply
        return reply


def _view(snapshot: Snapshot) -> View:
    return View(zone_of(snapshot), world_of(snapshot), LRUCache(MAX_REMEMBERED))
