"""How popular an object is, and where it should therefore live. Pure: times are Unix seconds, given by the caller.

Heat is a sum over reads of exp(-age / 1 h): an object read steadily r times an hour has a heat of r.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from origin.objects.interface import ObjectInfo

DECAY_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Heat:
    """`score` is the heat as it was at `read_at`, the last read."""

    score: float
    read_at: float

    def at(self, now: float) -> float:
        """Reads an hour, as seen from `now`."""
        return self.score * math.exp(-max(0.0, now - self.read_at) / DECAY_S)

    def merged(self, other: Heat) -> Heat:
        """The heat of both together, whichever is older."""
        last = max(self.read_at, other.read_at)
        return Heat(self.at(last) + other.at(last), last)


def one_read(now: float) -> Heat:
    return Heat(1.0, now)


@dataclass(frozen=True, slots=True)
class TierRule:
    """When objects leave a tier: down after `demote_after_s` without a read, up at `promote_at` reads an hour."""

    name: str
    demote_after_s: float | None
    promote_at: float | None


class MoveReason(StrEnum):
    """Why an object leaves a tier; also the metric's label."""

    POPULAR = "popular"
    UNREAD = "unread"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Move:
    """`target` is None for a copy that a hotter tier shadows and that only needs to go."""

    info: ObjectInfo
    source: str
    target: str | None
    reason: MoveReason


def decide_moves(
    now: float, rules: Sequence[TierRule], placed: Sequence[tuple[str, ObjectInfo]], heats: Mapping[str, Heat]
) -> list[Move]:
    """What should move of `placed`, pairs of (tier, object); all copies of one key must be among them.

    An object moves one tier at a time. Its hottest copy is the present one; the others go before anything else is done.
    """
    order = {rule.name: place for place, rule in enumerate(rules)}
    hottest: dict[str, tuple[str, ObjectInfo]] = {}
    for tier, info in placed:
        held = hottest.get(info.key)
        if held is None or order[tier] < order[held[0]]:
            hottest[info.key] = (tier, info)
    moves = []
    for tier, info in placed:
        if hottest[info.key] != (tier, info):
            moves.append(Move(info, tier, None, MoveReason.DUPLICATE))
        elif move := _move(now, rules, order[tier], info, heats.get(info.key)):
            moves.append(move)
    return moves


def _move(now: float, rules: Sequence[TierRule], place: int, info: ObjectInfo, heat: Heat | None) -> Move | None:
    rule = rules[place]
    if place > 0 and rule.promote_at is not None and heat is not None and heat.at(now) >= rule.promote_at:
        return Move(info, rule.name, rules[place - 1].name, MoveReason.POPULAR)
    # What was never read counts as read when it was made.
    last_used = max(info.modified_at, heat.read_at if heat else 0.0)
    if rule.demote_after_s is not None and place + 1 < len(rules) and now - last_used >= rule.demote_after_s:
        return Move(info, rule.name, rules[place + 1].name, MoveReason.UNREAD)
    return None
