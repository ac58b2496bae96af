"""What viewers are shown of a rendition that grows, over a restart with the same encoder and with another one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import m3u8
import pytest
import structlog

from headwater.rules.mediapath import INIT, MEDIA_PLAYLIST, segment_name
from headwater.rules.names import VideoId
from headwater.runtime.metrics import value
from origin.objects.files import FileObjects
from origin.transcode.encoding.plan import timing_for
from origin.transcode.graph.tasks import PackagedRung
from origin.transcode.publishing.beginning import Begun
from origin.transcode.publishing.publish import Publisher
from origin.transcode.publishing.rendition import Rendition, SegmentSize
from origin.transcode.publishing.showing import Showing

VIDEO = VideoId("AAAAAAAAAAA")
RUNG = ("h264", "360p")
TIMING = timing_for(Fraction(20), Fraction(25), 4, 2)
PARTS = 5


class Encoder:
    """Makes files that say who made them; `folder` is one for each encoder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.names = (INIT, *(segment_name(number) for number in range(PARTS)))
        for file in self.names:
            (self.folder / file).write_text(f"{file} by {name}")

    def begun(self, segments: int) -> Begun:
        return Begun(self.rendition(segments), tuple((name, self.folder / name) for name in self.names[: segments + 1]))

    def whole(self) -> PackagedRung:
        files = [(name, self.folder / name) for name in self.names]
        return PackagedRung(self.rendition(PARTS), (*files, (MEDIA_PLAYLIST, self.folder / "none")))

    def rendition(self, segments: int) -> Rendition:
        sizes = tuple(SegmentSize(40000, 1000, 100) for _ in range(segments))
        rate, whole = Fraction(25), segments == PARTS
        return Rendition(*RUNG, "video", "avc1.64001e", 10000, sizes, 700, 640, 360, rate, whole=whole, ceiling_bps=10**6)


async def restarted(store: FileObjects) -> Showing:
    """As a new process begins to show what an earlier one had begun with."""
    showing = Showing(Publisher(store, VIDEO), TIMING, lambda: 1000.0, structlog.get_logger("test"))
    await showing.resume([], [RUNG], None)
    return showing


@pytest.fixture
def store(tmp_path: Path) -> FileObjects:
    return FileObjects(tmp_path / "objects")


async def text(store: FileObjects, name: str) -> str:
    return b"".join([chunk async for chunk in store.read(f"videos/{VIDEO}/{name}")]).decode()


async def test_a_rung_goes_on_in_its_place_when_a_restart_encodes_the_same(store: FileObjects, tmp_path: Path) -> None:
    encoder = Encoder(tmp_path, "one")
    await (await restarted(store)).grow(encoder.begun(2))
    again = await restarted(store)
    await again.grow(encoder.begun(3))
    [shown] = await again.finish([encoder.whole()])
    assert shown.folder == ""
    assert {info.key.split("/")[-2] async for info in store.list(f"videos/{VIDEO}/h264/")} == {"360p"}
    assert m3u8.loads(await text(store, "h264/360p/playlist.m3u8")).is_endlist


async def test_a_rung_that_another_encoder_began_is_made_whole_under_another_name(store: FileObjects, tmp_path: Path) -> None:
    old, new = Encoder(tmp_path, "old"), Encoder(tmp_path, "new")
    await (await restarted(store)).grow(old.begun(2))
    before = value("headwater_transcode_begun_anew_total")
    again = await restarted(store)
    await again.grow(new.begun(1))  # viewers have two segments: nothing is taken back
    assert len(m3u8.loads(await text(store, "h264/360p/playlist.m3u8")).segments) == 2
    await again.grow(new.begun(3))
    assert value("headwater_transcode_begun_anew_total") == before + 1
    [shown] = await (third := await restarted(store)).finish([new.whole()])  # killed once more, and finished
    assert third.playable
    folder = shown.folder
    assert folder.startswith("360p-")
    for name in new.names:
        assert await text(store, f"h264/{folder}/{name}") == f"{name} by new"
    for name in old.names[:3]:  # what players and caches know by these names stays
        assert await text(store, f"h264/360p/{name}") == f"{name} by old"
    assert f"h264/{folder}/playlist.m3u8" in await text(store, "master.m3u8")
    assert f'id="h264/{folder}"' in await text(store, "manifest.mpd")
    at_old_address = m3u8.loads(await text(store, "h264/360p/playlist.m3u8"))
    assert [segment.uri for segment in at_old_address.segments] == [f"../{folder}/{segment_name(n)}" for n in range(PARTS)]
    assert at_old_address.segment_map[0].uri == f"../{folder}/{INIT}"
    assert at_old_address.is_endlist


async def test_a_rung_that_was_whole_before_is_described_as_it_was(store: FileObjects, tmp_path: Path) -> None:
    old, new = Encoder(tmp_path, "old"), Encoder(tmp_path, "new")
    [known] = await (await restarted(store)).finish([old.whole()])
    again = Showing(Publisher(store, VIDEO), TIMING, lambda: 1000.0, structlog.get_logger("test"))
    await again.resume([RUNG], [RUNG], None, {RUNG: known})
    assert await again.finish([new.whole()]) == [known]
    assert await text(store, f"h264/360p/{INIT}") == f"{INIT} by old"
