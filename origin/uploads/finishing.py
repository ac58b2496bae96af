"""From parts to a master and a waiting job: steps 3 to 6 of the law of an upload (origin/uploads/intake.py)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.rules.names import VideoId
from headwater.runtime.metrics import counter
from origin.catalogue import ledger
from origin.catalogue.deletions import master_in_use
from origin.catalogue.engine import reading, writing
from origin.catalogue.ledger import LedgerPart, Upload
from origin.catalogue.saiddigests import said_digests
from origin.catalogue.schema import Dialect, Form
from origin.objects.interface import ObjectNotFound, ObjectStore
from origin.objects.parts import ArrivedPart, PartDigests, PartsDamaged, PartsMissing, PartStore
from origin.uploads.beginning import UPLOADS
from origin.uploads.planning import Plan, Shortfall, damage_of, digest_of_parts, shortage_of, shortfall
from origin.uploads.refusal import Refusal, UploadRefused

REUSED = counter(
    "headwater_uploads_reused_bytes_total", "Bytes of uploaded files that were not stored again: they were here already."
)


def master_key(video_id: VideoId) -> str:
    """Where the uploaded file lies in the masters store."""
    return f"masters/{video_id}/source"


def plan_of(upload: Upload) -> Plan:
    return Plan(upload.size_bytes, upload.part_size_bytes)


class Finishing:
    """Every step may be repeated. The caller sees to it that one at a time works on an upload."""

    def __init__(
        self, catalogue: AsyncEngine, parts: PartStore, masters: ObjectStore, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._catalogue = catalogue
        self._parts = parts
        self._masters = masters
        self._clock = clock

    async def finish(self, upload: Upload, digests: Mapping[int, str]) -> None:
        """Makes the master and `upload.complete`. Raises UploadRefused."""
        present = await self.present(upload)
        parts = self._parts_to_assemble(upload, present, digests)
        whole = digest_of_parts(upload.part_size_bytes, ((part.size_bytes, part.sha256) for part in parts))
        await self._record(upload, parts)
        trusted = self._parts.verifies or upload.dialect is not Dialect.PARTS
        known = await self._known(upload, whole) if whole is not None and trusted else None
        if known is not None and await self._reused(upload, *known, whole):
            return
        sha256, key = await self._assemble(upload, parts)
        async with writing(self._catalogue) as connection:
            first = await ledger.complete_upload(connection, upload, sha256, key, self._clock(), whole)
        if first:
            UPLOADS.labels("completed").inc()

    async def _reused(self, upload: Upload, sha256: str, key: str, whole: str | None) -> bool:
        """Completes the upload with a master that is there already. False when its videos were deleted meanwhile."""
        async with writing(self._catalogue) as connection:
            if not await master_in_use(connection, key):
                return False
            first = await ledger.complete_upload(connection, upload, sha256, key, self._clock(), whole)
        await self._parts.discard(upload.id)  # killed before this, whoever repeats `complete` drops them
        if first:
            REUSED.inc(upload.size_bytes)
            UPLOADS.labels("completed").inc()
        return True

    async def present(self, upload: Upload) -> list[ArrivedPart]:
        """What arrived; or what the ledger has when a `complete` was killed after step 5, which drops the parts."""
        async with reading(self._catalogue) as connection:
            recorded = await ledger.recorded_parts(connection, upload.id)
            said = await said_digests(connection, upload.id)
        if not (arrived := await self._parts.arrived(upload.id)):
            return [ArrivedPart(part.number, part.size_bytes, part.sha256, part.arrived_at) for part in recorded]
        # Of parts that passed through here the ledger has the digest, also where the store does not learn it.
        known = {(part.number, part.size_bytes): part.sha256 for part in recorded} if upload.dialect is not Dialect.PARTS else {}
        return [
            replace(part, sha256=part.sha256 or known.get((part.number, part.size_bytes), "") or _said_of(part, said))
            for part in arrived
        ]

    def _parts_to_assemble(self, upload: Upload, present: Sequence[ArrivedPart], digests: Mapping[int, str]) -> list[ArrivedPart]:
        """The parts in order, all of them there with the right size, each with its digest if anyone knows it.

        Raises UploadRefused.
        """
        if upload.form is Form.JOINED:
            return sorted(present, key=_number)  # cut as its pieces were; the store says when one is missing
        plan = plan_of(upload)
        planned = sorted((part for part in present if part.number in plan.numbers()), key=_number)
        if short := shortfall(plan, ((part.number, part.size_bytes) for part in planned)):
            raise shortage_of(short)
        if differing := [part.number for part in planned if part.sha256 and digests.get(part.number, part.sha256) != part.sha256]:
            raise damage_of(differing)
        return [replace(part, sha256=part.sha256 or digests.get(part.number, "")) for part in planned]

    async def _known(self, upload: Upload, parts_sha256: str) -> tuple[str, str] | None:
        """(SHA-256, key) of an identical file that is still stored. Digests that only the creator says do not get here: whoever
        knows a file's digest must not get the file."""
        async with reading(self._catalogue) as connection:
            known = await ledger.same_file(connection, parts_sha256)
        if known is None:
            return None
        try:
            master = await self._masters.stat(known[1])
        except ObjectNotFound:
            return None
        return known if (master.size_bytes, master.sha256) == (upload.size_bytes, known[0]) else None

    async def _record(self, upload: Upload, parts: Sequence[ArrivedPart]) -> None:
        rows = [LedgerPart(part.number, part.size_bytes, part.sha256, part.arrived_at) for part in parts]
        async with writing(self._catalogue) as connection:
            await ledger.record_parts(connection, upload.id, rows)

    async def _assemble(self, upload: Upload, parts: Sequence[ArrivedPart]) -> tuple[str, str]:
        """The master's SHA-256 and key. Raises UploadRefused; the ledger then has no parts: only what is in the store counts."""
        try:
            master = await self._parts.complete(upload.id, master_key(upload.video_id), parts, upload.content_type)
        except PartsMissing as error:
            await self._record(upload, [])
            raise shortage_of(Shortfall(error.numbers, ())) from error
        except PartsDamaged as error:
            await self._record(upload, [])
            raise damage_of(error.numbers) from error
        if master.size_bytes != upload.size_bytes:
            detail = f"the assembled file has {master.size_bytes} bytes, {upload.size_bytes} were declared; begin a new upload"
            raise UploadRefused(Refusal.SIZE_DIFFERS, detail)
        return master.sha256, master.key


def _said_of(part: ArrivedPart, said: Mapping[int, PartDigests]) -> str:
    """A store that took bytes with the MD5 that was said took that part; its SHA-256 is still to be checked. "" if it did not."""
    digests = said.get(part.number)
    return digests.sha256 if digests is not None and part.md5 and digests.md5 == part.md5 else ""


def _number(part: ArrivedPart) -> int:
    return part.number
