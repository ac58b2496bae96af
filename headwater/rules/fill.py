"""A fill: fetching one object from a parent, resumed at its byte offset when a parent dies. Pure: events in, commands out.

States
    ASKING      a parent was asked; no usable header yet (at first, or again for a resumption)
    RECEIVING   body bytes arrive
    COMPLETE    every byte is in and its digest held: the object may be stored
    CONFIRMED   a parent answered 304: the stored object is still the one
    REFUSED     no parent gave a usable header; nothing was sent to any client
    CUT_OFF     the body broke and no parent could resume it: clients must be able to tell, nothing is stored
    CANCELLED   nobody follows any more and too little was in
    SPLIT       the object is to be kept in slices (`headwater.rules.slices`), each of which is a fill of its own

A fill of one slice knows the `version` and the `span` of bytes before it asks; its first header is no news, only a proof.

Law
    - Unfinished is never end-of-file: COMPLETE is reached only by a framed end with the announced length and digest.
    - Bytes of two versions are never mixed: a resumption needs the same strong validator, and the same length where the first
      parent told one. Where it did not (chunks), the length that the resuming part tells is the object's from then on.
    - Each parent in `parents` is asked at most once, in order; a caller that wants a second try names it twice. Only after
      a `probe` (a question for one slice of an object that nobody knows yet) the same parent may be asked for the whole.
    - A slice is of the version that was asked for, or it fails: `disproved` then says that a parent had another
      version, or did not give the part, so that the object cannot go on in slices.
    - An end state is final; later events change nothing and command nothing.
    - A slice of which a client had its part is fetched to its end; a fill that nobody waits for any more is not, unless most
      is in.
    - When followers leave and a parent fails in the same moment, leaving wins: nobody is there to resume for.

Rejected: asking two parents at once for one fill (doubles the load on the tier that is in trouble).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from headwater.rules.ranges import Single
from headwater.rules.slices import WantedSlice, is_strong


class FillState(StrEnum):
    ASKING = "asking"
    RECEIVING = "receiving"
    COMPLETE = "complete"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    CUT_OFF = "cut_off"
    CANCELLED = "cancelled"
    SPLIT = "split"


END_STATES = frozenset(FillState) - {FillState.ASKING, FillState.RECEIVING}


class FillTrouble(StrEnum):
    """What can go wrong with one parent; the label of logs and metrics."""

    CONNECT = "connect_failed"
    NO_HEADER = "first_byte_timeout"
    RESET = "connection_lost"
    STALLED = "stalled"
    SHORT = "body_short"
    LONG = "body_long"
    SERVER_ERROR = "server_error"
    REFUSED = "refused_by_parent"
    CHANGED = "validator_changed"
    DIGEST = "digest_wrong"
    BAD_RESPONSE = "bad_response"
    NO_PARENT = "no_parent"
    NO_SOCKET = "no_socket"  # this node had none to ask with: no parent's fault


# -- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeaderArrived:
    """A parent's header. `size` is of the whole representation, None while unknown; `part` is of a 206.

    `framed` says whether the body's end can be told from a broken connection (length or chunks). `of_owner`: another worker of
    this node, which owns the key, has asked the parents already; `trouble` is what it met when none gave an answer.
    `sliced`: the object is one that is to be kept in slices.
    """

    status: int
    etag: str | None
    size: int | None
    framed: bool = True
    part: Single | None = None
    of_owner: bool = False
    trouble: FillTrouble | None = None
    sliced: bool = False


@dataclass(frozen=True, slots=True)
class BytesArrived:
    count: int


@dataclass(frozen=True, slots=True)
class BodyEnded:
    """The parent's body ended as its framing said; `digest_holds` is None where no digest was given."""

    digest_holds: bool | None


@dataclass(frozen=True, slots=True)
class ParentFailed:
    trouble: FillTrouble


@dataclass(frozen=True, slots=True)
class FollowersGone:
    """No client follows the fill any more; `served`: one of them had every byte that it asked for."""

    served: bool = False


FillEvent = HeaderArrived | BytesArrived | BodyEnded | ParentFailed | FollowersGone

# -- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask `parent` for the object from byte `offset` to `last` (None: to its end); `if_range` is the validator that must still
    hold. `again`: it has just answered, but the question was not right."""

    parent: str
    offset: int
    if_range: str | None
    last: int | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Announce:
    """The header is final: followers may be answered."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The parent sends everything from byte 0 again: drop the first `count` bytes."""

    count: int


