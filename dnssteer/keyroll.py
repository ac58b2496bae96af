"""Rollover of a zone's DNSSEC keys: which keys are published, which sign what, when the next step is due. Pure; time is given.

    zsk:  published -> active -> retired -> gone      pre-publish (RFC 6781 section 4.1.1.1)
    ksk:  published -> submitted -> active -> gone    double signature, the parent told by CDS (RFC 7344, RFC 8078)

The law: whatever mixture of DS, DNSKEY set and signatures a resolver still keeps within their TTLs, it validates. So

- a *published* key is in the DNSKEY set, and nobody needs it yet. Every ksk that is there signs that set from its first moment;
- when each DNSKEY set without it has run out, a zsk signs, and a ksk is *submitted*: CDS and CDNSKEY ask the parent for it;
- a zsk that signs no more is *retired* until the last of its signatures has run out;
- a submitted ksk waits for the parent, however long that takes. When each DS set from before that has run out, it is *active*,
  and the one before it is gone.

A ksk signs the zone too while there is no active zsk: so do zones of one key, as earlier versions had them.
Every wait is counted from when a step was really made, and made longer by `propagation_s` for servers that take it later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a key is for: `ksk` signs the keys and is what the parent's DS names, `zsk` signs all else."""

    KSK = "ksk"
    ZSK = "zsk"


class State(StrEnum):
    """Where a key is on its way."""

    PUBLISHED = "published"
    SUBMITTED = "submitted"
    ACTIVE = "active"
    RETIRED = "retired"


class Step(StrEnum):
    """What happened to a key; also the metric's label."""

    PUBLISHED = "published"
    SUBMITTED = "submitted"
    DS_SEEN = "ds_seen"
    ACTIVATED = "activated"
    RETIRED = "retired"
    REMOVED = "removed"


class CannotRoll(Exception):
    """The order does not fit the keys as they are; the message says what to do."""


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """One key: its tag, where it is since when (unix seconds), and since when the parent is known to have its DS."""

    tag: int
    role: Role
    state: State
    since: float
    ds_seen_at: float | None = None
    ds_ttl_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Timing:
    """`key_ttl_s` is the TTL of the DNSKEY set, `max_ttl_s` the longest of what a zsk signs. `zsk_every_s` and `ksk_every_s`: the
    age at which a key is replaced without being told to; None: never."""

    key_ttl_s: float
    max_ttl_s: float
    propagation_s: float
    zsk_every_s: float | None = None
    ksk_every_s: float | None = None

    def every_s(self, role: Role) -> float | None:
        return self.zsk_every_s if role is Role.ZSK else self.ksk_every_s


@dataclass(frozen=True, slots=True)
class Moved:
    """One step of one key."""

    tag: int
    role: Role
    step: Step


Keys = tuple[KeyPlace, ...]
NEVER: Final = float("inf")


def of(keys: Keys, role: Role, *states: State) -> list[KeyPlace]:
    """The keys of a role, in these states, the oldest first."""
    return sorted((key for key in keys if key.role is role and key.state in (states or tuple(State))), key=lambda key: key.since)


def signs_keys(keys: Keys) -> list[KeyPlace]:
    """The keys that sign the sets DNSKEY, CDS and CDNSKEY."""
    return of(keys, Role.KSK)


def signs_zone(keys: Keys) -> KeyPlace:
    """The key that signs everything else."""
    return (of(keys, Role.ZSK, State.ACTIVE) or of(keys, Role.KSK, State.ACTIVE))[-1]


def wanted_at_parent(keys: Keys) -> KeyPlace:
    """The key that CDS and CDNSKEY name."""
    return (of(keys, Role.KSK, State.SUBMITTED) or of(keys, Role.KSK, State.ACTIVE))[-1]


def refusal(keys: Keys, role: Role) -> str | None:
    """Why no rollover of `role` may begin now; None: it may."""
    running = [key for key in of(keys, role) if key.state is not State.ACTIVE]
    if running:
        key = running[0]
        return f"{role} {key.tag} is {key.state}: a rollover is under way, and the next one begins when it is over"
    if role is Role.KSK and not of(keys, Role.ZSK, State.ACTIVE):
        return "the zone has one key for everything: roll its zsk first"
    return None


