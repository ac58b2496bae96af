"""Uploads that arrive as a stream through the origin: what every dialect is a translation of.

    append      1  the client's offset is the stored one, and what it announces fits
                2  its bytes become parts of the plan's size; the last, unfinished one grows with every request
                3  however the request ends, what came is stored, and only then is an offset told
    finish      4  all bytes are there: the steps of `complete` (origin/uploads/intake.py)

The offset is nowhere written down: it is the length of the parts without a gap, so that it cannot differ from what is stored.
Part n is replaced by a longer version of itself at once, or not at all; killed at any point, no told offset goes back.
A request that carries a checksum is stored whole and intact, or not at all.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from headwater.rules.names import VideoId
from headwater.runtime.metrics import counter
from origin.catalogue import ledger
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import LedgerPart, Upload
from origin.catalogue.schema import Dialect, Form
from origin.objects.interface import ObjectStoreFailed
from origin.objects.parts import ArrivedPart, PartDraft, PartsMissing, PartStore
from origin.uploads.beginning import Wanted
from origin.uploads.creator import Creator
from origin.uploads.finding import find_upload
from origin.uploads.intake import NO_DIGESTS, Intake
from origin.uploads.limits import check_budget
from origin.uploads.planning import Progress, stream_progress
from origin.uploads.refusal import Refusal, UploadRefused

STREAMED = counter("headwater_uploads_streamed_bytes_total", "Bytes of uploads stored as streams, by dialect.", ["dialect"])
APPENDS = counter("headwater_uploads_appends_total", "Requests that appended to a stream, by how they ended.", ["outcome"])


@dataclass(frozen=True, slots=True)
class StreamState:
    """`size_bytes` is 0 while nobody knows it; `finished`: nothing can be appended any more; times are Unix seconds."""

    upload: Upload
    offset: int
    expires_at: float

    @property
    def video_id(self) -> VideoId:
        return self.upload.video_id

    @property
    def size_bytes(self) -> int:
        return self.upload.size_bytes

    @property
    def finished(self) -> bool:
        return self.upload.completed_at is not None


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the body of one request must have; `algorithm` as hashlib names it."""

    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """One request's bytes: from `offset` on. `length` where the client announces it; `size` where it tells the whole file's;
    `last`: the file ends with them, whatever was declared; `told` is called with each offset that is stored meanwhile."""

    offset: int
    chunks: AsyncIterator[bytes]
    length: int | None = None
    size: int | None = None
    last: bool = False
    checksum: Checksum | None = None
    told: Callable[[int], Awaitable[None]] | None = None


class Interrupted(Exception):
    """The body ended before its time: the client has gone, stalled, or come back by another connection. What came is stored."""


