"""What cameras, phones and editors really make: each becomes a stream that decodes cleanly, lasts as long and stays in sync."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest

from headwater.settings.origin import Rung, Transcode
from origin.transcode.failure import TaskFailed
from origin.transcode.media.probechild import WHOLE_UP_TO_BYTES, facts
from origin.transcode.media.source import Bounds, ProbeReport, facts_from_json, judge
from tests.support.media import Decoded, decode, ffmpeg_path, make_clip, make_with, shared_media
from tests.support.streams import Stream, transcode
from tests.support.transcoding import QUICK_LADDER

SETTINGS = Transcode(ladder=QUICK_LADDER, first_height=240, preset="ultrafast", range_segments=2)
HEVC_10 = ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10le")
SURROUND = "pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0"
SEVERAL = ("-map", "0", "-map", "1", "-map", "2", "-map", "3")
TONE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")


def picture(size: str = "320x240", rate: str = "25", seconds: float = 5) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


def check(stream: Stream) -> Decoded:
    """The promises of every stream, as a foreign player sees them. Returns the HLS decode."""
    results = [decode(stream.master), decode(stream.manifest)]
    frame = 1 / stream.plan.timing.frame_rate
    for decoded in results:
        assert decoded.clean, decoded.complaints
        assert len(decoded.video) == len(stream.plan.rungs)
        for times in decoded.video:
            assert times[0] == 0
            assert len(times) == stream.plan.timing.frames
            assert all(after - before == pytest.approx(float(frame), abs=1e-3) for before, after in pairwise(times))
        if stream.plan.audio_kbps is not None:
            assert decoded.audio_start == 0
            assert decoded.audio_samples / 48000 == pytest.approx(float(stream.plan.timing.duration), abs=1024 / 48000)
    assert abs(stream.plan.timing.duration - stream.report.duration) <= frame
    return results[0]


def size_of(stream: Stream) -> tuple[int | None, int | None]:
    return stream.renditions[0].width, stream.renditions[0].height


@pytest.mark.parametrize(
    ("name", "arguments", "size", "rate"),
    [
        ("ntsc.mp4", (*picture(rate="30000/1001", seconds=9), *TONE, "-shortest"), (320, 240), Fraction(30000, 1001)),
        ("film.mkv", (*picture(rate="24000/1001"), *TONE, "-shortest"), (320, 240), Fraction(24000, 1001)),
        ("slow.mp4", (*picture(rate="25/2", seconds=9),), (320, 240), Fraction(25, 2)),
        ("fast.mp4", (*picture(rate="120", seconds=3),), (320, 240), Fraction(60)),
        ("odd.mkv", (*picture("321x241"), "-pix_fmt", "yuv444p"), (320, 240), Fraction(25)),
        ("upright.mp4", (*picture("240x320"),), (240, 320), Fraction(25)),
        ("tiny.mp4", (*picture("96x64", seconds=2),), (96, 64), Fraction(25)),
        ("anamorphic.mp4", (*picture("240x240"), "-vf", "setsar=16/9"), (426, 240), Fraction(25)),
        ("ten_bit.mkv", (*picture(), *HEVC_10), (320, 240), Fraction(25)),
        ("full_range.mkv", (*picture(), "-pix_fmt", "yuvj420p"), (320, 240), Fraction(25)),
        ("stills.mp4", (*picture(rate="1", seconds=6),), (320, 240), Fraction(8)),
        ("transport.ts", (*picture(seconds=9), *TONE, "-shortest", "-c:a", "mp2"), (320, 240), Fraction(25)),
        ("old.avi", (*picture(seconds=9), *TONE, "-t", "9", "-c:v", "mpeg4", "-c:a", "libmp3lame"), (320, 240), Fraction(25)),
        ("surround.mkv", (*picture(), *TONE, "-shortest", "-af", SURROUND), (320, 240), Fraction(25)),
        ("sixty.mp4", (*picture(rate="60", seconds=3),), (320, 240), Fraction(60)),
        ("ntsc_sixty.mp4", (*picture(rate="60000/1001", seconds=3),), (320, 240), Fraction(60000, 1001)),
        ("studio.mov", (*picture(), *TONE, "-shortest", "-c:a", "pcm_s16le"), (320, 240), Fraction(25)),
        ("fragmented.mp4", (*picture(), *TONE, "-shortest", "-movflags", "frag_keyframe+empty_moov"), (320, 240), Fraction(25)),
        ("really_mp4.avi", (*picture(), *TONE, "-shortest", "-f", "mp4"), (320, 240), Fraction(25)),
        ("several.mkv", (*picture(), *TONE, *TONE, *picture("160x120"), *SEVERAL, "-t", "5"), (320, 240), Fraction(25)),
        ("telephone.mp4", (*picture(), *TONE, "-shortest", "-ar", "8000", "-ac", "1"), (320, 240), Fraction(25)),
    ],
)  # fmt: skip
def test_an_odd_file_becomes_a_clean_stream(
    tmp_path: Path, name: str, arguments: tuple[str, ...], size: tuple[int, int], rate: Fraction
) -> None:
    stream = transcode(make_with(tmp_path / name, *arguments), tmp_path, SETTINGS)
    assert size_of(stream) == size
    assert stream.plan.timing.frame_rate == rate
    check(stream)


def test_a_single_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    stream = transcode(make_with(tmp_path / "one.mp4", *picture(), "-frames:v", "1"), tmp_path, SETTINGS)
    decoded = decode(stream.master)  # ffmpeg's DASH reader shows the only sample of a presentation twice
    assert decoded.clean, decoded.complaints
    assert decoded.video == ((0.0,), (0.0,))


def test_a_rotated_file_is_shown_upright(tmp_path: Path) -> None:
    flat = make_with(tmp_path / "flat.mp4", *picture("320x240"))
    turned = make_with(tmp_path / "turned.mp4", "-display_rotation", "90", "-i", str(flat), "-c", "copy")
    stream = transcode(turned, tmp_path, SETTINGS)
    assert size_of(stream) == (240, 320)
    check(stream)


def test_high_dynamic_range_is_mapped_to_what_every_screen_shows(tmp_path: Path) -> None:
    """A PQ picture whose white is at 58 % of the code range (203 nits, ITU-R BT.2408) comes out near white."""
    tags = "setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc:range=tv"
    white = f"format=yuv420p10le,lutyuv=y=571:u=512:v=512,{tags}"
    hevc = "log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    source = ("-f", "lavfi", "-i", "color=white:size=320x240:rate=25:duration=2", "-vf", white)
    coding = ("-pix_fmt", "yuv420p10le", "-c:v", "libx265", "-x265-params", hevc)
    stream = transcode(make_with(tmp_path / "hdr.mp4", *source, *coding), tmp_path, SETTINGS)
    assert stream.report.transfer == "smpte2084"
    check(stream)
    command = [ffmpeg_path(), "-v", "error", "-i", str(stream.master), "-map", "0:v:0", "-frames:v", "1", "-f", "rawvideo", "-"]
    luma = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout[0]
    assert luma > 180, "unmapped, it would be a dull grey of 143"


def test_a_variable_rate_keeps_every_moment_in_its_place(tmp_path: Path) -> None:
    dropped = "select='lt(n,40)+not(mod(n,5))'"
    clip = make_with(tmp_path / "vfr.mp4", *picture(rate="30", seconds=9), "-vf", dropped, "-fps_mode", "vfr")
    stream = transcode(clip, tmp_path, SETTINGS)
    assert stream.report.variable
    check(stream)


def test_sound_longer_than_the_picture_holds_the_last_picture(tmp_path: Path) -> None:
    clip = make_with(tmp_path / "long_sound.mp4", *picture(seconds=3), "-f", "lavfi", "-i", "sine=duration=11")
    stream = transcode(clip, tmp_path, SETTINGS)
    assert float(stream.plan.timing.duration) == pytest.approx(11, abs=0.04)
    check(stream)


def test_the_several_ranges_of_a_rung_show_the_source_frame_by_frame(tmp_path: Path) -> None:
    """The stitched stream against its source, both decoded: no picture is missing, doubled or out of place at a joint."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=13, width=320, height=240, rate="24000/1001")
    stream = transcode(
        clip, tmp_path, Transcode(ladder=[Rung(height=240, max_bitrate_kbps=2000, crf=10)], preset="ultrafast", range_segments=1)
    )
    check(stream)
    assert len(stream.plan.ranges) == 4
    compare = "[0:v]setpts=N/TB/25[a];[1:v]setpts=N/TB/25[b];[a][b]psnr=stats_file=psnr.txt"
    command = [ffmpeg_path(), "-v", "error", "-i", str(clip), "-i", str(stream.master), "-lavfi", compare, "-f", "null", "-"]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
    lines = (tmp_path / "psnr.txt").read_text().splitlines()
    assert len(lines) == stream.plan.timing.frames
    worst = min(float(line.split("psnr_avg:")[1].split()[0]) for line in lines)
    assert worst > 25, "a neighbouring picture of this clip is below 22 dB"


