"""Masters put together ahead of `complete`: the same bytes whatever was done ahead, and nothing left behind."""

from __future__ import annotations

import asyncio
import hashlib
import random
from pathlib import Path

import pytest

from headwater.runtime.metrics import value
from origin.objects.assembling import MOST
from origin.objects.fileparts import FilePartStore
from origin.objects.files import FileObjects
from origin.objects.parts import PartsDamaged

AHEAD = "headwater_uploads_assembled_ahead_bytes_total"
PARTS = [random.Random(number).randbytes(70_000 + number) for number in range(5)]
WHOLE = b"".join(PARTS)


@pytest.fixture
def store(tmp_path: Path) -> FilePartStore:
    return FilePartStore(FileObjects(tmp_path), "http://127.0.0.1:1", b"secret")


async def send(store: FilePartStore, number: int, body: bytes, upload: str = "upload-1") -> None:
    draft = await store.draft(upload, number)
    await draft.write(body)
    await draft.settle()


async def sent(store: FilePartStore, order: tuple[int, ...] = (1, 2, 3, 4, 5)) -> None:
    await store.begin("upload-1")
    for number in order:
        await send(store, number, PARTS[number - 1])
    await all_looked_at(store)


async def all_looked_at(store: FilePartStore) -> None:
    for _ in PARTS:  # each look that appends a part asks for another one
        await asyncio.to_thread(store._ahead.finish)


async def completed(store: FilePartStore) -> str:
    """The master's digest; nothing is left beside it."""
    made = await store.complete("upload-1", "masters/v/source", await store.arrived("upload-1"), "video/mp4")
    assert drafts(store) == []
    return made.sha256


def drafts(store: FilePartStore) -> list[Path]:
    return list((store._objects.root / "drafts").iterdir())


@pytest.mark.parametrize("order", [(1, 2, 3, 4, 5), (5, 1, 4, 2, 3), (5, 4, 3, 2, 1)])
async def test_all_parts_but_the_last_are_put_together_before_the_end(store: FilePartStore, order: tuple[int, ...]) -> None:
    before = value(AHEAD)
    await sent(store, order)
    assert value(AHEAD) - before == len(WHOLE) - len(PARTS[-1])
    assert await completed(store) == hashlib.sha256(WHOLE).hexdigest()


async def test_a_part_that_is_sent_anew_counts_though_its_old_bytes_were_put_together(store: FilePartStore) -> None:
    await sent(store)
    await send(store, 2, b"other bytes")
    await all_looked_at(store)
    wanted = hashlib.sha256(b"".join([PARTS[0], b"other bytes", *PARTS[2:]])).hexdigest()
    assert await completed(store) == wanted


async def test_a_draft_that_was_swept_is_made_again(store: FilePartStore) -> None:
    await sent(store)
    for path in await asyncio.to_thread(drafts, store):
        path.unlink()
    assert await completed(store) == hashlib.sha256(WHOLE).hexdigest()


async def test_a_part_that_is_damaged_before_it_is_read_is_named_at_the_end(store: FilePartStore) -> None:
    await sent(store, (1, 2))
    (part,) = await asyncio.to_thread(lambda: list((store._uploads / "upload-1").glob("2.*")))
    part.write_bytes(b"x" * len(PARTS[1]))
    for number in (3, 4, 5):
        await send(store, number, PARTS[number - 1])
    await all_looked_at(store)
    with pytest.raises(PartsDamaged) as caught:
        await completed(store)
    assert caught.value.numbers == (2,)
    assert await asyncio.to_thread(drafts, store) == []


async def test_bytes_of_a_damaged_part_are_in_no_master_however_late_the_damage_is_seen(store: FilePartStore) -> None:
    """What had begun with the damaged part is not taken up, also in the moment before it is dropped."""
    assemblies = store._ahead
    assemblies.drop = lambda upload_id: None  # type: ignore[method-assign]
    await sent(store, (1, 2))
    (part,) = await asyncio.to_thread(lambda: list((store._uploads / "upload-1").glob("2.*")))
    part.write_bytes(b"x" * len(PARTS[1]))
    await send(store, 3, PARTS[2])
    await all_looked_at(store)
    part.write_bytes(PARTS[1])
    for number in (4, 5):
        await send(store, number, PARTS[number - 1])
    made = await store.complete("upload-1", "masters/v/source", await store.arrived("upload-1"), "video/mp4")
    assert made.sha256 == hashlib.sha256(WHOLE).hexdigest()


async def test_an_upload_given_up_leaves_nothing(store: FilePartStore) -> None:
    await sent(store)
    await store.discard("upload-1")
    assert await asyncio.to_thread(drafts, store) == []


async def test_many_uploads_at_once_have_a_bounded_number_of_drafts(store: FilePartStore) -> None:
    for upload in range(MOST + 3):
        await store.begin(f"many-{upload}")
        for number in (1, 2):
            await send(store, number, PARTS[number - 1], f"many-{upload}")
    await all_looked_at(store)
    assert len(await asyncio.to_thread(drafts, store)) == MOST
    await store.begin("upload-1")  # one that another process completed makes room
    await sent(store)
    assert await completed_beside(store) == hashlib.sha256(WHOLE).hexdigest()


async def completed_beside(store: FilePartStore) -> str:
    made = await store.complete("upload-1", "masters/v/source", await store.arrived("upload-1"), "video/mp4")
    return made.sha256
