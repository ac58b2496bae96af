"""A running fill: the I/O loop around `headwater.rules.fill`. Who shares it is the registry's matter (`fillregistry.py`).

The loop carries out commands and reports events; what to do about them is decided in the rules.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from headwater.cacheproxy.fills.digestcheck import DigestCheck
from headwater.cacheproxy.fills.fillheaders import digest_of, header_event, noted_header, sliced_version
from headwater.cacheproxy.fills.fillorders import FillHeader, FillOrder
from headwater.cacheproxy.fills.keeping import Keeping, Registry
from headwater.cacheproxy.fills.parents import Parent, ParentAnswer, ParentClient, ParentTrouble
from headwater.cacheproxy.metrics import (
    FILL_BYTES,
    FILL_RESUMES,
    FILL_TROUBLES,
    FILLS,
    FILLS_RUNNING,
)
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.spool import Spool
from headwater.cacheproxy.store.store import Store
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
from headwater.rules.freshness import Storability
from headwater.rules.purging import Coverage
from headwater.rules.slices import WantedSlice
from headwater.runtime.logs import Log
from headwater.settings.cache import CacheSettings

# The same parent asked again at once would fail again: a restart takes about this long.
SAME_PARENT_PAUSE_S: Final = 0.25
# Followers first: a thread that writes to disk competes with the answers for the interpreter. One turn gives them the bytes, in
# the next one these are on their way.
TURNS_OF_FOLLOWERS: Final = 2
# Ends after which there is nothing to follow: the next one to ask begins anew, or finds in the store what was confirmed.
_NOTHING_TO_FOLLOW: Final = frozenset((FillState.CONFIRMED, FillState.REFUSED, FillState.CUT_OFF, FillState.CANCELLED))


@dataclass(slots=True)
class Following:
    """One client's use of a fill: whether it takes the `body`."""

    body: bool


