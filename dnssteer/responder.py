"""Answers messages by the current snapshot, remembers answers within it, counts and limits, and never lets an error out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import dns.rdatatype

from dnssteer.answer import Asker, Policy, Reply, answer
from dnssteer.batches import key_bytes_for
from dnssteer.cookies import Judged, Shown
from dnssteer.memory import ID_BYTES, NAME_AT, Memory
from dnssteer.metrics import ANSWER_SECONDS, COOKIES, LIMITED, QUERIES, REMEMBERED, STEERED, TRUNCATED
from dnssteer.query import read_header
from dnssteer.ratelimit import ERRORS, Counts, Limits, RateLimiter, Verdict
from dnssteer.reply import PLAIN_PAYLOAD_BYTES, Outcome, bare_reply, truncated_reply
from dnssteer.signing import OnlineSigning
from dnssteer.variants import REMEMBERED_OUTCOMES, varied
from dnssteer.zone import IpAddress, Zone, zone_of
from dnssteer.zonekeys import KeySet
from headwater.rules.forwardedfor import plain
from headwater.rules.steering import World, region_of
from headwater.runtime.logs import Log
from headwater.runtime.metrics import TALLIES
from headwater.settings.snapshot import Snapshot
from headwater.settings.world import world_of

# Types that viewers ask for; a metric label for each of 65,536 types would be an attack on the metrics.
COUNTED_TYPES: Final = {
    int(kind): dns.rdatatype.to_text(kind)
    for kind in map(dns.rdatatype.from_text, ("A", "AAAA", "ANY", "CAA", "CNAME", "DNSKEY", "HTTPS", "MX", "NS", "SOA", "TXT"))
}
MAX_CLIENTS: Final = 65_536
# Signatures age: what is remembered of a signed zone is made again this often.
SIGNED_MEMORY_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Client:
    """What is known of one address: the answers of its region, over UDP and TCP, and its network's counters."""

    address: IpAddress
    over_udp: Memory
    over_tcp: Memory
    counts: Counts


class View:
    """What one snapshot makes of the zone. The memory dies with it, so no answer outlives its world."""

    def __init__(self, snapshot: Snapshot, key_bytes: int) -> None:
        self._key_bytes = key_bytes
        settings = snapshot.deployment.dns
        limit = settings.rate_limit
        self.zone: Zone = zone_of(snapshot)
        self.world: World = world_of(snapshot)
        self.require_cookies = settings.require_cookies
        self.limiter = RateLimiter(Limits(limit.answers, limit.errors, limit.slip))
        self.made_at = 0.0
        self._memories: dict[tuple[str, bool], Memory] = {}
        self._clients: dict[IpAddress, Client] = {}

    def client(self, address: IpAddress) -> Client:
        address = plain(address)  # an IPv6 socket has IPv4 clients too, all of them in one /96
        known = self._clients.get(address)
        if known is None:
            if len(self._clients) >= MAX_CLIENTS:
                self._clients.clear()
            region = region_of(address, self.world).region
            known = Client(address, self.memory(region, False), self.memory(region, True), self.limiter.counts_of(address))
            self._clients[address] = known
        return known

    def memory(self, region: str, over_tcp: bool) -> Memory:
        return self._memories.setdefault((region, over_tcp), Memory(self._key_bytes))

    def memories(self) -> dict[tuple[str, bool], Memory]:
        return self._memories


