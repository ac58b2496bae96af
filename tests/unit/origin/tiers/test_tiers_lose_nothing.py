"""The law of the tiers, under every interleaving that Hypothesis finds: readers, writers and the mover, killed at any step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.objects.interface import ObjectNotFound, ObjectStoreFailed
from origin.tiers.heat import Move, MoveReason
from origin.tiers.mover import MoveOutcome, Mover
from origin.tiers.store import PlacedStore, TieredStore
from tests.support.memory_store import MemoryObjects

KEY = "videos/v/master.m3u8"
TIERS = ("hot", "warm", "cold")


class Step(Awaitable[None]):
    """A point where whoever drives the coroutine may let another one go on."""

    def __await__(self) -> Generator[None, None, None]:
        yield


async def step() -> None:
    await Step()


@dataclass
class World:
    """Three tiers in memory and what was written to them; coroutines are driven by hand, so that the test owns the order."""

    stores: dict[str, MemoryObjects] = field(default_factory=lambda: {name: MemoryObjects(step) for name in TIERS})
    #: Versions in the order of their writes' beginnings, with whether the write has returned.
    written: list[bytes] = field(default_factory=list)
    finished: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.objects = TieredStore([PlacedStore(name, store) for name, store in self.stores.items()])
        self.mover = Mover(self.objects, [], tracker=None, clock=lambda: 0.0, log=structlog.get_logger())  # type: ignore[arg-type]
        self.mover._rules = tuple(_rule(name) for name in TIERS)

    async def write(self, body: bytes) -> None:
        self.written.append(body)
        await self.objects.put_bytes(KEY, body, "x/y")
        self.finished.add(body)

    async def read(self) -> None:
        """What is read is never older than what was finished before the read began."""
        newest_before = max((self.written.index(body) for body in self.finished), default=-1)
        try:
            body = b"".join([chunk async for chunk in self.objects.read(KEY)])
        except ObjectNotFound:
            pytest.fail("an object that is stored was not found")
        assert body in self.written
        assert self.written.index(body) >= newest_before, "an older version came back"

    async def move(self, source: str, target: str | None) -> None:
        """As the mover does: it decides by what it saw, and carries out later."""
        held = self.stores[source].held.get(KEY)
        hotter = TIERS[: TIERS.index(source)]
        if held is None or (target is None and not any(KEY in self.stores[name].held for name in hotter)):
            return
        await step()
        outcome = await self.mover.carry_out(Move(held[0], source, target, MoveReason.UNREAD))
        assert outcome is not MoveOutcome.FAILED


def _rule(name: str) -> Any:
    from origin.tiers.heat import TierRule

    return TierRule(name, None, None)


def drive(coroutine: Coroutine[Any, Any, None]) -> bool:
    """One step; False when it has ended."""
    try:
        coroutine.send(None)
    except StopIteration:
        return False
    return True


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    while drive(coroutine):
        pass


MOVES: list[tuple[str, str | None]] = [
    ("hot", "warm"), ("warm", "cold"), ("warm", "hot"), ("cold", "warm"), ("warm", None), ("cold", None),
]  # fmt: skip


def interleaved(
    draw: Callable[[int], int], world: World, moves: list[tuple[str, str | None]], *, writes: int, reads: int
) -> None:
    """One writer, one mover and one reader, each doing its things one after another, in the order that `draw` says."""
    scripts: dict[str, list[Callable[[], Coroutine[Any, Any, None]]]] = {
        "writer": [partial(world.write, f"version {number}".encode() * (number + 1)) for number in range(writes)],
        "mover": [partial(world.move, source, target) for source, target in moves],
        "reader": [world.read] * reads,
    }
    running: dict[str, Coroutine[Any, Any, None]] = {}
    while names := [name for name in scripts if scripts[name] or name in running]:
        name = names[draw(len(names) - 1)]
        if name not in running:
            running[name] = scripts[name].pop(0)()
        if not drive(running[name]):
            del running[name]


@settings(max_examples=400, deadline=None)
@given(data=st.data(), moves=st.lists(st.sampled_from(MOVES), max_size=5), start=st.sampled_from(TIERS))
def test_an_object_is_always_readable_and_never_old_while_it_moves_and_is_replaced(
    data: st.DataObject, moves: list[tuple[str, str | None]], start: str
) -> None:
    world = World()
    finish(world.write(b"first"))
    for source, target in (("hot", "warm"), ("warm", "cold"))[: TIERS.index(start)]:
        finish(world.move(source, target))
    interleaved(lambda top: data.draw(st.integers(0, top)), world, moves, writes=2, reads=3)
    finish(world.read())
    assert sum(KEY in store.held for store in world.stores.values()) >= 1


@settings(max_examples=300, deadline=None)
@given(
    move=st.sampled_from([move for move in MOVES if move[1] is not None]),
    killed_after=st.integers(0, 40),
    written_meanwhile=st.booleans(),
)
def test_a_mover_killed_at_any_step_loses_nothing(
    move: tuple[str, str | None], killed_after: int, written_meanwhile: bool
) -> None:
    world = World()
    finish(world.write(b"first"))
    for source, target in (("hot", "warm"), ("warm", "cold"))[: TIERS.index(move[0])]:
        finish(world.move(source, target))
    moving = world.move(*move)
    for _ in range(killed_after):
        if not drive(moving):
            break
    if written_meanwhile:
        finish(world.write(b"second"))
    moving.close()
    finish(world.read())
    # The next mover finds both copies, at most, and the first one found is the present one: it can go on from there.
    for again in MOVES:
        finish(world.move(*again))
        finish(world.read())


def test_a_copy_that_is_damaged_on_arrival_leaves_the_source_alone() -> None:
    world = World()
    finish(world.write(b"first"))
    info, _ = world.stores["hot"].held[KEY]

    async def adopt_badly(source: Any) -> bool:
        world.stores["warm"].held[KEY] = (info, b"worst")
        return True

    world.stores["warm"].adopt = adopt_badly  # type: ignore[method-assign]
    with pytest.raises(ObjectStoreFailed):
        finish(world.move("hot", "warm"))
    assert KEY not in world.stores["warm"].held
    finish(world.read())


def test_an_object_that_goes_up_and_comes_down_while_it_is_looked_for_is_found() -> None:
    """Up behind a reader that looks down, down behind the same reader when it looks up again: at every pair of its steps."""
    for up_at, down_at in product(range(7), repeat=2):
        world = World()
        finish(world.write(b"first"))
        finish(world.move("hot", "warm"))
        reading = world.read()
        for at in range(8):
            if at == up_at:
                finish(world.move("warm", "hot"))
            if at == down_at:
                finish(world.move("hot", "warm"))
            if not drive(reading):
                break
        else:
            finish(reading)


def test_a_deleted_object_stays_deleted_when_it_was_being_moved() -> None:
    for steps in range(30):
        for source, target in (("hot", "warm"), ("warm", "hot")):
            world = World()
            finish(world.write(b"first"))
            if source == "warm":
                finish(world.move("hot", "warm"))
            moving = world.move(source, target)
            ended = not all(drive(moving) for _ in range(steps))
            finish(world.objects.delete(KEY))
            if not ended:
                finish(moving)
            assert not any(store.held for store in world.stores.values())


@pytest.mark.parametrize("start", TIERS)
def test_a_writer_that_pauses_at_any_step_while_the_mover_works_loses_nothing(start: str) -> None:
    for steps in range(12):
        for moves in product(MOVES, repeat=2):
            world = World()
            finish(world.write(b"first"))
            for source, target in (("hot", "warm"), ("warm", "cold"))[: TIERS.index(start)]:
                finish(world.move(source, target))
            writing = world.write(b"second")
            ended = not all(drive(writing) for _ in range(steps))
            for source, target in moves:
                finish(world.move(source, target))
                finish(world.read())
            if not ended:
                finish(writing)
            finish(world.read())
