"""Takes jobs by lease and sees each video through. What is here may die at any moment: the ledger and the outputs stay."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from headwater.rules.contentsteering import DASH_STEERING
from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from origin.catalogue.deletions import held_deletions, let_go
from origin.catalogue.jobs import Job, claim_next, finish, release, renew, set_aside, unfinished, waiting
from origin.catalogue.renditions import has_whole_rung, mark_failed, mark_processing
from origin.catalogue.schema import JobWant
from origin.objects.interface import DiskFull, ObjectNotFound, ObjectStore, ObjectStoreFailed, is_disk_full
from origin.transcode.early.starting import EarlyStarts
from origin.transcode.failure import FailureKind, TaskFailed
from origin.transcode.graph.journal import VideoNotes
from origin.transcode.graph.making import VideoMaking, Workshop
from origin.transcode.graph.popular import AddingAv1
from origin.transcode.graph.tasks import Source
from origin.transcode.metrics import JOBS_WAITING, LEASES_LOST, VIDEOS
from origin.transcode.publishing.publish import Publisher

VIDEOS_PER_PLACE = 4  # of those that nobody can watch yet
MOST_VIDEOS = 256  # under way at once in one coordinator; each costs some memory, and a local copy of its master at S3


class Coordinator:
    """`masters` has the uploads, `published` is where viewers' objects go, `folder` holds work in progress."""

    def __init__(
        self,
        shop: Workshop,
        masters: ObjectStore,
        published: ObjectStore,
        folder: Path,
        owner: str,
        log: Log,
        steering_url: Callable[[VideoId], str] = lambda video_id: DASH_STEERING,
        early: EarlyStarts | None = None,
    ) -> None:
        """`steering_url` is what a video's DASH manifest names for Content Steering."""
        self.swept = asyncio.Event()  # nothing of an earlier process is removed any more
        self._early = early
        self._shop = shop
        self._masters = masters
        self._store = published
        self._folder = folder
        self._owner = owner
        self._log = log
        self._steering_url = steering_url
        self._running: dict[VideoId, asyncio.Task[None]] = {}
        self._playable: set[VideoId] = set()

    async def work(self) -> None:
        """Claims and makes videos for ever. Cancelled, it gives its jobs back."""
        engine, clock = self._shop.engine, self._shop.clock
        await release(engine, self._owner, clock())  # of a process of this name that died
        await self._sweep()
        self.swept.set()
        try:
            while True:
                await self._drop_deleted()
                await self._claim()
                JOBS_WAITING.set(await waiting(engine))
                await self._until_something_changes()
        finally:
            await self._stop()
            await release(engine, self._owner, clock())

    async def keep_leases(self) -> None:
        """Prolongs the leases of what is being made; stops work on what someone else took."""
        while True:
            lease_s = self._shop.settings.lease
            await asyncio.sleep(lease_s / 3)
            for video_id, task in list(self._running.items()):
                if not task.done() and not await renew(self._shop.engine, video_id, self._owner, self._shop.clock(), lease_s):
                    LEASES_LOST.inc()
                    self._log.warning("lease lost", video_id=video_id)
                    task.cancel()

    async def _sweep(self) -> None:
        """Removes work of videos that are not to be made any more: a task may have written after its video was done."""
        keep = await unfinished(self._shop.engine)
        for folder in await asyncio.to_thread(_folders, self._folder):
            if folder.name not in keep:
                await asyncio.to_thread(_remove, folder)

    async def _claim(self) -> None:
        """A video that plays already holds up nobody: the first window of those that wait outranks its remaining tasks."""
        while len(self._running) < MOST_VIDEOS and self._unplayable() < VIDEOS_PER_PLACE * self._shop.cluster.places:
            job = await claim_next(self._shop.engine, self._owner, self._shop.clock(), self._shop.settings.lease)
            if job is None:
                return
            if job.video_id in self._running:  # its lease ran out, the catalogue being slow, and nobody else took it: it goes on
                continue
            self._log.info("job taken", video_id=job.video_id, attempts=job.attempts)
            self._running[job.video_id] = asyncio.create_task(self._make(job), name=f"video-{job.video_id}")

    async def _drop_deleted(self) -> None:
        """Stops making videos that were deleted, and says so once nothing of them is written any more."""
        for video_id in await held_deletions(self._shop.engine, self._owner):
            if (task := self._running.pop(video_id, None)) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                VIDEOS.labels("deleted").inc()
                self._log.info("video deleted while it was made", video_id=video_id)
            self._playable.discard(video_id)
            self._shop.gate.forget(video_id)
            await asyncio.to_thread(_close, self._folder / video_id)
            await let_go(self._shop.engine, video_id, self._owner)

    def _unplayable(self) -> int:
        return sum(1 for video_id in self._running if video_id not in self._playable)

    async def _until_something_changes(self) -> None:
        poll_s = self._shop.settings.poll
        if not self._running:
            await asyncio.sleep(poll_s)
            return
        done, _ = await asyncio.wait(self._running.values(), timeout=poll_s, return_when=asyncio.FIRST_COMPLETED)
        for video_id in [video_id for video_id, task in self._running.items() if task in done]:
            task = self._running.pop(video_id)
            self._playable.discard(video_id)
            self._shop.gate.forget(video_id)
            if not task.cancelled() and (error := task.exception()) is not None:
                VIDEOS.labels("set-aside").inc()
                self._log.error("video set aside", video_id=video_id, error=repr(error), exc_info=error)
                await self._set_aside(video_id, error)

    async def _set_aside(self, video_id: VideoId, error: BaseException) -> None:
        """The catalogue, a store or the cluster is away, or a disk is full. The lease runs out, and the job is taken again."""
        causes = list(_causes(error))
        full = next((cause for cause in causes if is_disk_full(cause)), None)
        reason = f"disk-full: {full}" if full is not None else f"set-aside: {causes[0]}"
        until = self._shop.clock() + self._shop.settings.lease
        with suppress(SQLAlchemyError):  # without the catalogue nothing is noted, and the lease runs out all the same
            await set_aside(self._shop.engine, video_id, self._owner, until, reason)

    async def _stop(self) -> None:
        tasks = list(self._running.values())
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _make(self, job: Job) -> None:
        engine, clock = self._shop.engine, self._shop.clock
        publisher = Publisher(self._store, job.video_id, self._steering_url(job.video_id))
        work = self._folder / job.video_id
        await mark_processing(engine, job.video_id, clock())
        try:
            later = await self._made(job, publisher, work)
            _set_aside_if_full(later)
        except TaskFailed as failed:
            _set_aside_if_full([failed])
            await self._failed(job, publisher, failed)
        else:
            for outcome in [failure.kind.value for failure in later] or ["done"]:
                VIDEOS.labels(outcome).inc()
            error = "; ".join(map(str, later)) or None
            await finish(engine, job.video_id, self._owner, clock(), error)
            self._log.info("video done", video_id=job.video_id, error=error)
        await self._shop.journal.flush()
        await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

    async def _made(self, job: Job, publisher: Publisher, work: Path) -> list[TaskFailed]:
        try:
            info = await self._masters.stat(job.master_key)
            async with self._masters.as_file(job.master_key) as master:
                openings = await self._early.openings_for(job.video_id) if self._early else None
                source = Source(master, info.sha256, work, self._shop.settings.ffmpeg, openings)
                notes = await self._shop.journal.begin(job.video_id)
                if job.wanted is JobWant.AV1:
                    return await self._more(job, source, publisher, notes)
                settled = partial(self._early.settled, job.video_id) if self._early else _at_once
                making = VideoMaking(self._shop, job.video_id, source, publisher, self._log, self._playable.add, notes, settled)
                return await making.run()
        except ObjectNotFound as error:
            raise TaskFailed(FailureKind.MASTER_MISSING, "The uploaded file is not in the store any more.", str(error)) from error

    async def _more(self, job: Job, source: Source, publisher: Publisher, notes: VideoNotes) -> list[TaskFailed]:
        """The video plays: it holds up nobody, and what fails takes nothing away."""
        self._playable.add(job.video_id)
        if (av1 := self._shop.settings.av1) is not None:
            await AddingAv1(self._shop, job.video_id, source, publisher, self._log, notes).run(av1)
        return []

    async def _failed(self, job: Job, publisher: Publisher, failed: TaskFailed) -> None:
        """Nothing half-published stays, unless a whole rung can be played, of this run or an earlier one."""
        engine, clock = self._shop.engine, self._shop.clock
        VIDEOS.labels(failed.kind).inc()
        self._log.warning("video failed", video_id=job.video_id, failure=failed.kind, detail=failed.detail)
        if not await has_whole_rung(engine, job.video_id):
            try:
                await publisher.withdraw()
            except ObjectStoreFailed as error:
                self._log.warning("leftovers not removed", video_id=job.video_id, error=str(error))
            await mark_failed(engine, job.video_id, failed.kind, failed.sentence, clock())
        await finish(engine, job.video_id, self._owner, clock(), str(failed))


def _set_aside_if_full(failures: Sequence[TaskFailed]) -> None:
    """A full disk fails no video: what is made stays, the job is set aside, and goes on when there is room. Raises DiskFull."""
    for failure in failures:
        if failure.kind is FailureKind.DISK_FULL:
            raise DiskFull(failure.sentence) from failure


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What is publishing several files at once, or making several parts, comes as a group, which says nothing itself."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    else:
        yield error


def _close(work: Path) -> None:
    """Ends all work in this folder: children whose folder is gone end by themselves (child.py), and where it was stands an empty
    file, so that a task that was handed out before cannot make it again. The next start sweeps that file."""
    while True:
        try:
            work.touch(exist_ok=False)
        except FileExistsError:
            if work.is_file():
                return
            shutil.rmtree(work, ignore_errors=True)
        except FileNotFoundError:
            return  # nothing was ever made here


def _remove(path: Path) -> None:
    if path.is_file():
        path.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


async def _at_once() -> None:
    """Nothing is made early."""


def _folders(parent: Path) -> list[Path]:
    return list(parent.iterdir()) if parent.is_dir() else []
