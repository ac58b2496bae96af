"""Every way in which an upload's request is refused. The word is the problem's type and the metric's label."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class Refusal(StrEnum):
    EMPTY = "empty-file"
    TOO_LARGE = "file-too-large"
    PART_SIZE = "part-size-out-of-bounds"
    TOO_MANY_PARTS = "too-many-parts"
    KEY_REUSED = "idempotency-key-reused"
    NO_SUCH_VIDEO = "video-not-found"
    NOT_YOURS = "upload-not-yours"
    PARTS_MISSING = "parts-missing"
    PARTS_DAMAGED = "parts-damaged"
    SIZE_DIFFERS = "size-differs"
    SIZE_UNKNOWN = "size-unknown"
    TOO_MANY_OPEN = "too-many-open-uploads"
    OVER_BUDGET = "storage-budget-exhausted"
    DISK_FULL = "disk-full"
    OFFSET_DIFFERS = "offset-differs"
    BEYOND_SIZE = "beyond-declared-size"
    CHECKSUM_DIFFERS = "checksum-differs"
    COMPLETED = "upload-completed"
    NOT_A_STREAM = "not-a-stream"
    NOT_IN_PARTS = "not-in-parts"
    NOT_CONCATENABLE = "not-concatenable"
    NO_SUCH_PART = "part-not-planned"
    DIGESTS = "digests-missing"


class UploadRefused(Exception):
    """The request cannot be done; `detail` says why and what would mend it, `facts` are for programs."""

    def __init__(self, refusal: Refusal, detail: str, facts: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal
        self.detail = detail
        self.facts = dict(facts or {})
