"""Uploads that still go on: of each whose head and index have landed, the first window is made, where a place is free for it.

The law:
1. What is made depends on nothing but the parts that were read. Their digests are taken as they are read, and noted before
   anything is made (`reads.json`). It is used only if the completed upload has these parts, and shown only by its job.
2. An upload costs one look and one window, however long it stays and whatever is sent again; nothing is begun anew.
3. At most MOST of them are waited for, for WAIT_S each, MOST_OF_ONE of one creator, and AT_ONCE copied; a place on a worker is
   taken only where nothing else waits.
4. An upload that is discarded or collected takes it along: the folder goes, and with it the tool that works in it.

Everything lies in the work folder of the video, which goes with its making's end, or at a restart when there is no job.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from headwater.rules.names import VideoId
from headwater.runtime.logs import Log
from origin.catalogue import ledger
from origin.catalogue.engine import reading
from origin.catalogue.jobs import unfinished
from origin.catalogue.ledger import Upload
from origin.catalogue.schema import Form
from origin.objects.interface import ObjectStoreFailed
from origin.transcode.early.ground import MOST_BYTES, Ground, NotLanded, Unsuited
from origin.transcode.early.openings import note_reads, reads_of
from origin.transcode.early.tasks import EarlyLook, run_look, run_sound, run_window
from origin.transcode.encoding.audio import SoundSettings
from origin.transcode.encoding.encode import EncodeSettings
from origin.transcode.encoding.plan import make_plan, sound_segments, sound_windows
from origin.transcode.failure import TaskFailed
from origin.transcode.graph.cluster import ClusterLost, threads_for
from origin.transcode.graph.fair import Stage
from origin.transcode.graph.making import Workshop
from origin.transcode.graph.running import TaskRunner
from origin.transcode.graph.tasks import Source
from origin.transcode.media.source import Bounds
from origin.transcode.metrics import EARLY
from origin.transcode.programs.child import BACKGROUND
from origin.uploads.landed import LandedFile, Landing

OPENINGS, GROUND = "openings", "ground"
MOST = 32
MOST_OF_ONE = 4
AT_ONCE = 2
LOOK_EVERY_S = 0.5
LOOK_AT = 64  # uploads a round
FIRST_WAIT_S, LONGEST_WAIT_S, WAIT_S = 0.2, 5.0, 3600.0  # for parts that are needed
BEYOND_S = 2.0  # of pictures and sound after the window: a decoder runs ahead of what it shows
PATIENCE_S = 1.5  # of a video that could be shown, for what is in work for it


class EarlyStarts:
    """`folder` is where videos are made, one folder each."""

    def __init__(self, shop: Workshop, landing: Landing, folder: Path, keep_free_bytes: int, log: Log) -> None:
        self._shop = shop
        self._landing = landing
        self._folder = folder
        self._keep_free_bytes = keep_free_bytes
        self._log = log
        self._kept: dict[VideoId, str | None] = {}  # with their creators
        self._running: dict[VideoId, asyncio.Task[None]] = {}
        self._encoding: set[VideoId] = set()  # what they make can be waited for
        self._copying = asyncio.Semaphore(AT_ONCE)

    async def watch(self, swept: asyncio.Event) -> None:
        """Looks for uploads to begin with, for ever, once what an earlier process left is removed.

        Cancelled, it leaves what was made to the jobs that may come.
        """
        await swept.wait()
        try:
            while True:
                try:
                    await self._round()
                except (SQLAlchemyError, ObjectStoreFailed, OSError) as error:
                    self._log.warning("nothing is begun early", error=str(error))
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def openings_for(self, video_id: VideoId) -> Path | None:
        """Where something is, or will be in a moment, that was made of parts which the completed upload has. Else it goes."""
        openings = self._folder / video_id / OPENINGS
        reads = await asyncio.to_thread(reads_of, openings)
        if not reads:
            await self._drop(video_id)
            return None
        async with reading(self._shop.engine) as connection:
            upload = await ledger.upload_of(connection, video_id)
            recorded = await ledger.recorded_parts(connection, upload.id) if upload is not None else []
        parts = {part.number: part.sha256 for part in recorded}
        if all(parts.get(number) == sha256 for number, sha256 in reads.items()):
            EARLY.labels("used").inc()
            return openings
        EARLY.labels("outdated").inc()
        self._log.info("what was begun early is of parts that were sent again", video_id=video_id)
        await self._drop(video_id)
        return None

    async def settled(self, video_id: VideoId) -> None:
        """Returns when nothing more comes for this video: at once, or after PATIENCE_S at most."""
        if (task := self._running.get(video_id)) is None:
            return
        if video_id in self._encoding:
            await asyncio.wait([task], timeout=PATIENCE_S)
        await self._stop(video_id)

    async def _round(self) -> None:
        async with reading(self._shop.engine) as connection:
            uploads = {upload.video_id: upload for upload in await ledger.open_uploads(connection) if _is_suited(upload)}
        await self._let_go([video_id for video_id in self._kept if video_id not in uploads])
        for upload in [upload for upload in uploads.values() if self._has_room(upload)][:LOOK_AT]:
            if self._has_room(upload) and await self._is_begun(upload):
                self._kept[upload.video_id] = upload.creator
                self._running[upload.video_id] = asyncio.create_task(self._make(upload.video_id), name=f"early-{upload.video_id}")

    def _has_room(self, upload: Upload) -> bool:
        of_one = sum(creator == upload.creator for creator in self._kept.values())
        return upload.video_id not in self._kept and len(self._running) < MOST and of_one < MOST_OF_ONE

    async def _is_begun(self, upload: Upload) -> bool:
        """Whether its head is there but not yet all of it: what is whole will be complete in a moment."""
        file = await self._landing.find(upload.video_id)
        return file is not None and file.holds(0, 1) and not file.holds(0, file.size_bytes)

    async def _let_go(self, not_open: list[VideoId]) -> None:
        """What was made is its job's as long as there is one; then, and without one, it goes."""
        if not not_open:
            return
        jobs = await unfinished(self._shop.engine)
        for video_id in [video_id for video_id in not_open if video_id not in jobs]:
            async with reading(self._shop.engine) as connection:
                gone = await ledger.upload_of(connection, video_id) is None
            if gone:
                EARLY.labels("abandoned").inc()
            await self._drop(video_id)
            with suppress(OSError):  # something else is in it
                await asyncio.to_thread((self._folder / video_id).rmdir)
            self._kept.pop(video_id, None)

    async def _drop(self, video_id: VideoId) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / video_id / OPENINGS, ignore_errors=True)
        await self._stop(video_id)

    async def _stop(self, video_id: VideoId) -> None:
        if (task := self._running.get(video_id)) is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _make(self, video_id: VideoId) -> None:
        openings = self._folder / video_id / OPENINGS
        log = self._log.bind(video_id=video_id)
        try:
            await self._made(video_id, openings)
        except (Unsuited, TaskFailed) as error:
            EARLY.labels("unsuited").inc()
            log.info("nothing is begun before the upload is complete", reason=str(error))
        except (ClusterLost, SQLAlchemyError, ObjectStoreFailed, OSError) as error:
            EARLY.labels("failed").inc()
            log.warning("what was begun early is given up", error=str(error))
        else:
            EARLY.labels("made").inc()
            log.info("the first window is made before the upload is complete")
        finally:
            self._running.pop(video_id, None)
            self._encoding.discard(video_id)
            await asyncio.to_thread((openings / GROUND).unlink, missing_ok=True)

    async def _made(self, video_id: VideoId, openings: Path) -> None:
        settings = self._shop.settings
        await asyncio.to_thread(openings.mkdir, parents=True, exist_ok=True)
        if (await asyncio.to_thread(shutil.disk_usage, openings)).free < self._keep_free_bytes + MOST_BYTES:
            raise Unsuited("the disk is nearly full")
        ground = Ground(self._landing, openings / GROUND)
        await self._until_landed(video_id, ground.hold_index)
        source = Source(openings / GROUND, "", openings, settings.ffmpeg)
        notes = await self._shop.journal.begin(video_id)
        tasks = TaskRunner(self._shop.cluster, self._shop.gate, 1, video_id, notes, self._log.bind(video_id=video_id))
        bounds, seconds = Bounds(settings.max_pixels, settings.max_duration), settings.segment + BEYOND_S
        look = await tasks.run("early", "early/probe", Stage.UNCOMPLETED, run_look, source, bounds, seconds)
        await self._until_landed(video_id, partial(ground.hold, first=0, end=look.reach))
        await asyncio.to_thread(note_reads, openings, ground.digests)
        self._encoding.add(video_id)
        await self._encoded(tasks, source, look)

    async def _encoded(self, tasks: TaskRunner, source: Source, look: EarlyLook) -> None:
        settings, report = self._shop.settings, look.report
        plan = make_plan(report, settings)
        encoding = EncodeSettings(settings.preset, threads_for(settings, alone=True), settings.task_timeout, BACKGROUND)
        name = f"early/encode/{plan.rungs[0].name}/0"
        await tasks.run("early", name, Stage.UNCOMPLETED, run_window, source, report, plan, encoding)
        if plan.audio_kbps is not None:
            window = sound_windows(sound_segments(plan.timing))[0]
            sound = SoundSettings(plan.audio_kbps, settings.task_timeout, BACKGROUND)
            await tasks.run("early", "early/audio/0", Stage.UNCOMPLETED, run_sound, source, report, plan, sound, window)

    async def _until_landed(self, video_id: VideoId, hold: Callable[[LandedFile], Awaitable[None]]) -> None:
        """Copies what `hold` needs, as soon as it is there. Raises Unsuited."""
        wait_s, deadline = FIRST_WAIT_S, self._shop.clock() + WAIT_S
        while (file := await self._landing.find(video_id)) is not None:
            try:
                async with self._copying:
                    return await hold(file)
            except NotLanded:
                if self._shop.clock() > deadline:
                    raise Unsuited("what its first pictures need does not arrive") from None
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
        raise Unsuited("the upload has ended")


def _is_suited(upload: Upload) -> bool:
    return upload.form is Form.WHOLE and upload.size_bytes > upload.part_size_bytes
