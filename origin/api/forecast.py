"""How long each rung will still take, from what its tasks have taken so far; and what a video waits for, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from origin.catalogue.schema import JobState, RenditionState, TaskState, VideoState
from origin.catalogue.tasklog import JobFacts, TaskEntry
from origin.catalogue.videos import Rendition, Video

EARLY = "early"  # kind, and first word, of tasks that ran before the upload was complete


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of work for a second of video by group of rungs ("480p+720p"), and how many tasks of this video run at once."""

    work_per_s: dict[str, float]
    at_once: float


def group_of(task: TaskEntry) -> str:
    """The rungs that an encode task makes: the middle of "encode/480p+720p/3"."""
    return task.name.split("/")[1]


def pace_of(tasks: Sequence[TaskEntry], now: float) -> Pace | None:
    """What was measured on this video's own encodes; None before the first is done. What was only taken over says nothing."""
    taken = {task.name.removeprefix(f"{EARLY}/") for task in tasks if task.kind == EARLY and task.state is TaskState.DONE}
    encodes = [task for task in tasks if task.kind == "encode" and task.started_at is not None and task.name not in taken]
    done = [task for task in encodes if task.state is TaskState.DONE and task.took_s and task.media_s]
    if not done:
        return None
    work: dict[str, float] = {}
    for group in {group_of(task) for task in done}:
        members = [task for task in done if group_of(task) == group]
        work[group] = sum(task.took_s or 0 for task in members) / sum(task.media_s or 0 for task in members)
    running = sum(now - _start(task, now) for task in encodes if task.state is TaskState.RUNNING)
    busy = sum(task.took_s or 0 for task in done) + running
    span = max(now, *(task.updated_at for task in done)) - min(_start(task, now) for task in encodes)
    return Pace(work, max(0.05, busy / span) if span > 0 else 1.0)


def ready_in(video: Video, tasks: Sequence[TaskEntry], now: float) -> dict[str, float]:
    """Seconds until each unfinished rung of the picture is whole, by its path; empty while nothing was measured.

    The first rung goes before the others, which are made together. What was not measured yet is taken to cost in proportion
    to its pixels.
    """
    pace = pace_of(tasks, now)
    if pace is None or not video.duration_s:
        return {}
    unfinished = [one for one in video.renditions if one.kind == "video" and one.state is not RenditionState.READY]
    first = next((group_of(task) for task in tasks if task.kind == "encode"), "")
    pixels = {one.rung: (one.width or 0) * (one.height or 0) for one in video.renditions}
    total = 0.0
    answer: dict[str, float] = {}
    for members in ([one for one in unfinished if one.rung == first], [one for one in unfinished if one.rung != first]):
        if members:
            remaining_s = video.duration_s * (1 - sum(one.progress for one in members) / len(members))
            total += remaining_s * _work(members, pace, pixels) / pace.at_once
            answer |= {f"{one.codec}/{one.rung}": round(total, 1) for one in members}
    return answer


def _work(members: Sequence[Rendition], pace: Pace, pixels: dict[str, int]) -> float:
    names = {one.rung for one in members}
    known = next((work for group, work in pace.work_per_s.items() if names <= set(group.split("+"))), None)
    if known is not None:
        return known
    group, work = next(iter(pace.work_per_s.items()))
    measured = sum(pixels.get(name, 0) for name in group.split("+")) or 1
    return work * sum(pixels[name] for name in names) / measured


def waits_for(video: Video, job: JobFacts | None, tasks: Sequence[TaskEntry], now: float) -> str | None:
    """What goes on or is missing, in words; None when nothing is to come."""
    if video.state is VideoState.UPLOADING:
        return "the rest of the upload" + _begun_early(tasks, now)
    if job is None or job.state in (JobState.DONE, JobState.FAILED):
        return None
    if job.state is JobState.WAITING:
        return f"a transcoder to take it; {job.ahead} other videos wait longer" if job.ahead else "a transcoder to take it"
    running = [task for task in tasks if task.state is TaskState.RUNNING]
    if not running:
        return "a free worker: other videos have their turn"
    return ", ".join(_in_words(task, now) for task in running)


def _begun_early(tasks: Sequence[TaskEntry], now: float) -> str:
    """What is made of an upload before it is complete."""
    running = [task for task in tasks if task.kind == EARLY and task.state is TaskState.RUNNING]
    if running:
        return "; meanwhile " + ", ".join(_in_words(task, now) for task in running)
    made = any(task.state is TaskState.DONE and task.name.startswith(f"{EARLY}/encode/") for task in tasks)
    return "; its first seconds are made already" if made else ""


def _in_words(task: TaskEntry, now: float) -> str:
    tries = f", attempt {task.attempts}" if task.attempts > 1 else ""
    return f"{task.name} (since {max(0.0, now - _start(task, now)):.0f} s{tries})"


def _start(task: TaskEntry, now: float) -> float:
    return now if task.started_at is None else task.started_at