def due(keys: Keys, now: float, timing: Timing) -> list[Role]:
    """The roles whose rollover should begin by itself."""
    found = []
    for role in Role:
        every_s, active = timing.every_s(role), of(keys, role, State.ACTIVE)
        # A zone of one key has no zsk yet: it gets one, as soon as keys are to be replaced at all.
        old = not active or now - active[-1].since >= (every_s or NEVER)
        if every_s is not None and old and refusal(keys, role) is None:
            found.append(role)
    return found


def begun(keys: Keys, role: Role, tag: int, now: float) -> Keys:
    """The keys with a new one of `role`. Raises CannotRoll."""
    why = refusal(keys, role)
    if why is not None:
        raise CannotRoll(why)
    return (*keys, KeyPlace(tag, role, State.PUBLISHED, now))


def ds_seen(keys: Keys, now: float, ttl_s: float) -> Keys:
    """The parent has the DS of the submitted key; its DS sets live for `ttl_s`. Raises CannotRoll when none is submitted."""
    submitted = of(keys, Role.KSK, State.SUBMITTED)
    if not submitted:
        raise CannotRoll("no key is submitted to the parent: see `headwater dns keys list` for what comes next")
    if submitted[0].ds_seen_at is not None:
        return keys
    return _with(keys, replace(submitted[0], ds_seen_at=now, ds_ttl_s=ttl_s))


def due_at(key: KeyPlace, keys: Keys, timing: Timing) -> float | None:
    """When the key's next step is due; None: when somebody else makes it."""
    match key.role, key.state:
        case _, State.PUBLISHED:
            return key.since + timing.key_ttl_s + timing.propagation_s
        case Role.ZSK, State.RETIRED:
            return key.since + timing.max_ttl_s + timing.propagation_s
        case Role.KSK, State.SUBMITTED if key.ds_seen_at is not None:
            # The key before it may have signed the zone until there was a zsk: those signatures have to run out too.
            zsk_since = of(keys, Role.ZSK, State.ACTIVE)[0].since
            return max(key.ds_seen_at + key.ds_ttl_s, zsk_since + timing.max_ttl_s) + timing.propagation_s
    return None


def advanced(keys: Keys, now: float, timing: Timing) -> tuple[Keys, list[Moved]]:
    """(the keys after every step that is due, those steps)."""
    moved: list[Moved] = []
    for key in keys:
        at = due_at(key, keys, timing)
        if at is None or now < at:
            continue
        keys, steps = _stepped(keys, key, now)
        moved += [Moved(tag, key.role, step) for tag, step in steps]
    return keys, moved


def _stepped(keys: Keys, key: KeyPlace, now: float) -> tuple[Keys, list[tuple[int, Step]]]:
    before = of(keys, key.role, State.ACTIVE)
    if key.state is State.RETIRED:
        return _without(keys, [key]), [(key.tag, Step.REMOVED)]
    if key.role is Role.KSK and key.state is State.PUBLISHED:
        return _with(keys, replace(key, state=State.SUBMITTED, since=now)), [(key.tag, Step.SUBMITTED)]
    keys = _with(keys, replace(key, state=State.ACTIVE, since=now))
    if key.role is Role.KSK:
        return _without(keys, before), [(key.tag, Step.ACTIVATED), *((old.tag, Step.REMOVED) for old in before)]
    for old in before:
        keys = _with(keys, replace(old, state=State.RETIRED, since=now))
    return keys, [(key.tag, Step.ACTIVATED), *((old.tag, Step.RETIRED) for old in before)]


def _with(keys: Keys, changed: KeyPlace) -> Keys:
    return tuple(changed if key.tag == changed.tag else key for key in keys)


def _without(keys: Keys, gone: Sequence[KeyPlace]) -> Keys:
    tags = {key.tag for key in gone}
    return tuple(key for key in keys if key.tag not in tags)
