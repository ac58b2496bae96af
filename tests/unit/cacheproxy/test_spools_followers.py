"""What the followers of a spool are given, whatever they want, whenever they come, and however slow their clients are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.cacheproxy.store.spool import Spool, SpoolBroken
from headwater.cacheproxy.store.store import Store
from headwater.settings.cache import CacheSettings

BODY = bytes(range(256)) * 8


@dataclass
class Client:
    """Takes bytes; after each that `pauses` names it wants to be awaited first."""

    pauses: frozenset[int]
    got: bytearray = field(default_factory=bytearray)
    gifts: int = 0
    free: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False

    def give(self, chunk: bytes) -> bool:
        assert chunk
        if self.gone:
            raise ConnectionResetError
        self.got += chunk
        self.gifts += 1
        if self.gifts in self.pauses:
            self.free.clear()
            return False
        self.free.set()
        return True

    async def taken(self) -> None:
        await asyncio.sleep(0)
        self.free.set()


async def store_in(folder: Path, **changes: object) -> Store:
    store = Store(folder, CacheSettings.model_validate({"ram": "1 MiB", "disk": "4 MiB", **changes}), structlog.get_logger())
    await store.start()
    await store.take_over_disk()
    return store


@given(
    cuts=st.lists(st.integers(1, len(BODY) - 1), max_size=12, unique=True).map(sorted),
    asked=st.lists(
        st.tuples(
            st.integers(0, 12),
            st.integers(0, len(BODY) - 1),
            st.one_of(st.none(), st.integers(0, len(BODY) - 1)),
            st.frozensets(st.integers(1, 6)),
        ),
        min_size=1,
        max_size=6,
    ),
    in_ram=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_follower_gets_exactly_its_bytes(
    tmp_path: Path,
    cuts: list[int],
    asked: list[tuple[int, int, int | None, frozenset[int]]],
    in_ram: bool,
) -> None:
    async def run() -> None:
        store = await store_in(tmp_path, spool_in_ram="64 KiB" if in_ram else "1 KiB")
        spool = Spool(store)
        clients = [Client(pauses) for _, _, _, pauses in asked]
        tasks: list[asyncio.Task[None]] = []
        chunks = [BODY[first:last] for first, last in zip([0, *cuts], [*cuts, len(BODY)], strict=True)]
        for number, chunk in enumerate([*chunks, b""]):
            for client, (when, first, last, _) in zip(clients, asked, strict=True):
                if when == number or (not chunk and when > number):
                    spool.join()
                    tasks.append(asyncio.create_task(spool.pass_on(first, last, client)))
            await asyncio.sleep(0)
            if chunk:
                await spool.append(chunk)
        spool.finish()
        await asyncio.gather(*tasks)
        for client, (_, first, last, _) in zip(clients, asked, strict=True):
            assert bytes(client.got) == BODY[first : None if last is None else last + 1]
        spool.close()
        await store.close()

    asyncio.run(run())


async def test_bytes_reach_all_that_have_caught_up_before_any_other_task_runs(tmp_path: Path) -> None:
    store = await store_in(tmp_path)
    spool, clients = Spool(store), [Client(frozenset()) for _ in range(3)]
    tasks = [asyncio.create_task(spool.pass_on(0, 9, client)) for client in clients]
    await asyncio.sleep(0)
    adding = spool.append(b"01234")
    with pytest.raises(StopIteration):
        adding.send(None)
    assert [bytes(client.got) for client in clients] == [b"01234"] * 3
    spool.break_off()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [SpoolBroken] * 3
    spool.close()
    await store.close()


async def test_a_client_that_left_ends_its_own_following_only(tmp_path: Path) -> None:
    store = await store_in(tmp_path)
    spool, left, stays = Spool(store), Client(frozenset(), gone=True), Client(frozenset())
    tasks = [asyncio.create_task(spool.pass_on(0, None, client)) for client in (left, stays)]
    await asyncio.sleep(0)
    await spool.append(b"01234")
    spool.finish()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert type(results[0]) is ConnectionResetError
    assert results[1] is None
    assert bytes(stays.got) == b"01234"
    spool.close()
    await store.close()
