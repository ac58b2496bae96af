"""How one decode becomes several sizes."""

from __future__ import annotations

from fractions import Fraction

from origin.transcode.encoding.encode import filter_graph
from origin.transcode.encoding.ladder import VideoRung
from origin.transcode.encoding.plan import timing_for
from origin.transcode.media.source import ProbeReport
from origin.transcode.programs.tools import Ffmpeg

FFMPEG = Ffmpeg("/ffmpeg", "build", tone_maps=True)
RUNGS = [VideoRung(f"{side}p", side * 2, side, 500, 23.0) for side in (480, 720, 1080, 240)]
TIMING = timing_for(Fraction(8), Fraction(24), 4.0, 2.0)


def report(transfer: str = "") -> ProbeReport:
    return ProbeReport(
        duration=Fraction(8), zero=Fraction(0), frame_rate=Fraction(24), variable=False, width=1920, height=1080,
        pixel_format="yuv420p", video_codec="h264", video_index=0, video_end=Fraction(8), rotation=0, transfer=transfer,
        demuxer="mov", seekable=True, audio=None, audio_streams=0,
    )  # fmt: skip


def branches(rungs: list[VideoRung], transfer: str = "") -> dict[str, str]:
    """What each rung is scaled from: "source" or another rung."""
    shared, *rest = filter_graph(FFMPEG, report(transfer), TIMING, rungs, Fraction(0), 0).split(";")
    made_by = {"source": shared, **{step[3 : step.index("]")]: step for step in rest}}
    return {name: next(maker for maker, step in made_by.items() if f"[to{name}]" in step.partition("]")[2]) for name in made_by
            if name != "source"}  # fmt: skip


def test_the_two_largest_are_scaled_from_the_source_and_the_others_from_the_one_above() -> None:
    assert branches(RUNGS) == {"1080p": "source", "720p": "source", "480p": "720p", "240p": "480p"}
    assert branches(RUNGS[:2]) == {"720p": "source", "480p": "source"}


def test_what_is_tone_mapped_is_scaled_from_the_source_alone() -> None:
    """A picture that was mapped once must not be mapped again."""
    assert set(branches(RUNGS, "smpte2084").values()) == {"source"}


def test_one_rung_needs_no_split() -> None:
    graph = filter_graph(FFMPEG, report(), TIMING, RUNGS[:1], Fraction(0), 0)
    assert "split" not in graph
    assert graph.endswith("[480p]")