class Responder:
    """The server behind the sockets. `secrets` make cookies; `clock` is unix time."""

    def __init__(
        self,
        snapshot: Snapshot,
        log: Log,
        *,
        secrets: tuple[bytes, ...] = (),
        signing: OnlineSigning | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._log = log
        self._secrets = secrets
        self._signing = signing
        self._clock = clock
        self._second = 0
        self._judged = Judged()
        self.key_bytes = key_bytes_for(_usual_query_bytes(snapshot.deployment.zone))
        """How much of a query its slot in a batch holds behind the id; the zone does not change while the node runs."""
        self.use(snapshot)
        TALLIES.append(self.count_remembered)

    def use(self, snapshot: Snapshot) -> None:
        """Answers by `snapshot` from now on."""
        if hasattr(self, "view"):
            self.count_remembered()
        self.snapshot = snapshot
        self.view = View(snapshot, self.key_bytes)
        self.view.made_at = self._clock()
        self._policy = Policy(self._secrets, self.view.require_cookies, self._signing)

    def use_keys(self, keys: KeySet) -> None:
        """Signs with `keys` from now on; what others signed is forgotten. Only for a responder that signs."""
        assert self._signing is not None
        self._signing.keys = keys
        self.use(self.snapshot)

    def close(self) -> None:
        """Counts for the last time."""
        self.count_remembered()
        TALLIES.remove(self.count_remembered)

    def tick(self) -> View:
        """The view to answer a batch by, its windows of rate limiting at the present second."""
        now = self._clock()
        if int(now) != self._second:
            self._second = int(now)
            aged = self._policy.signing is not None and now - self.view.made_at > SIGNED_MEMORY_S
            if aged or world_of(self.snapshot).database is not self.view.world.database:
                self.use(self.snapshot)
        self.view.limiter.at(int(now))
        return self.view

    def reply(self, wire: bytes, source: IpAddress, *, over_tcp: bool) -> bytes | None:
        """What to send back for `wire`, or None for nothing."""
        return self.reply_to(wire, self.tick().client(source), over_tcp=over_tcp)

    def reply_to(self, wire: bytes, client: Client, *, over_tcp: bool) -> bytes | None:
        """The same for a client of the present view."""
        memory = client.over_tcp if over_tcp else client.over_udp
        known = memory.by_key.get(wire[ID_BYTES:])
        if known is not None:
            tail = known.tail
        else:
            other = memory.in_another_case(wire)
            if other is None:
                return self._unremembered(wire, client, over_tcp, memory)
            known, tail = other
        verdict = Verdict.SEND if over_tcp else self.view.limiter.judged(client.counts, known.named)
        if verdict is not Verdict.SEND:
            return self._held_back(wire, client, verdict, Shown.NONE)
        known.tally.given += 1
        return wire[:ID_BYTES] + tail

    def _unremembered(self, wire: bytes, client: Client, over_tcp: bool, memory: Memory) -> bytes | None:
        reply = self._made(wire, client, over_tcp, memory)
        if reply.wire is None or over_tcp or reply.shown is Shown.GOOD:
            return reply.wire
        named = reply.named if reply.outcome in REMEMBERED_OUTCOMES else ERRORS
        verdict = self.view.limiter.judged(client.counts, named)
        return reply.wire if verdict is Verdict.SEND else self._held_back(wire, client, verdict, reply.shown)

    def _held_back(self, wire: bytes, client: Client, verdict: Verdict, shown: Shown) -> bytes | None:
        if verdict is Verdict.DROP:
            LIMITED.labels(Outcome.DROPPED).inc()
            return None
        if shown is Shown.BAD:
            # Its server cookie is of some other secret or time: with the new one it proves its address and is limited no more.
            strict = Policy(self._policy.secrets, require_cookies=True)
            reply = answer(wire, Asker(client.address, False, self._clock()), self.view.zone, self.view.world, strict)
            LIMITED.labels(reply.outcome).inc()
            return reply.wire
        LIMITED.labels(Outcome.TRUNCATED).inc()
        return truncated_reply(wire)

    def _made(self, wire: bytes, client: Client, over_tcp: bool, memory: Memory) -> Reply:
        started = time.perf_counter()
        view = self.view
        try:
            asker = Asker(client.address, over_tcp, self._clock())
            reply = varied(
                wire, asker, view.zone, view.world, self._policy, lambda region: view.memory(region, over_tcp), self._judged
            ) or answer(wire, asker, view.zone, view.world, self._policy)
            # An answer with a cookie is one client's own, and a cookie grows old.
            if reply.outcome in REMEMBERED_OUTCOMES and len(wire) <= PLAIN_PAYLOAD_BYTES and reply.shown is Shown.NONE:
                memory.put(wire, reply)
        except Exception:
            # A fault of ours must cost one answer, not the server.
            self._log.exception("a query could not be answered", query=wire[:600].hex())
            header = read_header(wire)
            reply = Reply(Outcome.SERVFAIL, bare_reply(header, Outcome.SERVFAIL) if header else None)
        ANSWER_SECONDS.observe(time.perf_counter() - started)
        _count(reply, over_tcp, 1)
        return reply

    def count_remembered(self) -> None:
        """Puts what was given from memory into the metrics; called before they are read, and before the memory goes."""
        for (_, over_tcp), memory in self.view.memories().items():
            for tally in memory.tallies():
                if tally.given:
                    REMEMBERED.inc(tally.given)
                    _count(tally.reply, over_tcp, tally.given)
                    tally.given = 0


def _usual_query_bytes(zone: str) -> int:
    """Header, a logical host, type and class, an OPT record without options."""
    return NAME_AT + len(f".v3fa.{zone}.") + 4 + 11


def _count(reply: Reply, over_tcp: bool, times: int) -> None:
    QUERIES.labels("tcp" if over_tcp else "udp", COUNTED_TYPES.get(reply.qtype, "OTHER"), reply.outcome).inc(times)
    if reply.steered is not None:
        STEERED.labels(reply.steered.region, reply.steered.known_by).inc(times)
    if reply.truncated:
        TRUNCATED.inc(times)
    if reply.shown is not Shown.NONE:
        COOKIES.labels(reply.shown).inc(times)
