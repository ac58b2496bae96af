"""Warm handoff: before viewers move, the edges that gain buckets fetch what is hot of them from the edges that lose them.

Bounded in bytes, rate and time. What fails costs a miss later, never the rollout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from control.metrics import HANDED_OVER
from control.watching.fleet import Fleet, NoAnswer
from headwater.rules.planning import Move
from headwater.rules.warmorder import OBJECTS_AT_ONCE, Wanted, WarmOrder, WarmOutcome, WarmReport
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Health
from headwater.settings.staging import Handoff

ORDER_S: Final = 10.0  # about how long one order takes: between two of them a handoff can be stopped
OBJECTS_LISTED: Final = 20_000

Say = Callable[[str], None]


class Allowance(Protocol):
    """What one edge may fetch: bytes in all, bits per second."""

    @property
    def size(self) -> int: ...

    @property
    def bandwidth(self) -> int: ...


async def hand_over(
    fleet: Fleet, deployment: Deployment, moves: Sequence[Move], health: Mapping[str, Health], settings: Handoff, say: Say
) -> None:
    """Returns when every gaining edge has what it may have, or time is over."""
    targets: dict[str, list[Move]] = {}
    for move in moves:
        targets.setdefault(move.target, []).append(move)
    if not targets or settings.size == 0:
        say("nothing to fetch ahead: " + ("handoff.size is 0 B" if targets else "no edge gains another one's buckets"))
        return
    try:
        async with asyncio.timeout(settings.longest):
            await asyncio.gather(
                *(_fill(fleet, deployment, target, gained, health, settings, say) for target, gained in targets.items())
            )
    except TimeoutError:
        say(f"viewers move although objects are missing still: control.staging.handoff.longest ({settings.longest:g} s) is over")


async def _fill(
    fleet: Fleet,
    deployment: Deployment,
    target: str,
    moves: Sequence[Move],
    health: Mapping[str, Health],
    settings: Handoff,
    say: Say,
) -> None:
    """Everything for one gaining edge."""
    report, wanted = WarmReport(), await _wanted(fleet, deployment, moves, health, say)
    try:
        for part in parts_of(wanted, settings):
            order = WarmOrder(part, settings.concurrency, settings.bandwidth)
            done = await fleet.warm(deployment, target, order)
            HANDED_OVER.inc(done.size_bytes)
            report.add(done)
    except NoAnswer as error:
        say(f"{target} does not go on fetching: {error}")
    finally:
        say(f"{target} {told(report)}")


def told(report: WarmReport) -> str:
    """A report as a sentence without its subject."""
    givers = ", ".join(f"{count} from {parent}" for parent, count in sorted(report.by_parent.items(), key=lambda one: -one[1]))
    text = f"fetched {report.counts[WarmOutcome.FETCHED]} objects, {report.size_bytes / 1e6:,.1f} MB ahead"
    text += f" ({givers})" if givers else ""
    if report.counts[WarmOutcome.PRESENT]:
        text += f"; {report.counts[WarmOutcome.PRESENT]} were there"
    if report.counts[WarmOutcome.FAILED]:
        key, reason = report.failures[0] if report.failures else ("", "")
        text += f"; {report.counts[WarmOutcome.FAILED]} failed, such as {key}: {reason}"
    return text


async def _wanted(
    fleet: Fleet, deployment: Deployment, moves: Iterable[Move], health: Mapping[str, Health], say: Say
) -> list[tuple[Wanted, int]]:
    """What one edge should fetch, hottest first: the loser's list; a loser that is away leaves the word to the shields."""
    lists: list[list[tuple[Wanted, int]]] = []
    for move in moves:
        sources = [move.source] if health.get(move.source) != "down" else []
        for source in (*sources, *deployment.shields):
            try:
                objects = await fleet.hottest(deployment, source, move.buckets, OBJECTS_LISTED)
            except NoAnswer as error:
                say(f"no list of what is hot at {source}: {error}")
                continue
            lists.append([(Wanted(key, (source,) if source == move.source else ()), size) for key, size in objects])
            if source == move.source:
                break
    return interleaved(lists)


def interleaved(lists: Sequence[Sequence[tuple[Wanted, int]]]) -> list[tuple[Wanted, int]]:
    """The hottest of each first; an object named twice is fetched from whoever named it first."""
    found: dict[str, tuple[Wanted, int]] = {}
    for place in range(max(map(len, lists), default=0)):
        for entries in lists:
            if place < len(entries):
                found.setdefault(entries[place][0].key, entries[place])
    return list(found.values())


def parts_of(wanted: Iterable[tuple[Wanted, int]], settings: Allowance) -> Iterable[tuple[Wanted, ...]]:
    """Orders of a few seconds each, within the bytes that are allowed."""
    left, part, part_bytes = settings.size, list[Wanted](), 0
    most_bytes = settings.bandwidth / 8 * ORDER_S
    for one, size_bytes in wanted:
        if size_bytes > left:
            continue
        left -= size_bytes
        if part and (len(part) >= OBJECTS_AT_ONCE or part_bytes + size_bytes > most_bytes):
            yield tuple(part)
            part, part_bytes = [], 0
        part.append(one)
        part_bytes += size_bytes
    if part:
        yield tuple(part)