class Streams:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._parts: PartStore = intake.parts
        self.limits = intake.limits
        self.clock = intake.clock

    async def begin(self, creator: Creator, wanted: Wanted) -> StreamState:
        """Raises UploadRefused."""
        video_id = await self._intake.beginning.begin(creator, wanted)
        upload = await self.upload(creator, video_id)
        await self._parts.begin(upload.id)
        return StreamState(upload, 0, self._expiry(upload, []))

    async def state(self, creator: Creator, video_id: VideoId) -> StreamState:
        """How far it is. Ends a request that still appends: its client asks because it lost that one. Raises UploadRefused."""
        await self.upload(creator, video_id)  # a stranger's question must not end it
        async with self._intake.turns.take(video_id):
            return await self._finished_if_whole(creator, await self.upload(creator, video_id))

    async def append(self, creator: Creator, video_id: VideoId, append: Append) -> StreamState:
        """Stores the bytes; finishes the upload when all are there. Raises UploadRefused, Interrupted."""
        await self.upload(creator, video_id)
        async with self._intake.turns.take(video_id) as displaced:
            upload = await self.upload(creator, video_id)
            await self._parts.begin(upload.id)  # again, if a kill came between its row and this
            progress = self._progress(upload, await self._intake.finishing.present(upload))
            self._check(upload, progress, append)
            upload = await self._sized(upload, append.size)  # not before: what is refused changes nothing
            writer = PartWriter(self._intake, upload, progress, append.told, held_back=append.checksum is not None)
            try:
                outcome = await self._receive(writer, upload, append, displaced)
            finally:
                await writer.close()
            APPENDS.labels(outcome).inc()
            if outcome != "stored":
                raise Interrupted(outcome)
            if append.last and not writer.offset:
                raise UploadRefused(Refusal.EMPTY, "the file is empty; choose a file that holds a video")
            if append.last and not upload.size_bytes:
                upload = await self._sized(upload, writer.offset)
            if append.last or upload.dialect is not Dialect.IETF:
                return await self._finished_if_whole(creator, upload)
            return await self._state(upload)

    async def join(self, creator: Creator, wanted: Wanted, pieces: list[VideoId]) -> StreamState:
        """A video of pieces that arrived whole, in this order (tus concatenation); the pieces go. Raises UploadRefused.

        `wanted.video` gets its size from the pieces, which `joined_size` tells.
        """
        sources = [await self._piece(creator, piece) for piece in pieces]
        wanted = replace(wanted, instead_of_bytes=sum({source.id: source.size_bytes for source in sources}.values()))
        upload = await self.upload(creator, await self._intake.beginning.begin(creator, wanted))
        await self._parts.begin(upload.id)
        try:
            if not await self._adopted(upload, sources):
                await self._written_anew(upload, sources)
        except PartsMissing:
            await self._intake.discard(creator, upload.video_id)
            detail = "a piece went while it was joined: another request made a video of it"
            raise UploadRefused(Refusal.NOT_CONCATENABLE, detail) from None
        await self._intake.finishing.finish(upload, NO_DIGESTS)
        for piece in dict.fromkeys(pieces):  # one may stand in it twice
            try:
                await self._intake.discard(creator, piece)
            except UploadRefused as refused:
                if refused.refusal is not Refusal.NO_SUCH_VIDEO:
                    raise  # else another request made a video of it too
        return await self._state(await self.upload(creator, upload.video_id))

    async def _adopted(self, upload: Upload, sources: list[Upload]) -> bool:
        """The pieces' parts are the upload's too, cut as they are. False when the store cannot have them so."""
        rows: list[LedgerPart] = []
        for source in sources:
            for part in await self._parts_of(source):
                number = len(rows) + 1
                if not await self._parts.adopt(upload.id, number, source.id, part):
                    return False
                rows.append(LedgerPart(number, part.size_bytes, part.sha256, part.arrived_at))
        async with writing(self._intake.catalogue) as connection:
            await ledger.record_parts(connection, upload.id, rows)
        return True

    async def _parts_of(self, piece: Upload) -> list[ArrivedPart]:
        """Raises PartsMissing when it is not whole any more."""
        parts = await self._intake.finishing.present(piece)
        if sum(part.size_bytes for part in parts) != piece.size_bytes:
            raise PartsMissing(piece.id, [1])
        return parts

    async def _written_anew(self, upload: Upload, sources: list[Upload]) -> None:
        writer = PartWriter(self._intake, upload, Progress(0, 1, 0), None, held_back=False)
        try:
            for source in sources:
                for part in await self._parts_of(source):
                    async for chunk in self._parts.read_part(source.id, part):
                        await writer.write(chunk)
            await writer.settle()
        finally:
            await writer.close()

    async def discard(self, creator: Creator, video_id: VideoId) -> None:
        """Ends an upload that is not completed, with what came of it. Raises UploadRefused."""
        await self._intake.discard(creator, (await self.upload(creator, video_id)).video_id)

    async def joined_size(self, creator: Creator, pieces: list[VideoId]) -> int:
        """Bytes of the pieces together. Raises UploadRefused for what is no piece, or not whole."""
        return sum([(await self._piece(creator, piece)).size_bytes for piece in pieces])

    async def finish_whole(self) -> int:
        """Finishes streams that have all their bytes, but whose last request was killed before it said so. Returns how many."""
        async with reading(self._intake.catalogue) as connection:
            candidates = await ledger.open_streams(connection)
        finished = 0
        for upload in candidates:
            if upload.dialect is Dialect.IETF:
                continue  # its client says itself when it is complete
            try:
                if (await self._state(upload)).offset != upload.size_bytes:
                    continue  # still arriving, which must not be disturbed
                finished += (await self.state(Creator(upload.creator, manages=True), upload.video_id)).finished
            except (UploadRefused, ObjectStoreFailed):
                continue  # its client is told why when it asks; the others, and what is to be collected, do not wait
        return finished

    async def upload(self, creator: Creator, video_id: VideoId) -> Upload:
        """The stream's row; disturbs nobody who appends. Raises UploadRefused."""
        upload = await find_upload(self._intake.catalogue, creator, video_id)
        if upload.dialect is Dialect.PARTS:
            raise UploadRefused(Refusal.NOT_A_STREAM, f"the upload of {video_id} arrives in parts: GET …/upload names them")
        return upload

    async def _piece(self, creator: Creator, video_id: VideoId) -> Upload:
        upload = await self.upload(creator, video_id)
        if upload.form is not Form.PIECE or upload.completed_at is None:
            detail = f"{video_id} is no piece that arrived whole; send it first, with `Upload-Concat: partial`"
            raise UploadRefused(Refusal.NOT_CONCATENABLE, detail)
        return upload

    async def _sized(self, upload: Upload, size: int | None) -> Upload:
        """The upload with its size, if the client tells it now."""
        if size is None or size == upload.size_bytes:
            return upload
        self._intake.beginning.check_size(size)
        async with writing(self._intake.catalogue) as connection:
            _, _, all_bytes = await ledger.held(connection, upload.creator)
            check_budget(size, all_bytes, self.limits)  # until now it counted as nothing
            await ledger.declare_size(connection, upload, size)
        return await self.upload(Creator(upload.creator, manages=True), upload.video_id)

    def _check(self, upload: Upload, progress: Progress, append: Append) -> None:
        if upload.completed_at is not None:
            raise UploadRefused(Refusal.COMPLETED, f"the upload of {upload.video_id} is completed: nothing can be added to it")
        if append.offset != progress.offset:
            detail = f"{progress.offset} bytes are stored, yours begin at {append.offset}; go on at {progress.offset}"
            raise UploadRefused(Refusal.OFFSET_DIFFERS, detail, {"offset": progress.offset})
        if upload.size_bytes and append.size not in (None, upload.size_bytes):
            detail = f"{upload.size_bytes} bytes were declared before, {append.size} now; begin a new upload for another file"
            raise UploadRefused(Refusal.SIZE_DIFFERS, detail)
        end, most = append.offset + (append.length or 0), append.size or self._most(upload)
        if end > most:
            raise _beyond(end, most)

    def _most(self, upload: Upload) -> int:
        return upload.size_bytes or self._intake.limits.max_size

    async def _receive(self, writer: PartWriter, upload: Upload, append: Append, displaced: asyncio.Event) -> str:
        """How it ended; what came is stored then."""
        digest = hashlib.new(append.checksum.algorithm, usedforsecurity=False) if append.checksum is not None else None
        most = self._most(upload)
        outcome = "stored"
        try:
            async for chunk in _until_displaced(append.chunks, displaced):
                if writer.offset + len(chunk) > most:
                    raise _beyond(writer.offset + len(chunk), most)
                await writer.write(chunk)
                if digest is not None:
                    digest.update(chunk)
        except Interrupted as error:
            outcome = str(error)
        if digest is not None and append.checksum is not None:
            if outcome != "stored":
                return outcome  # it cannot be checked, so nothing of it counts
            if not hmac.compare_digest(digest.digest(), append.checksum.digest):
                detail = f"the body does not have the {append.checksum.algorithm} that was sent with it; send it again"
                raise UploadRefused(Refusal.CHECKSUM_DIFFERS, detail)
        await writer.settle()
        return outcome

    async def _finished_if_whole(self, creator: Creator, upload: Upload) -> StreamState:
        state = await self._state(upload)
        if state.finished or not state.size_bytes or state.offset != state.size_bytes:
            return state
        if upload.form is Form.PIECE:
            async with writing(self._intake.catalogue) as connection:
                await ledger.close_piece(connection, upload, self._intake.clock())
        else:
            await self._intake.finishing.finish(upload, NO_DIGESTS)
        return await self._state(await self.upload(creator, upload.video_id))

    async def _state(self, upload: Upload) -> StreamState:
        if upload.completed_at is not None:
            return StreamState(upload, upload.size_bytes, self._expiry(upload, []))
        arrived = await self._intake.finishing.present(upload)
        return StreamState(upload, self._progress(upload, arrived).offset, self._expiry(upload, arrived))

    def _progress(self, upload: Upload, arrived: list[ArrivedPart]) -> Progress:
        return stream_progress(upload.part_size_bytes, ((part.number, part.size_bytes) for part in arrived))

    def _expiry(self, upload: Upload, arrived: list[ArrivedPart]) -> float:
        last = max((part.arrived_at for part in arrived), default=upload.created_at)
        return max(last, upload.created_at) + self._intake.limits.keep_unfinished


