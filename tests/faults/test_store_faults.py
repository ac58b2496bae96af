"""Whatever happens to the disk under an edge, viewers get the exact object; it is counted, and repaired where it can be."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.cacheproxy.store.shares import file_name
from headwater.runtime.metrics import value
from headwater.settings.cache import CacheSettings
from headwater.settings.deployment import Deployment
from tests.support.proxies import RunningEdge, running_edge, with_parents
from tests.support.scriptedparent import Asked, ScriptedParent, header, scripted_parent
from tests.support.waiting import until

TROUBLES = "headwater_store_disk_troubles_total"
BODY_BYTES = 200_000
ON_DISK_ONLY = CacheSettings(ram="16 KiB")  # memory takes objects below 1 KiB


def path_of(number: int) -> str:
    return f"/videos/{number:011d}/poster.jpg"


def body_of(path: str, size: int = BODY_BYTES) -> bytes:
    return hashlib.shake_128(path.encode()).digest(size)


async def give(asked: Asked, writer: asyncio.StreamWriter) -> None:
    body = body_of(asked.line.split(" ")[1])
    writer.write(header("200 OK", "Cache-Control: max-age=3600", 'ETag: "v1"', f"Content-Length: {len(body)}") + body)
    await writer.drain()


@asynccontextmanager
async def edge_over(
    deployment: Deployment, folder: Path, settings: CacheSettings = ON_DISK_ONLY
) -> AsyncIterator[tuple[RunningEdge, ScriptedParent]]:
    async with (
        scripted_parent(give) as parent,
        running_edge(with_parents(deployment, [parent.address]), folder, settings) as edge,
    ):
        yield edge, parent


async def got(edge: RunningEdge, number: int) -> bool:
    """Whether the exact object came, and came from the store. Waits for what it stores."""
    status, fields, body = await edge.get(path_of(number))
    assert status == 200
    assert body == body_of(path_of(number))
    await edge.settled()
    return "; hit" in fields["cache-status"]


def file_of(folder: Path, number: int) -> Path:
    name = file_name(f"video{path_of(number)}")
    return folder / "store" / "objects" / name[:2] / name


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[BODY_BYTES // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    os.truncate(file, BODY_BYTES // 2)


def removed(file: Path) -> None:
    file.unlink()


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    (file / "not empty").mkdir(parents=True)


def replaced_by_a_link(file: Path) -> None:
    target = file.with_name("elsewhere")
    file.rename(target)
    file.symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "trouble"),
    [
        (cut, "damaged"),
        (removed, "file_missing"),
        (replaced_by_a_folder, "read_failed"),
        (replaced_by_a_link, "read_failed"),
    ],
)
async def test_a_file_that_cannot_be_read_is_fetched_counted_and_repaired(
    deployment: Deployment, tmp_path: Path, damage: Callable[[Path], None], trouble: str
) -> None:
    async with edge_over(deployment, tmp_path) as (edge, parent):
        assert not await got(edge, 1)
        assert await got(edge, 1)
        await asyncio.to_thread(damage, file_of(tmp_path, 1))
        before = value(TROUBLES, trouble=trouble)
        assert not await got(edge, 1)
        assert value(TROUBLES, trouble=trouble) == before + 1
        assert len(parent.asked) == 2
        assert await got(edge, 1)


async def test_a_flipped_bit_of_a_body_is_never_served(deployment: Deployment, tmp_path: Path) -> None:
    in_memory = CacheSettings(ram="64 MiB")
    async with edge_over(deployment, tmp_path, in_memory) as (edge, _):
        assert not await got(edge, 1)
    flipped(file_of(tmp_path, 1))
    before = value(TROUBLES, trouble="damaged")
    async with edge_over(deployment, tmp_path, in_memory) as (edge, parent):
        assert not await got(edge, 1)
        assert value(TROUBLES, trouble="damaged") == before + 1
        assert len(parent.asked) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if mounted:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False, capture_output=True)
        mounted = done.returncode == 0
    if not mounted:
        pytest.skip("needs root and the right to mount a tmpfs, for a disk that can be full")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_costs_hits_not_answers(deployment: Deployment, small_disk: Path) -> None:
    before = value(TROUBLES, trouble="spool_write_failed") + value(TROUBLES, trouble="write_failed")
    async with edge_over(deployment, small_disk) as (edge, _):  # the budget says 2 GiB, the disk has two MiB
        for number in range(20):
            assert not await got(edge, number)
        assert value(TROUBLES, trouble="spool_write_failed") + value(TROUBLES, trouble="write_failed") > before
        assert sum([await got(edge, number) for number in range(20)]) >= 5
        assert edge.store.disk.index.reserved_bytes == 0


async def test_a_disk_that_became_read_only_goes_on_serving(deployment: Deployment, small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    for name in ("objects", "drafts"):  # the log of purges lies elsewhere: no edge starts that could forget them
        (small_disk / name).mkdir()
        (tmp_path / "store" / name).symlink_to(small_disk / name)
    async with edge_over(deployment, tmp_path) as (edge, parent):
        assert not await got(edge, 1)
        # Refused while a file is open for writing, which the first answer's draft is until its handler has left.
        remount = ["mount", "-o", "remount,ro", str(small_disk)]
        await until(lambda: subprocess.run(remount, check=False, capture_output=True).returncode == 0)
        assert await got(edge, 1)
        assert not await got(edge, 2)
        assert not await got(edge, 2)
        assert len(parent.asked) == 3
    async with edge_over(deployment, tmp_path) as (edge, _):  # and it starts over such a disk
        assert await got(edge, 1)


async def test_many_fills_at_once_stay_within_both_budgets(deployment: Deployment, tmp_path: Path) -> None:
    settings = CacheSettings(ram="1 MiB", disk="2 MiB")
    worst = [0, 0]
    async with edge_over(deployment, tmp_path, settings) as (edge, parent):

        async def slowly(asked: Asked, writer: asyncio.StreamWriter) -> None:
            path = asked.line.split(" ")[1]
            body = body_of(path, sizes[path])
            known = (f"Content-Length: {len(body)}",) if len(body) % 2 else ("Transfer-Encoding: chunked",)
            writer.write(header("200 OK", "Cache-Control: max-age=3600", 'ETag: "v1"', *known))
            for at in range(0, len(body), 50_000):
                piece = body[at : at + 50_000]
                writer.write(piece if len(body) % 2 else b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()
                worst[0] = max(worst[0], edge.store.ram_taken_bytes)
                worst[1] = max(worst[1], edge.store.disk.index.taken_bytes)
            writer.write(b"" if len(body) % 2 else b"0\r\n\r\n")

        parent.script = slowly
        sizes = {path_of(number): 20_000 + 15_001 * number for number in range(60)}
        for _ in range(2):
            answers = await asyncio.gather(*(edge.get(path) for path in sizes))
            for (path, size), (status, _, body) in zip(sizes.items(), answers, strict=True):
                assert (status, body) == (200, body_of(path, size)), (path, size, len(body))
            await edge.settled()
        assert 0 < worst[0] <= settings.ram
        assert settings.disk // 2 < worst[1] <= settings.disk
        assert edge.store.disk.index.reserved_bytes == 0
        assert value("headwater_store_ram_reserved_bytes") == 0


async def test_an_object_over_the_limit_passes_through_at_its_readers_pace(deployment: Deployment, tmp_path: Path) -> None:
    settings = CacheSettings(ram="1 MiB", max_object="1 MiB")
    body = body_of("large", 20 * 1024 * 1024)
    sent = 0

    async def large(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(header("200 OK", "Cache-Control: max-age=3600", 'ETag: "v1"', f"Content-Length: {len(body)}"))
        for at in range(0, len(body), 65536):
            writer.write(body[at : at + 65536])
            await writer.drain()
            sent = at

    async with edge_over(deployment, tmp_path, settings) as (edge, parent):
        parent.script = large
        before = value("headwater_fills_passing_total")
        assert (await edge.get(path_of(1)))[2] == body
        await edge.settled()
        assert value("headwater_fills_passing_total") == before + 1
        assert edge.store.disk.index.used_bytes == 0
        assert edge.store.ram_taken_bytes == 0
        several = await asyncio.gather(*(edge.get(path_of(1)) for _ in range(3)))
        assert all(one[2] == body for one in several)


async def test_what_a_304_renewed_is_fresh_after_a_restart(deployment: Deployment, tmp_path: Path) -> None:
    lifetimes = ["max-age=0", "max-age=3600"]

    async def renew(asked: Asked, writer: asyncio.StreamWriter) -> None:
        common = (f"Cache-Control: {lifetimes.pop(0)}", 'ETag: "v1"')
        if "if-none-match" in asked.fields:
            writer.write(header("304 Not Modified", *common))
        else:
            body = body_of(path_of(1))
            writer.write(header("200 OK", *common, f"Content-Length: {len(body)}") + body)

    async with edge_over(deployment, tmp_path) as (edge, parent):
        parent.script = renew
        assert not await got(edge, 1)
        await got(edge, 1)  # stale: a 304 renews it
        assert len(parent.asked) == 2
    journal = tmp_path / "store" / "renewals.0"
    journal.write_bytes(journal.read_bytes() + b'12345678 {"torn')
    async with edge_over(deployment, tmp_path) as (edge, parent):
        assert await got(edge, 1)
        assert parent.asked == []
