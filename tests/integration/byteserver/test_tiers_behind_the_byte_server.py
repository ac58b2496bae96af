"""Real files in three tiers: objects move by their reads, and the byte server finds them wherever they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import structlog

from headwater.runtime.httpsite import CannotStart
from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from origin.objects.files import FileObjects
from origin.objects.interface import ObjectNotFound
from origin.tiers.heat import TierRule
from origin.tiers.mover import Mover
from origin.tiers.open import open_tiers, tier_rules
from origin.tiers.store import PlacedStore, TieredStore
from origin.tiers.tracker import AccessTracker

LOG = structlog.get_logger("test")
DAY = 86400.0
RULES = [TierRule("hot", 30 * DAY, None), TierRule("warm", 90 * DAY, 20), TierRule("cold", None, 2)]


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Tiers:
    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.stores = {name: FileObjects(folder / name, self.clock) for name in ("hot", "warm", "cold")}
        self.objects = TieredStore([PlacedStore(name, store) for name, store in self.stores.items()])
        self.tracker = AccessTracker(folder / "heat.sqlite3", self.clock, LOG)
        self.mover = Mover(self.objects, RULES, self.tracker, self.clock, LOG)

    async def where(self, key: str) -> list[str]:
        found = []
        for name, store in self.stores.items():
            try:
                await store.stat(key)
                found.append(name)
            except ObjectNotFound:
                continue
        return found


async def test_unread_objects_sink_and_popular_ones_rise_with_their_digest_and_time(tmp_path: Path) -> None:
    tiers = Tiers(tmp_path)
    keys = [f"videos/v/segment_{number:05d}.m4s" for number in range(5)]
    made = {key: await tiers.objects.put_bytes(key, key.encode() * 1000, "x/y") for key in keys}
    moved = value("headwater_origin_tier_moves_total", reason="unread", outcome="moved")
    tiers.clock.now += 31 * DAY
    tiers.tracker.record(keys[0])
    await tiers.mover.look_once()
    assert await tiers.where(keys[0]) == ["hot"]
    assert [await tiers.where(key) for key in keys[1:]] == [["warm"]] * 4
    assert value("headwater_origin_tier_moves_total", reason="unread", outcome="moved") == moved + 4
    tiers.clock.now += 91 * DAY
    await tiers.mover.look_once()
    assert await tiers.where(keys[1]) == ["cold"]
    for _ in range(30):
        tiers.tracker.record(keys[1])
    await tiers.mover.look_once()
    assert await tiers.where(keys[1]) == ["warm"]
    await tiers.mover.look_once()
    assert await tiers.where(keys[1]) == ["hot"]
    for key in keys:
        async with tiers.objects.opened_in_tier(key) as (_, opened):
            body = b"".join([chunk async for chunk in opened.read()])
        assert opened.info == made[key]
        assert hashlib.sha256(body).hexdigest() == made[key].sha256
    assert [info.key async for info in tiers.objects.list("videos/")] == keys


async def test_a_replaced_object_is_not_shadowed_by_its_old_copy_below(tmp_path: Path) -> None:
    tiers = Tiers(tmp_path)
    await tiers.objects.put_bytes("m.m3u8", b"old", "x/y")
    tiers.clock.now += 31 * DAY
    await tiers.mover.look_once()
    assert await tiers.where("m.m3u8") == ["warm"]
    await tiers.objects.put_bytes("m.m3u8", b"new", "x/y")
    assert await tiers.where("m.m3u8") == ["hot"]
    tiers.clock.now += 31 * DAY
    await tiers.mover.look_once()
    assert b"".join([chunk async for chunk in tiers.objects.read("m.m3u8")]) == b"new"
    await tiers.objects.delete("m.m3u8")
    assert await tiers.where("m.m3u8") == []


async def test_an_object_that_is_damaged_at_its_source_stays_and_is_counted(tmp_path: Path) -> None:
    tiers = Tiers(tmp_path)
    await tiers.objects.put_bytes("a", b"right", "x/y")
    [blob] = (tmp_path / "hot" / "blobs").glob("*/*")
    blob.chmod(0o644)
    blob.write_bytes(b"wrong")
    failed = value("headwater_origin_tier_moves_total", reason="unread", outcome="failed")
    tiers.clock.now += 31 * DAY
    await tiers.mover.look_once()
    assert await tiers.where("a") == ["hot"]
    assert value("headwater_origin_tier_moves_total", reason="unread", outcome="failed") == failed + 1


def test_two_tiers_may_not_be_one_store(deployment: Deployment) -> None:
    tiers = deployment.origin.tiers
    same = tiers.model_copy(update={"warm": tiers.hot})
    wrong = deployment.model_copy(update={"origin": deployment.origin.model_copy(update={"tiers": same})})
    with pytest.raises(CannotStart, match=r"origin\.tiers\.warm"):
        open_tiers(wrong)


def test_the_lab_has_three_tiers_with_their_rules(deployment: Deployment) -> None:
    assert tier_rules(deployment) == RULES
