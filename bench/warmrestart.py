"""How soon a store serves that finds many objects: from its start to the first answer, and until all are counted.

python -m bench.warmrestart [objects]
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import structlog

from headwater.cacheproxy.store.diskindex import BLOCK_BYTES
from headwater.cacheproxy.store.diskstore import DiskStore
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store
from headwater.settings.cache import CacheSettings


def key_of(number: int) -> str:
    return f"video/videos/{number:011d}/poster.jpg"


def fill(folder: Path, count: int) -> None:
    disk = DiskStore(folder, 3 * BLOCK_BYTES * count, structlog.get_logger().bind())
    disk.start()
    for number in range(count):
        kept = disk.write(Metadata(key_of(number), 200, (("etag", '"v1"'),), 5, 0, 0), [b"%05d" % (number % 100_000)])
        assert kept


async def restart(folder: Path, count: int) -> tuple[float, float]:
    """(seconds to the first object read, seconds until every object is counted)"""
    settings = CacheSettings.model_validate({"ram": "64 MiB", "disk": f"{3 * BLOCK_BYTES * count} B"})
    began = time.perf_counter()
    store = Store(folder, settings, structlog.get_logger().bind())
    await store.start()
    for number in range(0, count, max(1, count // 100)):
        stored = await store.look_up(key_of(number))
        assert stored is not None
        stored.close()
    served_s = time.perf_counter() - began
    await store.take_over_disk()
    counted_s = time.perf_counter() - began
    assert len(store.disk.index) == count
    await store.close()
    return served_s, counted_s


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        fill(folder, count)
        served_s, counted_s = asyncio.run(restart(folder, count))
    print(f"{count:,} objects: the first hundred read {served_s:.2f} s after the start, all counted after {counted_s:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