@dataclass(frozen=True, slots=True)
class End:
    """The fill is over in `state`; `trouble` says why when it is not a good end."""

    state: FillState
    trouble: FillTrouble | None = None


FillCommand = Ask | Announce | Skip | End


@dataclass(slots=True)
class FillMachine:
    """One fill. `confirms` is the stored object's validator when this fill revalidates it; `relays_errors` says whether the
    last parent's 5xx is an answer to pass on (an ordinary site's) or a failed parent (a tier of ours). `probe` are the bytes to
    ask for while nothing is known of the object; `wanted` makes the fill one of a slice of an object that is known."""

    parents: tuple[str, ...]
    keep_filling_from: float
    confirms: str | None = None
    relays_errors: bool = False
    probe: Single | None = None
    wanted: WantedSlice | None = None
    state: FillState = FillState.ASKING
    received: int = 0
    resumes: int = 0
    header: HeaderArrived | None = None
    trouble: FillTrouble | None = None
    disproved: bool = False
    _asked: int = 0
    _skip: int = field(default=0)

    @property
    def ended(self) -> bool:
        return self.state in END_STATES

    @property
    def size(self) -> int | None:
        """Of what this fill fetches: the whole object, or its slice."""
        if self.wanted is not None:
            return self.wanted.span.length
        return self.header.size if self.header else None

    def start(self) -> list[FillCommand]:
        return self._ask_next(FillTrouble.NO_PARENT)

    def on(self, event: FillEvent) -> list[FillCommand]:
        """The commands that `event` leads to, in order."""
        if self.ended:
            return []
        match event:
            case HeaderArrived() if self.wanted is not None:
                return self._on_slice_header(event, self.wanted)
            case HeaderArrived():
                return self._on_header(event) if self.header is None else self._on_resumed_header(event, self.header)
            case BytesArrived(count):
                return self._on_bytes(count)
            case BodyEnded(digest_holds):
                return self._on_end(digest_holds)
            case ParentFailed(trouble):
                return self._ask_next(trouble)
            case FollowersGone(served):
                return self._on_alone(served)

    def _on_header(self, event: HeaderArrived) -> list[FillCommand]:
        if event.trouble is not None and event.trouble is not FillTrouble.NO_PARENT:
            return self._end(FillState.REFUSED, event.trouble)
        is_answer = self.relays_errors and (event.of_owner or self._asked == len(self.parents)) and event.trouble is None
        if 500 <= event.status < 600 and not is_answer:
            return self._ask_next(FillTrouble.SERVER_ERROR)
        if event.status == 304:
            return self._end(FillState.CONFIRMED) if self.confirms else self._ask_next(FillTrouble.BAD_RESPONSE)
        if self.probe is not None and event.status in (206, 416) and not event.sliced:
            whole = event.part is not None and event.size == event.part.length
            if event.status == 416 or not whole:
                return self._ask_again(Single(0, self.probe.length - 1) if event.status == 416 and self.probe.first else None)
            event = replace(event, status=200, part=None)  # RFC 9111 section 3.4: a part that is everything
        if event.status == 206 and not (event.sliced and self.probe is not None):
            return self._ask_next(FillTrouble.BAD_RESPONSE)  # no range was asked for
        self.header = event
        if event.sliced:
            return self._end(FillState.SPLIT)
        self.state = FillState.RECEIVING
        return [Announce()]

    def _ask_again(self, probe: Single | None) -> list[FillCommand]:
        """The parent has the object, but a part of it tells too little: for its beginning, or the whole."""
        self.probe = probe
        parent = self.parents[self._asked - 1]
        return [Ask(parent, probe.first, None, probe.last, True) if probe else Ask(parent, 0, None, again=True)]

    def _on_slice_header(self, event: HeaderArrived, wanted: WantedSlice) -> list[FillCommand]:
        """A slice's header adds nothing to what is known; it only shows whether this is the version that was asked for."""
        if event.trouble is not None and event.trouble is not FillTrouble.NO_PARENT:
            self.disproved |= event.trouble is FillTrouble.CHANGED
            return self._end(FillState.REFUSED if self.header is None else FillState.CUT_OFF, event.trouble)
        if event.status >= 500:
            return self._ask_next(FillTrouble.SERVER_ERROR)
        held = event.status in (200, 206) and (event.etag, event.size) == (wanted.version.etag, wanted.version.total)
        if not held and event.status in (200, 206, 404, 410, 412, 416):
            self.disproved = True
            return self._ask_next(FillTrouble.CHANGED)
        at = wanted.span.first + self.received
        as_asked = event.part == Single(at, wanted.span.last) if event.status == 206 else at == 0
        if not held or not as_asked:
            # It gives no parts, or others than it is asked for; or takes the conditions of the question for others (304).
            self.disproved |= event.status in (200, 206, 304)
            return self._ask_next(FillTrouble.BAD_RESPONSE)
        self.state = FillState.RECEIVING
        if self.header is not None:
            return []
        self.header = event
        return [Announce()]

    def _on_resumed_header(self, event: HeaderArrived, first: HeaderArrived) -> list[FillCommand]:
        if event.status >= 500:
            return self._ask_next(FillTrouble.SERVER_ERROR)
        if event.etag != first.etag or (first.size is not None and event.size != first.size):
            return self._ask_next(FillTrouble.CHANGED)
        if event.size is not None and event.size < self.received:
            return self._ask_next(FillTrouble.CHANGED)
        if event.status == 206 and event.size is not None and event.part is not None and event.part.first == self.received:
            self._now_known(event, first)
            return []
        if event.status == first.status == 200:
            self._now_known(event, first)
            self._skip = self.received
            return [Skip(self.received)]
        return self._ask_next(FillTrouble.BAD_RESPONSE)

    def _now_known(self, event: HeaderArrived, first: HeaderArrived) -> None:
        """A resumption begins; what it tells of the body's end counts where the first parent did not tell it."""
        self.state = FillState.RECEIVING
        size = event.size if first.size is None else first.size
        self.header = replace(first, size=size, framed=event.framed or size is not None)

    def _on_bytes(self, count: int) -> list[FillCommand]:
        skipped = min(self._skip, count)
        self._skip -= skipped
        self.received += count - skipped
        if self.size is not None and self.received > self.size:
            return self._end(FillState.CUT_OFF, FillTrouble.LONG)
        return []

    def _on_end(self, digest_holds: bool | None) -> list[FillCommand]:
        if self.state is not FillState.RECEIVING or self._skip:
            return self._ask_next(FillTrouble.SHORT)
        if self.size is not None and self.received < self.size:
            return self._ask_next(FillTrouble.SHORT)
        if digest_holds is False:
            return self._end(FillState.CUT_OFF, FillTrouble.DIGEST)
        return self._end(FillState.COMPLETE)

    def _on_alone(self, served: bool) -> list[FillCommand]:
        """A slice is asked for to be kept, also for those who want a part of it: a client that had its part has not given up."""
        if self.wanted is not None and served:
            return []
        most_is_in = self.size is not None and self.received >= self.keep_filling_from * self.size
        if self.header is not None and most_is_in:
            return []
        return self._end(FillState.CANCELLED)

    def _ask_next(self, trouble: FillTrouble) -> list[FillCommand]:
        """The next parent, from where the bytes stop; or the end that clients can tell."""
        self.trouble = trouble
        self._skip = 0
        if self._asked >= len(self.parents):
            return self._end(FillState.REFUSED if self.header is None else FillState.CUT_OFF, trouble)
        if self.header is not None and self.wanted is None and not self._resumable(self.header):
            return self._end(FillState.CUT_OFF, trouble)
        parent = self.parents[self._asked]
        self._asked += 1
        self.state = FillState.ASKING
        self.resumes += self.header is not None
        if self.wanted is not None:
            span = self.wanted.span
            return [Ask(parent, span.first + self.received, self.wanted.version.etag, span.last)]
        if self.header is None and self.probe is not None:
            return [Ask(parent, self.probe.first, None, self.probe.last)]
        if self.header is None:
            return [Ask(parent, 0, None)]
        return [Ask(parent, self.received, self.header.etag)]

    def _resumable(self, header: HeaderArrived) -> bool:
        """Only a strong validator proves that the rest belongs to what was sent: all bytes are the same (RFC 9110 8.8.1)."""
        return is_strong(header.etag) and header.status == 200

    def _end(self, state: FillState, trouble: FillTrouble | None = None) -> list[FillCommand]:
        self.state = state
        self.trouble = trouble
        return [End(state, trouble)]
