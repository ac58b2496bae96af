"""A running fill: the I/O loop around `headwater.rules.fill`. Who shares it is the registry's matter (`fillregistry.py`).

The loop carries out commands and reports events; what to do about them is decided in the rules.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from headwater.cacheproxy.interim import OnInterim
from headwater.cacheproxy.metadata import Metadata
from headwater.cacheproxy.metrics import (
    FILL_BYTES,
    FILL_DISCARDED,
    FILL_RESUMES,
    FILL_TROUBLES,
    FILLS,
    FILLS_RUNNING,
)
from headwater.cacheproxy.parents import OUTCOME_FIELD, TROUBLE_FIELD, Parent, ParentAnswer, ParentClient, ParentTrouble
from headwater.cacheproxy.spool import Spool
from headwater.cacheproxy.store import Store
from headwater.cacheproxy.variants import Variants
from headwater.rules.cachestatus import Outcome
from headwater.rules.conditionals import parse_etags
from headwater.rules.fields import Fields, directives, end_to_end, field, without
from headwater.rules.fill import (
    Announce,
    Ask,
    BodyEnded,
    BytesArrived,
    End,
    FillCommand,
    FillMachine,
    FillState,
    FillTrouble,
    FollowersGone,
    HeaderArrived,
    ParentFailed,
    Skip,
)
from headwater.rules.freshness import Storability, corrected_initial_age, lifetime, storability, stored_fields
from headwater.rules.httpdate import format_http_date
from headwater.rules.purging import Coverage
from headwater.rules.ranges import parse_content_range
from headwater.runtime.logs import Log
from headwater.settings.cache import CacheSettings

# The same parent asked again at once would fail again: a restart takes about this long.
SAME_PARENT_PAUSE_S: Final = 0.25
_BAD_ENDS: Final = frozenset((FillState.REFUSED, FillState.CUT_OFF, FillState.CANCELLED))


@dataclass(frozen=True, slots=True)
class FillOrder:
    """What to fetch. `fields` go to the parent as they are; `asked` are the client's, which select a variant; `stale` is the
    stored object that a 304 would confirm; `relays_errors` lets a last 5xx pass as an answer; `on_interim` hears 1xx."""

    key: str
    path: str
    parents: tuple[Parent, ...]
    fields: Fields
    asked: Fields = ()
    stale: Metadata | None = None
    relays_errors: bool = False
    on_interim: OnInterim | None = None


@dataclass(frozen=True, slots=True)
class FillHeader:
    """The answer that followers pass on."""

    status: int
    fields: Fields
    size: int | None
    parent: str
    storability: Storability
    request_time: float
    response_time: float
    fresh: bool
    outcome: Outcome | None = None  # how the worker that owns the key came by it, when it was asked


class Fill:
    """One fill and its followers. `header` is set, or `machine.ended` holds, once `decided` is."""

    def __init__(self, order: FillOrder, client: ParentClient, store: Store, settings: CacheSettings, log: Log) -> None:
        self.order = order
        self.spool = Spool(store)
        self.decided = asyncio.Event()
        self.header: FillHeader | None = None
        self.followers = 0
        self.forgotten = False  # invalidated while it ran: those who follow get it, nobody after them does
        self.task: asyncio.Task[None] | None = None
        self._client = client
        self._store = store
        self._settings = settings
        self._log = log
        self._parents = {parent.name: parent for parent in order.parents}
        self.machine = FillMachine(
            tuple(parent.name for parent in order.parents),
            settings.keep_filling_from,
            order.stale.etag or order.stale.last_modified if order.stale else None,
            order.relays_errors,
        )
        self._answer: ParentAnswer | None = None
        self._asked: Parent | None = None
        self._asked_at = 0.0
        self._skip = 0
        # Purges after this one cover what the fill brings; a 304 renews an object for which they were not looked at since.
        self._accounted = order.stale.accounted if order.stale else store.purges.sequence
        self._digest: tuple[str, bytes] | None = None
        self._hash = hashlib.sha256()

    @property
    def open_to_newcomers(self) -> bool:
        """Whether a request that arrives now may follow. Once the header is there only a fresh answer may be taken: to
        those who waited for it it is as current as one of their own, to later ones it would be a stale one."""
        if self.machine.state in _BAD_ENDS or self.spool.passing or self.purged is not Coverage.KEPT:
            return False
        return self.header is None or (self.shareable and self.header.fresh)

    @property
    def purged(self) -> Coverage:
        """What the purges since the fill began leave of its object."""
        return self._store.purges.of_fill(self.order.key, self.header.fields if self.header else None, self._accounted)

    @property
    def shareable(self) -> bool:
        """Whether others than the leader may use the answer (RFC 9111: only what may be stored)."""
        if self.header is None:
            return True
        too_large = self.header.size is not None and self.header.size > self._settings.max_object
        return self.header.storability is Storability.STORABLE and not too_large

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Held by each client while it uses the fill; when the last one leaves, the machine decides what becomes of it."""
        self.followers += 1
        self.spool.join()
        try:
            yield
        finally:
            self.followers -= 1
            self.spool.leave()
            if self.followers == 0:
                if not self.machine.ended and self.machine.on(FollowersGone()) and self.task is not None:
                    self.task.cancel()
                if self.machine.ended and (self.task is None or self.task.done()):
                    self.spool.close()

    @property
    def _of_owner(self) -> bool:
        """Whether the bytes come from another worker of this node, which counts the fill."""
        return self._asked is not None and self._asked.socket is not None

    async def run(self) -> None:
        """Until the fill has ended and, where it may be, the object is stored."""
        FILLS_RUNNING.inc()
        end = End(FillState.CANCELLED)
        try:
            end = await self._drive()
            await self._settle(end)
        finally:
            if not self.spool.finished:
                self.spool.break_off()
            self.decided.set()
            self._close_answer()
            if self.followers == 0:
                self.spool.close()
            FILLS_RUNNING.dec()
            if not self._of_owner:
                FILLS.labels(end.state).inc()

    async def _drive(self) -> End:
        commands = self.machine.start()
        while True:
            ask: Ask | None = None
            for command in commands:
                match command:
                    case End():
                        return command
                    case Ask():
                        ask = command
                    case Announce():
                        await self.spool.expect(self.header.size if self.header is not None else None)
                        self.decided.set()
                    case Skip(count):
                        self._skip = count
            commands = await self._receive() if ask is None else await self._ask(ask)

    async def _ask(self, ask: Ask) -> list[FillCommand]:
        self._close_answer()
        parent = self._parents[ask.parent]
        if parent is self._asked:
            await asyncio.sleep(SAME_PARENT_PAUSE_S)
        self._asked = parent
        self._skip = 0
        fields = self.order.fields
        if ask.offset:
            FILL_RESUMES.inc()
            fields = (*fields, ("Range", f"bytes={ask.offset}-"), ("If-Range", ask.if_range or ""))
        elif self.machine.confirms is not None:
            tagged = self.machine.confirms.startswith(('"', "W/"))
            fields = (*fields, ("If-None-Match" if tagged else "If-Modified-Since", self.machine.confirms))
        self._asked_at = time.time()
        try:
            answer = await self._client.ask(parent, self.order.path, fields, on_interim=self.order.on_interim)
        except ParentTrouble as error:
            return self._failed(error)
        self._answer = answer
        if answer.refuses_this_node and parent.ours:
            return self._failed(ParentTrouble(FillTrouble.REFUSED, f"{parent.name} does not know this node"))
        commands = self.machine.on(_header_event(answer, parent))
        if Announce() in commands:
            self._note_header(answer, parent)
        if self.machine.state is FillState.ASKING:
            self._count_trouble(self.machine.trouble)
        return commands

    def _note_header(self, answer: ParentAnswer, parent: Parent) -> None:
        """The first usable header is the one that all followers see."""
        now = time.time()
        fields = without(end_to_end(answer.fields), (OUTCOME_FIELD,))
        if field(fields, "date") is None:  # RFC 9110 section 6.6.1: a recipient with a clock adds it
            fields = (*fields, ("Date", format_http_date(now)))
        authorized = field(self.order.asked, "authorization") is not None
        self.header = FillHeader(
            status=answer.status,
            fields=fields,
            size=answer.length,
            parent=parent.name,
            storability=storability(answer.status, fields, self._settings.negative_ttl, now, authorized=authorized),
            request_time=self._asked_at,
            response_time=now,
            fresh=lifetime(answer.status, fields, self._settings.negative_ttl, now).fresh_s
            > corrected_initial_age(fields, self._asked_at, now),
            outcome=Outcome(answer.of_owner(OUTCOME_FIELD) or Outcome.MISS) if parent.socket else None,
        )
        self._digest = _digest_of(fields) if answer.status == 200 else None

    async def _receive(self) -> list[FillCommand]:
        """Reads the body until the machine wants something. The last bytes are held back until the digest is known to hold."""
        assert self._answer is not None
        held = b""
        try:
            async for chunk in self._answer.body():
                if not self._of_owner:
                    FILL_BYTES.inc(len(chunk))
                if commands := self.machine.on(BytesArrived(len(chunk))):
                    return commands
                if self._skip:
                    skipped = min(self._skip, len(chunk))
                    self._skip -= skipped
                    chunk = chunk[skipped:]
                if self._digest is not None:
                    self._hash.update(chunk)
                    size = self.machine.size
                    held, chunk = (chunk, held) if size is None or self.machine.received >= size else (b"", held + chunk)
                if chunk:
                    await self.spool.append(chunk)
        except ParentTrouble as error:
            if self.machine.size is None or self.machine.received < self.machine.size:
                return self._failed(error)  # else every byte came before the connection broke
        digest_holds = None if self._digest is None else self._hash.digest() == self._digest[1]
        if digest_holds is not False and held:
            await self.spool.append(held)
        commands = self.machine.on(BodyEnded(digest_holds))
        if self.machine.state is not FillState.COMPLETE:
            self._count_trouble(self.machine.trouble)
        return commands

    async def _settle(self, end: End) -> None:
        """Lets followers go on, then stores."""
        match end.state:
            case FillState.COMPLETE:
                self.spool.finish()
                await self._keep()
            case FillState.CONFIRMED:
                await self._confirm()
            case FillState.REFUSED | FillState.CUT_OFF:
                self._log.warning("fill failed", key=self.order.key, state=end.state, trouble=end.trouble)
            case _:
                pass

    async def _keep(self) -> None:
        header = self.header
        assert header is not None
        reason = self._why_not_kept(header)
        if reason is not None:
            FILL_DISCARDED.labels(reason).inc()
            if self.order.stale is not None:
                await self._store.discard(self.order.stale.key)
            return
        key = await Variants(self._store).key_for(self.order.key, header.fields, self.order.asked)
        fields = stored_fields(header.fields)
        metadata = Metadata(
            key,
            header.status,
            fields,
            self.spool.length,
            header.request_time,
            header.response_time,
            url_key="" if key == self.order.key else self.order.key,
            accounted=self._accounted,
        )
        if not await self._store.put(metadata, self.spool) and self._store.keeps(key):
            FILL_DISCARDED.labels("no_room").inc()

    def _why_not_kept(self, header: FillHeader) -> str | None:
        if header.storability is not Storability.STORABLE:
            return header.storability
        if self.forgotten:
            return "invalidated"
        if self.purged is Coverage.GONE:
            return "purged"
        if self.machine.header is not None and not self.machine.header.framed:
            return "end_not_framed"  # a broken connection would look the same as the end
        if self.spool.length > self._settings.max_object:
            return "too_large"
        if self.spool.passing:
            return "no_room"
        return None

    async def _confirm(self) -> None:
        """The stored body counts as just fetched; followers look it up again."""
        assert self.order.stale is not None
        assert self._answer is not None
        self._store.confirm(self.order.stale.confirmed(end_to_end(self._answer.fields), self._asked_at, time.time()))

    def _failed(self, error: ParentTrouble) -> list[FillCommand]:
        if self._asked is not None:
            self._client.remember(self._asked, error.trouble)
        self._count_trouble(error.trouble)
        self._log.info("parent failed a fill", key=self.order.key, error=str(error), received=self.machine.received)
        return self.machine.on(ParentFailed(error.trouble))

    def _count_trouble(self, trouble: FillTrouble | None) -> None:
        if trouble is not None:
            FILL_TROUBLES.labels(trouble).inc()

    def _close_answer(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None


def _header_event(answer: ParentAnswer, parent: Parent) -> HeaderArrived:
    if parent.socket is None:
        return _plain_header_event(answer)
    trouble = answer.of_owner(TROUBLE_FIELD)
    return replace(_plain_header_event(answer), of_owner=True, trouble=FillTrouble(trouble) if trouble else None)


def _plain_header_event(answer: ParentAnswer) -> HeaderArrived:
    tags = parse_etags(field(answer.fields, "etag") or "")
    etag = tags[0] if tags else None
    ranged = parse_content_range(field(answer.fields, "content-range")) if answer.status == 206 else None
    if ranged is not None:
        return HeaderArrived(answer.status, etag, ranged[1], answer.framed, ranged[0])
    return HeaderArrived(answer.status, etag, answer.length, answer.framed)


def _digest_of(fields: Fields) -> tuple[str, bytes] | None:
    """The SHA-256 of the representation from `Repr-Digest` (RFC 9530); None when there is none that we can check."""
    value = directives(field(fields, "repr-digest")).get("sha-256")
    if value is None or len(value) < 2 or value[0] != ":" or value[-1] != ":":
        return None
    try:
        digest = base64.b64decode(value[1:-1], validate=True)
    except binascii.Error:
        return None
    return ("sha-256", digest) if len(digest) == hashlib.sha256().digest_size else None