def test_beeps_stay_with_their_seconds(tmp_path: Path) -> None:
    """A beep of 100 ms begins every second of the clip; after transcoding it begins within 10 ms of it."""
    clip = make_clip(tmp_path / "clip.mp4", seconds=9)
    stream = transcode(clip, tmp_path, SETTINGS)
    for manifest in (stream.master, stream.manifest):
        beeps = beep_starts(manifest)
        assert len(beeps) == 9
        # The first is at the very start, where AAC fades in.
        assert [round(at, 2) for at in beeps[1:]] == pytest.approx(range(1, 9), abs=0.01)


def beep_starts(source: Path) -> list[float]:
    """Seconds at which the 880 Hz beep rises over the 440 Hz tone."""
    band = "highpass=f=800:p=2,highpass=f=800:p=2"
    command = [ffmpeg_path(), "-v", "error", "-copyts", "-i", str(source), "-map", "0:v", "-f", "null", "-"]
    output = ["-map", "0:a", "-af", band, "-ac", "1", "-ar", "48000", "-f", "s16le", "pipe:1"]
    raw = subprocess.run([*command, *output], check=True, capture_output=True, timeout=60).stdout
    values = memoryview(raw).cast("h")
    loud = [max(map(abs, values[at : at + 240])) > 4000 for at in range(0, len(values) - 240, 240)]
    return [index * 240 / 48000 for index, now in enumerate(loud) if now and not any(loud[max(0, index - 20) : index])]


