"""What a creator is told of a video that is being made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headwater.rules.names import VideoId
from origin.api.forecast import ready_in, waits_for
from origin.api.making import making_answer
from origin.catalogue.schema import JobState, RenditionState, TaskState, VideoState
from origin.catalogue.tasklog import JobFacts, TaskEntry
from origin.catalogue.videos import Rendition, Video

ID = VideoId("AAAAAAAAAAA")


def rung(name: str, height: int, progress: float, state: RenditionState = RenditionState.ENCODING) -> Rendition:
    values: dict[str, Any] = {
        "width": height * 2, "height": height, "frame_rate": None, "codecs": None, "bandwidth_bps": None,
        "average_bandwidth_bps": None,
    }  # fmt: skip
    return Rendition("h264", name, "video", state, progress, **values)


def video(*renditions: Rendition, state: VideoState = VideoState.READY) -> Video:
    values: dict[str, Any] = {
        "title": "t", "description": "", "tags": (), "filename": "f", "content_type": "video/mp4", "size_bytes": 1,
        "failure": None, "width": 2, "height": 1, "frame_rate": None, "has_poster": False, "has_storyboard": False,
        "created_at": 0.0, "ready_at": None,
    }  # fmt: skip
    return Video(id=ID, state=state, duration_s=1000.0, renditions=renditions, **values)


def encode(name: str, state: TaskState, *, started: float, media_s: float = 100.0, took_s: float | None = None) -> TaskEntry:
    return TaskEntry(ID, f"encode/{name}", "encode", state, 1, started + (took_s or 0), media_s, took_s, None, started)


def job(state: JobState = JobState.RUNNING, ahead: int = 0) -> JobFacts:
    return JobFacts(state, 1, None, 0.0, ahead)


def test_a_rung_is_expected_by_the_speed_of_its_own_tasks() -> None:
    """Two at once, ten times as fast as it plays: 800 s of 1000 are left."""
    tasks = [encode(f"360p/{n}", TaskState.DONE, started=0.0, took_s=10.0) for n in range(2)]
    assert ready_in(video(rung("360p", 360, 0.2)), tasks, now=10.0) == {"h264/360p": pytest.approx(40.0)}


def test_the_others_come_after_the_first_and_cost_in_proportion_until_they_are_measured() -> None:
    tasks = [encode("100p/0", TaskState.DONE, started=0.0, took_s=10.0)]
    there = video(rung("100p", 100, 0.5), rung("200p", 200, 0.0, RenditionState.PLANNED))
    assert ready_in(there, tasks, now=10.0) == {"h264/100p": pytest.approx(50.0), "h264/200p": pytest.approx(50.0 + 400.0)}


def test_nothing_is_promised_before_anything_is_measured() -> None:
    assert ready_in(video(rung("360p", 360, 0.0)), [], now=1.0) == {}
    assert ready_in(video(rung("360p", 360, 0.0)), [encode("360p/0", TaskState.RUNNING, started=0.0)], now=1.0) == {}


def test_what_is_ready_is_not_forecast() -> None:
    tasks = [encode("360p/0", TaskState.DONE, started=0.0, took_s=10.0)]
    assert ready_in(video(rung("360p", 360, 1.0, RenditionState.READY)), tasks, now=10.0) == {}


def test_a_video_says_what_it_waits_for() -> None:
    """Nobody is left with a silent transcode: PeerTube #6674."""
    running = encode("360p/3", TaskState.RUNNING, started=5.0)
    cases = {
        "the rest of the upload": (video(state=VideoState.UPLOADING), None, []),
        "a transcoder to take it; 3 other videos wait longer": (video(), job(JobState.WAITING, 3), []),
        "a transcoder to take it": (video(), job(JobState.WAITING), []),
        "a free worker: other videos have their turn": (video(), job(), []),
        "encode/360p/3 (since 4 s)": (video(), job(), [running]),
        None: (video(), job(JobState.DONE), []),
    }
    assert {waits_for(*case, now=9.0): said for said, case in cases.items()} == {said: said for said in cases}


def test_a_tools_last_lines_are_for_who_shows_a_token() -> None:
    failed = TaskEntry(
        ID, "probe", "probe", TaskState.FAILED, 2, 1.0, error="damaged: The data is damaged.\nfile:/secret/path: bad"
    )
    shown = {
        trusted: making_answer(video(), job(), [failed], 2.0, trusted=trusted)["tasks"][0]["error"] for trusted in (True, False)
    }
    assert shown == {True: failed.error, False: "damaged: The data is damaged."}


def test_what_a_store_said_is_for_who_shows_a_token_and_what_is_wrong_with_a_file_for_everybody() -> None:
    said = "set-aside: the folder cannot be used: [Errno 13] Permission denied: '/secret/path'"
    aside = JobFacts(JobState.RUNNING, 2, said, 0.0, 0)
    failed = replace(aside, state=JobState.FAILED, error="damaged: The file's data is damaged from 0:04 on.")
    shown = {
        (one.state, trusted): making_answer(video(), one, [], 2.0, trusted=trusted)["job"]["error"]
        for one in (aside, failed)
        for trusted in (True, False)
    }
    assert shown == {
        (JobState.RUNNING, True): said, (JobState.RUNNING, False): "set-aside",
        (JobState.FAILED, True): failed.error, (JobState.FAILED, False): failed.error,
    }  # fmt: skip


def test_an_upload_says_what_is_begun_before_it_is_complete() -> None:
    uploading = video(state=VideoState.UPLOADING)
    early = TaskEntry(ID, "early/encode/360p/0", "early", TaskState.RUNNING, 1, 0.0, started_at=5.0)
    assert waits_for(uploading, None, [early], now=7.0) == "the rest of the upload; meanwhile early/encode/360p/0 (since 2 s)"
    done = replace(early, state=TaskState.DONE, took_s=2.0)
    assert waits_for(uploading, None, [done], now=9.0) == "the rest of the upload; its first seconds are made already"


def test_a_window_that_was_only_taken_over_says_nothing_about_speed() -> None:
    early = TaskEntry(ID, "early/encode/360p/0", "early", TaskState.DONE, 1, 2.0, None, 2.0, None, 0.0)
    taken = encode("360p/0", TaskState.DONE, started=500.0, media_s=4.0, took_s=0.01)
    tasks = [early, taken, encode("360p/1", TaskState.DONE, started=500.0, took_s=10.0)]
    assert ready_in(video(rung("360p", 360, 0.2)), tasks[:2], now=510.0) == {}
    assert ready_in(video(rung("360p", 360, 0.2)), tasks, now=510.0) == {"h264/360p": pytest.approx(80.0)}