class PartWriter:
    """Cuts chunks into parts. With `held_back` nothing counts before `settle`; else each part counts as soon as it is full."""

    def __init__(
        self,
        intake: Intake,
        upload: Upload,
        progress: Progress,
        told: Callable[[int], Awaitable[None]] | None,
        *,
        held_back: bool,
    ) -> None:
        self._intake = intake
        self._upload = upload
        self._number = progress.next_number
        self._tail_bytes = progress.tail_bytes
        self._counted_bytes = progress.tail_bytes  # of the part that settles next: it was counted when it was shorter
        self._told = told
        self._held_back = held_back
        self._draft: PartDraft | None = None
        self._full: list[PartDraft] = []
        self.offset = progress.offset

    async def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            draft = self._draft or await self._next_draft()
            taken = view[: self._upload.part_size_bytes - draft.size_bytes]
            await draft.write(bytes(taken))
            self.offset += len(taken)
            view = view[len(taken) :]
            if draft.size_bytes == self._upload.part_size_bytes:
                self._full.append(draft)
                self._draft = None
                if not self._held_back:
                    await self._settle_full()
                    if self._told is not None:
                        await self._told(self.offset)

    async def settle(self) -> None:
        """Everything that was written counts."""
        if self._draft is not None:
            self._full.append(self._draft)
            self._draft = None
        await self._settle_full()

    async def close(self) -> None:
        """Nothing is left of what did not count."""
        for draft in [*self._full, *([self._draft] if self._draft else [])]:
            await draft.abandon()

    async def _next_draft(self) -> PartDraft:
        """The next part; the first one begins with the bytes of the tail that it replaces."""
        self._draft = draft = await self._intake.parts.draft(self._upload.id, self._number)
        if self._tail_bytes:
            arrived = await self._intake.parts.arrived(self._upload.id)
            (tail,) = [part for part in arrived if part.number == self._number]
            async for chunk in self._intake.parts.read_part(self._upload.id, tail):
                await draft.write(chunk)
            self._tail_bytes = 0
        self._number += 1
        return draft

    async def _settle_full(self) -> None:
        while self._full:
            part = await self._full[0].settle()
            await self._full.pop(0).abandon()
            STREAMED.labels(self._upload.dialect.value).inc(part.size_bytes - self._counted_bytes)
            self._counted_bytes = 0
            row = LedgerPart(part.number, part.size_bytes, part.sha256, part.arrived_at)
            async with writing(self._intake.catalogue) as connection:
                await ledger.note_part(connection, self._upload.id, row)


async def _until_displaced(chunks: AsyncIterator[bytes], displaced: asyncio.Event) -> AsyncIterator[bytes]:
    """The chunks; raises Interrupted as soon as somebody else wants the turn, also while nothing comes."""
    stop = asyncio.ensure_future(displaced.wait())
    try:
        while True:
            step = asyncio.ensure_future(anext(chunks, None))
            try:
                await asyncio.wait({step, stop}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not step.done():
                    step.cancel()
                    await asyncio.gather(step, return_exceptions=True)
            if step.cancelled():
                raise Interrupted("displaced")
            if (chunk := step.result()) is None:
                return
            yield chunk
    finally:
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)


def _beyond(bytes_coming: int, most: int) -> UploadRefused:
    detail = f"these bytes would end at {bytes_coming}, the file has at most {most}; declare its true size in a new upload"
    return UploadRefused(Refusal.BEYOND_SIZE, detail)