REAL = [
    clip
    for clip in shared_media()
    if clip.suffix in (".mp4", ".mkv", ".mov", ".webm", ".avi") and not clip.name.startswith("bad_")
]


@pytest.mark.slow
@pytest.mark.parametrize("clip", REAL, ids=lambda clip: clip.name)
def test_real_files_become_clean_streams(tmp_path: Path, clip: Path) -> None:
    one_rung = SETTINGS.model_copy(update={"ladder": QUICK_LADDER[:1]})
    check(transcode(clip, tmp_path, one_rung))


@pytest.mark.parametrize("options", [("-bf", "3"), ("-bf", "0"), ("-bf", "2", "-movflags", "+faststart")])
def test_an_index_tells_the_same_as_reading_every_packet(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A file of gigabytes is not read to learn when it ends."""
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=5")
    file = make_with(tmp_path / "indexed.mp4", *picture(rate="30000/1001"), *sound, "-c:v", "libx264", *options)
    assert judged(file, 0) == judged(file, WHOLE_UP_TO_BYTES)


@pytest.mark.parametrize("file", shared_media("[abcgt]*_*.m*"), ids=lambda file: file.name)
def test_the_index_of_a_real_file_tells_the_same(file: Path) -> None:
    try:
        whole = judged(file, WHOLE_UP_TO_BYTES)
    except (TaskFailed, OSError, ValueError) as refused:
        with pytest.raises(type(refused)):
            judged(file, 0)
        return
    assert judged(file, 0) == whole


def judged(file: Path, whole_up_to_bytes: int) -> ProbeReport:
    return judge(facts_from_json(facts(f"file:{file}", whole_up_to_bytes)), Bounds(2**30, 1e6))


@pytest.mark.parametrize("whole_up_to_bytes", [0, WHOLE_UP_TO_BYTES])
def test_a_file_without_true_keyframes_is_decoded_from_its_start(tmp_path: Path, whole_up_to_bytes: int) -> None:
    refreshed = ("-c:v", "libx264", "-bf", "0", "-g", "50", "-x264-params", "intra-refresh=1")
    clip = make_with(tmp_path / "refreshed.mp4", *picture(seconds=9), *refreshed)
    assert not judged(clip, whole_up_to_bytes).seekable
    if whole_up_to_bytes:
        check(transcode(clip, tmp_path, SETTINGS))


def test_an_edit_list_that_leaves_out_a_beginning_is_kept_to(tmp_path: Path) -> None:
    """Cut without encoding: the file begins at a keyframe, its edit list at the moment that was asked for."""
    whole = make_with(tmp_path / "whole.mp4", *picture(seconds=9), *TONE, "-t", "9", "-g", "50")
    cut = make_with(tmp_path / "cut.mp4", "-ss", "3", "-i", str(whole), "-c", "copy")
    stream = transcode(cut, tmp_path, SETTINGS)
    check(stream)
    assert float(stream.plan.timing.duration) == pytest.approx(6, abs=0.05)


def test_fields_become_whole_pictures(tmp_path: Path) -> None:
    """50 fields a second of a moving picture: 25 pictures, which are not combed."""
    fields = ("-vf", "tinterlace=interleave_top,setfield=tff", "-flags", "+ilme+ildct", "-c:v", "libx264", "-crf", "12")
    clip = make_with(tmp_path / "fields.mp4", *picture(rate="50", seconds=6), *fields)
    stream = transcode(clip, tmp_path, SETTINGS)
    assert stream.plan.timing.frame_rate == 25
    check(stream)
    assert combed(clip) == 150
    assert combed(stream.folder / "h264/240p/playlist.m3u8") < 10, "the detector errs now and then"


def combed(source: Path) -> int:
    """How many pictures look like two fields of different moments, whatever they say of themselves."""
    seen = ("-map", "0:v:0", "-vf", "idet", "-f", "null", "-")
    command = [ffmpeg_path(), "-hide_banner", "-i", str(source), *seen]
    told = subprocess.run(command, check=True, capture_output=True, timeout=60, text=True).stderr
    last = [line for line in told.splitlines() if "Multi frame detection" in line][-1].replace(":", " ").split()
    return int(last[last.index("TFF") + 1]) + int(last[last.index("BFF") + 1])