class Fill:
    """One fill and its followers. `header` is set, or `machine.ended` holds, once `decided` is."""

    def __init__(
        self,
        order: FillOrder,
        client: ParentClient,
        store: Store,
        settings: CacheSettings,
        log: Log,
        registry: Registry,
        given: ParentAnswer | None = None,
        accounted: int | None = None,
    ) -> None:
        """`given` is an answer of the first parent that has begun already, `accounted` the purges before it was asked for."""
        self.order = order
        self.spool = Spool(store)
        self.head: Metadata | None = None  # of the object, when it is kept in slices
        self.kept = False
        self.decided = asyncio.Event()
        self.header: FillHeader | None = None
        self.followers = 0
        self.served = False  # a client had all that it wanted of it
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
            order.probe,
            WantedSlice(order.piece.head.version, order.piece.span) if order.piece else None,
        )
        self._registry = registry
        self._given = given
        self._policy = settings.slices.policy if settings.slices else None
        self._answer: ParentAnswer | None = None
        self._asked: Parent | None = None
        self._asked_at = 0.0
        self._skip = 0
        # Purges after this one cover what the fill brings; a 304 renews an object for which they were not looked at since.
        self._accounted = order.stale.accounted if order.stale else store.purges.sequence
        if accounted is not None:
            self._accounted = accounted
        self._keeping = Keeping(self, store, settings, registry, self._accounted)
        self._check = DigestCheck()

    @property
    def open_to_newcomers(self) -> bool:
        """Whether a request that arrives now may follow. Once the header is there, only while the answer is fresh: to
        those who waited for it it is as current as one of their own, to later ones it would be a stale one."""
        if self.machine.state in _NOTHING_TO_FOLLOW or self.spool.passing or self.spool.closed:
            return False
        if self.purged is not Coverage.KEPT:
            return False
        return self.header is None or (self.shareable and time.time() < self.header.fresh_until)

    @property
    def given_by_owner(self) -> bool:
        """Whether the object came from the worker that owns its key: that one keeps it, and may be writing it still."""
        return self.header is not None and self.header.outcome is not None

    @property
    def purged(self) -> Coverage:
        """What the purges since the fill began leave of its object."""
        fields = self.order.piece.fields if self.order.piece else self.header.fields if self.header else None
        return self._store.purges.of_fill(self.order.url_key, fields, self._accounted)

    @property
    def shareable(self) -> bool:
        """Whether others than the leader may use the answer (RFC 9111: only what may be stored)."""
        too_large = (self.machine.size or 0) > self._settings.max_object and self.machine.state is not FillState.SPLIT
        return self.header is None or (self._may_be_stored and not too_large)

    @property
    def _may_be_stored(self) -> bool:
        """By its terms, whatever its size."""
        return self.header is not None and self.header.storability is Storability.STORABLE

    @property
    def to_be_stored(self) -> bool:
        """Whether the answer will be stored, as far as its header and the room for it can tell."""
        framed = self.machine.header is None or self.machine.header.framed
        return self.header is not None and self.shareable and framed and not self.spool.passing

    @contextmanager
    def followed(self, *, body: bool = True) -> Iterator[Following]:
        """Held by each client while it uses the fill; when the last one leaves, the machine decides what becomes of it. One that
        wants no `body`, or turns out to, leaves it as it is."""
        following = Following(body)
        self.followers += 1
        if body:
            self.spool.join()
        try:
            yield following
        finally:
            self.followers -= 1
            if body:
                self.spool.leave()
            if self.followers == 0:
                alone = following.body and not self.machine.ended
                if alone and self.machine.on(FollowersGone(self.served)) and self.task is not None:
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
            if self._given is not None:
                self._given.close()
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
                        await self.spool.expect(self.machine.size, for_store=self._may_be_stored)
                        self.decided.set()
                    case Skip(count):
                        self._skip = count
            commands = await self._receive() if ask is None else await self._ask(ask)

    async def _ask(self, ask: Ask) -> list[FillCommand]:
        self._close_answer()
        parent = self._parents[ask.parent]
        if parent is self._asked and not ask.again:
            await asyncio.sleep(SAME_PARENT_PAUSE_S)
        self._asked = parent
        self._skip = 0
        self._asked_at = time.time()
        try:
            answer = await self._begin(ask, parent)
        except ParentTrouble as error:
            return self._failed(error)
        self._answer = answer
        if answer.refuses_this_node and parent.ours:
            return self._failed(ParentTrouble(FillTrouble.REFUSED, f"{parent.name} does not know this node"))
        header = noted_header(answer, parent, self.order, self._asked_at, self._settings.negative_ttl)
        event = self._event(answer, parent, header)
        commands = self.machine.on(event)
        if Announce() in commands or self.machine.state is FillState.SPLIT:
            self._note_header(answer, header)
        if self.machine.state is FillState.ASKING:
            self._count_trouble(self.machine.trouble)
        return commands

    async def _begin(self, ask: Ask, parent: Parent) -> ParentAnswer:
        """The parent's answer, of which only the header is there. Raises ParentTrouble."""
        if self._given is not None:
            given, self._given = self._given, None
            return given
        fields = self.order.fields
        if self.machine.received:
            FILL_RESUMES.inc()
        elif self.machine.confirms is not None:
            tagged = self.machine.confirms.startswith(('"', "W/"))
            fields = (*fields, ("If-None-Match" if tagged else "If-Modified-Since", self.machine.confirms))
        if ask.offset or ask.last is not None:
            fields = (*fields, ("Range", f"bytes={ask.offset}-{'' if ask.last is None else ask.last}"))
            if ask.if_range is not None:
                fields = (*fields, ("If-Range", ask.if_range))
        if self.order.piece is not None:  # who has another version says so without a body
            fields = (*fields, ("If-Match", self.order.piece.head.version.etag))
        return await self._client.ask(parent, self.order.path, fields, on_interim=self.order.on_interim)

    def _event(self, answer: ParentAnswer, parent: Parent, header: FillHeader) -> HeaderArrived:
        event = header_event(answer, parent)
        if self.order.piece is not None:
            # The same bytes under terms that forbid to keep them are another response.
            storable = header.storability is Storability.STORABLE or answer.status not in (200, 206)
            return event if storable else replace(event, etag=None)
        if self._policy is None:
            return event
        asked = replace(self.order, probe=self.machine.probe)
        version = sliced_version(self._policy, asked, event, header)
        return replace(event, sliced=version is not None and self._registry.trusts(self.order.key, version))

    def _note_header(self, answer: ParentAnswer, header: FillHeader) -> None:
        """The first usable header is the one that all followers see."""
        if self.order.piece is not None:
            self.header = replace(header, fields=self.order.piece.fields, fresh_until=math.inf)
            self._check = DigestCheck(digest_of(answer.fields, "content-digest") if answer.status == 206 else None)
            return
        self.header = header
        self._check = DigestCheck(digest_of(header.fields, "repr-digest") if header.status == 200 else None)

    async def _receive(self) -> list[FillCommand]:
        """Reads the body until the machine wants something."""
        assert self._answer is not None
        try:
            async for chunk in self._answer.body():
                if self.order.piece is not None:
                    chunk = chunk[: self.order.piece.span.length - self.machine.received]
                if not self._of_owner:
                    FILL_BYTES.inc(len(chunk))
                if commands := self.machine.on(BytesArrived(len(chunk))):
                    return commands
                if self._skip:
                    skipped = min(self._skip, len(chunk))
                    self._skip -= skipped
                    chunk = chunk[skipped:]
                size = self.machine.size
                if passed := self._check.feed(chunk, is_last=None if size is None else self.machine.received >= size):
                    await self.spool.append(passed)
                if self.order.piece is not None and self.machine.received == self.machine.size:
                    break  # the answer may be one for the whole object, of which this slice is the beginning
        except ParentTrouble as error:
            if self.machine.size is None or self.machine.received < self.machine.size:
                return self._failed(error)  # else every byte came before the connection broke
        digest_holds, held = self._check.end()
        if held:
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
                for _ in range(TURNS_OF_FOLLOWERS):
                    await asyncio.sleep(0)
                self.kept = await self._keeping.keep()
            case FillState.CONFIRMED:
                assert self._answer is not None
                await self._keeping.confirm(self._answer.fields, self._asked_at)
            case FillState.SPLIT:
                await self._split()
            case FillState.REFUSED | FillState.CUT_OFF:
                self._log.warning("fill failed", key=self.order.key, state=end.state, trouble=end.trouble)
            case _:
                pass

    async def _split(self) -> None:
        """The object is kept in slices; the answer that showed it to be so goes on as the fill of its first one."""
        assert self._policy is not None
        assert self._asked is not None
        self.head, order = await self._keeping.sliced(self._policy, self._asked)
        if self._answer is not None and self._registry.begin_slice(order, self._answer, self._accounted):
            self._answer = None
        # After the slice's fill has begun: who finds the head finds that too.
        await self._keeping.keep_head(self.head)

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
