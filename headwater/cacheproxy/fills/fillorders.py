"""What a fill is to fetch, and the header that it got."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.cacheproxy.fills.interim import OnInterim
from headwater.cacheproxy.fills.parents import Parent
from headwater.cacheproxy.fills.pieces import Piece
from headwater.cacheproxy.store.metadata import Metadata
from headwater.rules.cachestatus import Outcome
from headwater.rules.fields import Fields
from headwater.rules.freshness import Storability
from headwater.rules.ranges import Single


@dataclass(frozen=True, slots=True)
class FillOrder:
    """What to fetch. `fields` go to the parent as they are; `asked` are the client's, which select a variant; `stale` is the
    stored object that a 304 would confirm; `relays_errors` lets a last 5xx pass as an answer; `on_interim` hears 1xx.

    `probe` are the bytes to ask for while nothing is known of the object; a `piece` is fetched alone.
    """

    key: str
    path: str
    parents: tuple[Parent, ...]
    fields: Fields
    asked: Fields = ()
    stale: Metadata | None = None
    relays_errors: bool = False
    on_interim: OnInterim | None = None
    probe: Single | None = None
    piece: Piece | None = None

    @property
    def url_key(self) -> str:
        return self.key if self.piece is None else self.piece.url_key


@dataclass(frozen=True, slots=True)
class FillHeader:
    """The answer that followers pass on. Times are Unix seconds."""

    status: int
    fields: Fields
    size: int | None
    parent: str
    storability: Storability
    request_time: float
    response_time: float
    fresh_until: float
    outcome: Outcome | None = None  # how the worker that owns the key came by it, when it was asked
