"""Sources that already are what a rung would be are packaged as they are; each way of not being so means encoding."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from headwater.runtime.metrics import value
from headwater.settings.deployment import Deployment
from headwater.settings.origin import Rung, Transcode
from origin.transcode.encoding.plan import REORDERED_FRAMES, make_plan
from origin.transcode.media.copying import Grid, Misfit, misfit
from origin.transcode.media.probechild import WHOLE_UP_TO_BYTES, facts
from origin.transcode.media.source import Bounds, ProbeReport, facts_from_json, judge
from tests.integration.transcode.test_odd_inputs import TONE, check, picture
from tests.support.media import decode, ffmpeg_path, make_with
from tests.support.streams import transcode
from tests.support.transcoding import quick, studio, transcoder

LADDER = [Rung(height=144, max_bitrate_kbps=200), Rung(height=240, max_bitrate_kbps=3000)]
SETTINGS = Transcode(ladder=LADDER, first_height=144, preset="ultrafast", range_segments=1)
FITTING = ("-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "50", "-keyint_min", "50", "-sc_threshold", "0")
FITTING = (*FITTING, "-pix_fmt", "yuv420p", "-flags", "+cgop")
OPEN = (*FITTING, "-x264-params", "open-gop=1:bframes=2")


def report_of(file: Path, whole_up_to_bytes: int = WHOLE_UP_TO_BYTES) -> ProbeReport:
    return judge(facts_from_json(facts(f"file:{file}", whole_up_to_bytes)), Bounds(2**30, 1e6))


def why_not(file: Path, whole_up_to_bytes: int = WHOLE_UP_TO_BYTES, *, first: bool = False) -> Misfit | None:
    report = report_of(file, whole_up_to_bytes)
    plan = make_plan(report, SETTINGS)
    timing, rung = plan.timing, max(plan.rungs, key=lambda rung: rung.height)
    return misfit(report, rung, Grid(timing.frame_rate, timing.frames, timing.segment_frames, REORDERED_FRAMES), first=first)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("fits.mp4", (*picture(seconds=9), *FITTING), None),
        ("main.mov", (*picture(seconds=9), *FITTING, "-profile:v", "main", "-bf", "0"), None),
        ("ntsc.mp4", (*picture(rate="30000/1001", seconds=9), *FITTING, "-g", "30", "-keyint_min", "30"), None),
        ("every_second.mp4", (*picture(seconds=9), *FITTING, "-g", "25", "-keyint_min", "25"), None),
        ("box.mkv", (*picture(seconds=9), *FITTING), Misfit.NOT_INDEXED),
        ("hevc.mp4", (*picture(), "-c:v", "libx265", "-x265-params", "log-level=none"), Misfit.NOT_H264),
        ("ten_bit.mp4", (*picture(), *FITTING, "-pix_fmt", "yuv420p10le"), Misfit.PROFILE),
        ("full_range.mp4", (*picture(), *FITTING, "-pix_fmt", "yuvj420p"), Misfit.PIXELS),
        ("fields.mp4", (*picture(), *FITTING, "-x264-params", "tff=1"), Misfit.INTERLACED),
        ("refreshed.mp4", (*picture(), *FITTING, "-bf", "0", "-x264-params", "intra-refresh=1"), Misfit.NOT_INDEXED),
        ("odd_size.mp4", (*picture("424x244"), *FITTING), Misfit.SIZE),
        ("anamorphic.mp4", (*picture("240x240"), *FITTING, "-vf", "setsar=16/9"), Misfit.SIZE),
        ("long_gop.mp4", (*picture(seconds=9), *FITTING, "-g", "250"), Misfit.KEYFRAMES),
        ("other_grid.mp4", (*picture(seconds=9), *FITTING, "-g", "60", "-keyint_min", "60"), Misfit.KEYFRAMES),
        ("open.mp4", (*picture(seconds=9), *OPEN, "-flags", "-cgop"), Misfit.KEYFRAMES),
        ("fat.mp4", (*picture(), *FITTING, "-vf", "noise=alls=90:allf=t", "-crf", "4"), Misfit.TOO_FAT),
        ("sound_is_longer.mp4", (*picture(), *TONE, *FITTING, "-t", "8"), Misfit.LENGTH),
    ],
)  # fmt: skip
def test_a_source_fits_or_says_why_not(tmp_path: Path, name: str, arguments: tuple[str, ...], reason: Misfit | None) -> None:
    file = make_with(tmp_path / name, *arguments)
    assert why_not(file) == reason
    if reason is None:
        assert why_not(file, 0) is None, "from the index alone"
        assert why_not(file, 0, first=True) is Misfit.UNREAD


def test_a_cut_by_an_edit_list_and_a_turn_are_no_copies(tmp_path: Path) -> None:
    whole = make_with(tmp_path / "whole.mp4", *picture(seconds=9), *FITTING)
    turned = make_with(tmp_path / "turned.mp4", "-display_rotation", "180", "-i", str(whole), "-c", "copy")
    assert why_not(turned) is Misfit.ROTATED
    cut = make_with(tmp_path / "cut.mp4", "-ss", "1", "-i", str(whole), "-c", "copy")
    assert why_not(cut) is Misfit.EDITED


def coded(source: Path, *streams: str) -> list[str]:
    """A checksum of each coded picture."""
    command = [ffmpeg_path(), "-v", "error", "-i", str(source), *streams, "-c", "copy", "-bsf:v", "filter_units=pass_types=1-5"]
    lines = subprocess.run([*command, "-f", "framemd5", "-"], check=True, capture_output=True, timeout=60, text=True).stdout
    return [line.split(",")[-1].strip() for line in lines.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("first_height", [144, 240])
def test_a_copied_rung_is_the_source_bit_by_bit_and_switches_with_the_others(tmp_path: Path, first_height: int) -> None:
    source = make_with(tmp_path / "source.mp4", *picture("426x240", seconds=13), *TONE, "-t", "13", *FITTING)
    stream = transcode(source, tmp_path, SETTINGS.model_copy(update={"first_height": first_height}))
    assert {rung.name: rung.copied for rung in stream.plan.rungs} == {"144p": False, "240p": True}
    check(stream)
    assert coded(stream.folder / "h264/240p/playlist.m3u8", "-map", "0:v") == coded(source, "-map", "0:v")


def test_copying_can_be_switched_off(tmp_path: Path) -> None:
    report = report_of(make_with(tmp_path / "fits.mp4", *picture(seconds=9), *FITTING))
    assert any(rung.copied for rung in make_plan(report, SETTINGS).rungs)
    assert not any(rung.copied for rung in make_plan(report, SETTINGS.model_copy(update={"copy_through": False})).rungs)


async def test_a_copy_that_does_not_pass_the_check_is_encoded_instead(deployment: Deployment, tmp_path: Path) -> None:
    """Of a large file only the index is read, which does not tell that one picture is shown half a frame late."""
    even = make_with(tmp_path / "even.mp4", *picture("426x240", seconds=9), *FITTING, "-bf", "0")
    late = r"setts=pts='PTS+DURATION/2*eq(N\,100)'"
    file = make_with(tmp_path / "late.mp4", "-i", str(even), "-c", "copy", "-bsf:v", late)
    assert why_not(file) is Misfit.RATE
    with file.open("r+b") as growing:
        end = growing.seek(0, 2)
        growing.write((WHOLE_UP_TO_BYTES).to_bytes(4, "big") + b"free")
        growing.truncate(end + WHOLE_UP_TO_BYTES)
    assert why_not(file) is None

    def refused() -> float:
        """At a segment's start within a range it is found when that is cut, else when all ranges are put together."""
        ways = (("encode", "inconsistent"), ("package", "out-of-sync"))
        return sum(value("headwater_transcode_tasks_total", kind=kind, outcome=outcome) for kind, outcome in ways)

    before = refused()
    async with studio(quick(deployment, ladder=LADDER, first_height=144)) as at, transcoder(at.deployment):
        video_id = await at.upload("BBBBBBBBBBB", file)
        job = await at.job_ended(video_id)
        rows = await at.renditions(video_id)
        out = await at.export(video_id, tmp_path / "out")
    assert (job.state, job.error) == ("done", None)
    assert {name: row.state for name, row in rows.items()} == {"h264/144p": "ready", "h264/240p": "ready"}
    assert refused() > before, "named and counted"
    decoded = decode(out / "master.m3u8")
    assert decoded.clean, decoded.complaints
    assert [len(times) for times in decoded.video] == [225, 225]
