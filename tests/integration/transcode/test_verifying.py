"""What the check before publishing makes of real files, whole and tampered with; and what winding gets."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import m3u8
import pytest

from headwater.settings.origin import Rung, Transcode
from origin.transcode.encoding.encode import EncodeSettings
from origin.transcode.encoding.plan import Plan, ceiling_bps, make_plan
from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.graph.tasks import Source, run_encode, run_package, run_probe
from origin.transcode.media.source import Bounds
from tests.support.media import ffmpeg_path, make_clip, make_with
from tests.support.transcoding import QUICK_LADDER

SETTINGS = Transcode(ladder=QUICK_LADDER, first_height=240, preset="ultrafast", range_segments=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Plan, list[Path]]:
    """Three ranges of one rung of 10 s, as their tasks leave them."""
    folder = tmp_path_factory.mktemp("made")
    clip = make_clip(folder / "clip.mp4", seconds=10, width=320, height=240)
    source = Source(clip, "0" * 64, folder / "work", "auto")
    report = run_probe(source, Bounds(2**30, 1e6))
    plan = make_plan(report, SETTINGS)
    encoding = EncodeSettings("ultrafast", 1, 60)
    return source, plan, [run_encode(source, report, plan.timing, plan.rungs[:1], part, encoding)[0] for part in plan.ranges]


def of_another_segment(folder: Path) -> None:
    shutil.copy(folder.parent.parent / "0" / "240p" / "segment_00000.m4s", folder / "segment_00001.m4s")


def cut_short(folder: Path) -> None:
    file = folder / "segment_00001.m4s"
    file.write_bytes(file.read_bytes()[:-100])


def no_keyframe(folder: Path) -> None:
    """The first picture's slices claim to be of a picture that depends on others; its flags say nothing of it."""
    file = folder / "segment_00001.m4s"
    content = file.read_bytes()
    assert b"\x65\x88" in content
    file.write_bytes(content.replace(b"\x65\x88", b"\x61\x88"))


def other_size(folder: Path) -> None:
    for init in folder.parent.parent.glob("*/240p/init.mp4"):
        content = init.read_bytes()
        assert content.count((320).to_bytes(2, "big") + (240).to_bytes(2, "big")) == 1
        init.write_bytes(content.replace((320).to_bytes(2, "big") + (240).to_bytes(2, "big"), bytes([1, 66, 0, 240])))


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (of_another_segment, FailureKind.GAP_IN_TIME),
        (cut_short, FailureKind.UNREADABLE),
        (no_keyframe, FailureKind.NO_KEYFRAME),
        (other_size, FailureKind.MISDESCRIBED),
    ],
)
def test_what_was_spoilt_is_not_packaged_but_named(
    made: tuple[Source, Plan, list[Path]], tmp_path: Path, spoil: Callable[[Path], None], kind: FailureKind
) -> None:
    source, plan, folders = made
    copies = [shutil.copytree(folder, tmp_path / str(place) / "240p") for place, folder in enumerate(folders)]
    spoil(copies[1])
    with pytest.raises(TaskFailed) as failed:
        run_package(source, "video", "240p", copies, plan.rungs[0], plan.timing, "")
    assert failed.value.kind == kind
    assert "transcoder's log" in failed.value.sentence


def test_the_first_bytes_of_each_segment_are_a_whole_picture(made: tuple[Source, Plan, list[Path]], tmp_path: Path) -> None:
    source, plan, folders = made
    files = dict(run_package(source, "video", "240p", folders, plan.rungs[0], plan.timing, "").files)
    assert list(files)[-2:] == ["iframes.m3u8", "playlist.m3u8"]
    winding = m3u8.load(str(files["iframes.m3u8"]))
    assert [segment.uri for segment in winding.segments] == [f"segment_0000{number}.m4s" for number in range(3)]
    for segment in winding.segments:
        length = int(segment.byterange.removesuffix("@0"))
        assert length < files[segment.uri].stat().st_size / 3
        picture = tmp_path / segment.uri
        picture.write_bytes(files["init.mp4"].read_bytes() + files[segment.uri].read_bytes()[:length])
        # One picture is all that the bytes hold; ffmpeg says so of the samples that follow.
        command = [ffmpeg_path(), "-v", "fatal", "-i", str(picture), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "gray", "-"]
        assert len(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout) == 320 * 240


def test_no_segment_is_above_what_manifests_say_of_a_rung_that_grows(tmp_path: Path) -> None:
    """Noise takes all that an encoder may spend: the cap, and what its buffer had saved up before."""
    noise = ("-f", "lavfi", "-i", "nullsrc=size=192x144:rate=25:duration=8,geq=random(1)*255:128:128", "-c:v", "ffv1")
    source = Source(make_with(tmp_path / "noise.mkv", *noise), "0" * 64, tmp_path / "work", "auto")
    report = run_probe(source, Bounds(2**30, 1e6))
    plan = make_plan(report, Transcode(ladder=[Rung(height=144, max_bitrate_kbps=200)], first_height=144, preset="ultrafast"))
    [rung], timing = plan.rungs, plan.timing
    folders = [run_encode(source, report, timing, [rung], part, EncodeSettings("ultrafast", 1, 60))[0] for part in plan.ranges]
    whole = run_package(source, "video", rung.name, folders, rung, timing, "").rendition
    assert whole.bandwidth_bps > 1000 * rung.max_bitrate_kbps  # so the cap alone is not it
    assert whole.bandwidth_bps <= ceiling_bps(rung, timing)
