"""Keeps the keys of the running server: takes changes of their file, makes the steps that are due, asks the parent for the DS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import dns.asyncquery
import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
from dns.dnssectypes import DSDigest

from dnssteer import keyroll
from dnssteer.keyroll import Moved, Role, State, Step, Timing
from dnssteer.metrics import KEY_STEPS, KEY_TROUBLES, ZONE_KEYS
from dnssteer.zone import INFRASTRUCTURE_TTL_S
from dnssteer.zonekeys import KeySet, ZoneKeys
from headwater.rules.addresses import Address
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.logs import Log
from headwater.settings.dnszone import KeyRollover
from headwater.settings.topology import Dns

LOOK_EVERY_S: Final = 1.0
ASK_EVERY_S: Final = 60.0
ASK_TIMEOUT_S: Final = 5.0


def timing_of(settings: Dns, rollover: KeyRollover) -> Timing:
    """The waits that follow from the zone's TTLs."""
    negative_s = settings.ttl if settings.negative_ttl is None else settings.negative_ttl
    longest_s = max(settings.ttl, negative_s, settings.record_ttl, INFRASTRUCTURE_TTL_S)
    return Timing(rollover.key_ttl, longest_s, rollover.propagation, rollover.zsk_every, rollover.ksk_every)


class KeyKeeper:
    """`timing` is that of the moment, because TTLs follow the snapshot; `use` is told of each new set of keys."""

    def __init__(
        self,
        store: ZoneKeys,
        zone: str,
        timing: Callable[[], Timing],
        parents: list[Address],
        use: Callable[[KeySet], None],
        log: Log,
    ) -> None:
        self._store, self._timing, self._parents = store, timing, parents
        self._zone = dns.name.from_text(zone)
        self._use, self._log = use, log
        self._count()

    async def keep(self, *, look_every_s: float = LOOK_EVERY_S, ask_every_s: float = ASK_EVERY_S) -> None:
        """Until it is cancelled."""
        asked_at = -ask_every_s
        while True:
            await self.look()
            now = asyncio.get_running_loop().time()
            if self._parents and self._awaits_parent() and now - asked_at >= ask_every_s:
                asked_at = now
                await self.ask()
            await asyncio.sleep(look_every_s)

    async def look(self) -> None:
        """Once. What cannot be read or written changes nothing, and is tried again at the next look."""
        try:
            moved = await asyncio.to_thread(self._store.look, self._timing())
        except (OSError, CannotStart) as error:
            KEY_TROUBLES.labels("file").inc()
            self._log.warning("the zone's keys cannot be kept; going on with those of before", error=str(error))
            return
        if moved is not None:
            self._took(moved)

    async def ask(self) -> None:
        """Asks every server of the parent; when all have the DS, its key goes on."""
        try:
            ttls = [await self._ds_ttl(parent) for parent in self._parents]
        except (OSError, dns.exception.DNSException) as error:
            KEY_TROUBLES.labels("parent").inc()
            self._log.warning("a server of the parent zone did not tell its DS", zone=str(self._zone), error=str(error))
            return
        if all(ttl_s is not None for ttl_s in ttls):
            place = await asyncio.to_thread(self._store.ds_seen, float(max(ttl_s or 0 for ttl_s in ttls)))
            self._took([Moved(place.tag, Role.KSK, Step.DS_SEEN)])

    async def _ds_ttl(self, parent: Address) -> int | None:
        """The TTL of the parent's DS set when it names the submitted key."""
        keys = self._store.current
        wanted = keys.by_tag[keyroll.wanted_at_parent(keys.places).tag].record
        query = dns.message.make_query(self._zone, dns.rdatatype.DS)
        reply = await dns.asyncquery.tcp(query, parent.host, ASK_TIMEOUT_S, parent.port)
        digest = dns.dnssec.make_ds(self._zone, wanted, DSDigest.SHA256)
        return next((found.ttl for found in reply.answer if found.rdtype == dns.rdatatype.DS and digest in found), None)

    def _awaits_parent(self) -> bool:
        submitted = keyroll.of(self._store.current.places, Role.KSK, State.SUBMITTED)
        return bool(submitted) and submitted[0].ds_seen_at is None

    def _took(self, moved: list[Moved]) -> None:
        for one in moved:
            KEY_STEPS.labels(one.role, one.step).inc()
            self._log.info("a key of the zone took a step", zone=str(self._zone), key=one.tag, role=one.role, step=one.step)
        self._count()
        self._use(self._store.current)

    def _count(self) -> None:
        for role in Role:
            for state in State:
                ZONE_KEYS.labels(role, state).set(len(keyroll.of(self._store.current.places, role, state)))
