"""Where the parts of an upload arrive before they become one object. The ledger of an upload is kept by its caller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from origin.objects.interface import ObjectInfo


@dataclass(frozen=True, slots=True)
class ArrivedPart:
    """A part that is stored. `number` counts from 1; `arrived_at` is Unix seconds.

    `sha256` is hex, checked when the part arrived; "" where the store does not learn it (S3), so that the first to read the
    bytes is `complete`. `md5` is hex, of the bytes that the store took; "" where it does not say.
    """

    number: int
    size_bytes: int
    sha256: str
    arrived_at: float
    md5: str = ""


@dataclass(frozen=True, slots=True)
class PartDigests:
    """What the creator says that a part will have, hex; `md5` may be ""."""

    sha256: str
    md5: str = ""


@dataclass(frozen=True, slots=True)
class PartRequest:
    """How a part is sent: PUT its bytes to `url` with exactly these `headers` besides the ones that every client sends."""

    url: str
    headers: Mapping[str, str]


class DigestsUnknown(Exception):
    """The store signs a part's URL only with digests that were not said; the message names them."""


class PartsMissing(Exception):
    """Parts to assemble are not there, or not as they were listed: list what arrived again, and send what is missing."""

    def __init__(self, upload_id: str, numbers: Sequence[int]) -> None:
        super().__init__(f"upload {upload_id}: parts {', '.join(map(str, numbers))} are not there as listed")
        self.upload_id = upload_id
        self.numbers = tuple(numbers)


class PartsDamaged(Exception):
    """Stored parts do not have their digest any more: send them again."""

    def __init__(self, upload_id: str, numbers: Sequence[int]) -> None:
        super().__init__(f"upload {upload_id}: parts {', '.join(map(str, numbers))} do not have their digest")
        self.upload_id = upload_id
        self.numbers = tuple(numbers)


class PartDraft(Protocol):
    """A part that the origin itself writes. Nothing of it counts before `settle` returned. Calls may raise ObjectStoreFailed."""

    size_bytes: int

    async def write(self, chunk: bytes) -> None: ...

    async def settle(self) -> ArrivedPart:
        """What was written is the part now, durably, in place of what was there. Its `sha256` is known."""

    async def abandon(self) -> None:
        """Leaves nothing behind, or only what settled. Also after `settle`."""


class PartStore(Protocol):
    """Any call may be repeated without harm. Besides the errors named, each may raise ObjectStoreFailed.

    `verifies` says whether the store checks the digest of each part when it arrives.
    """

    @property
    def verifies(self) -> bool: ...

    async def begin(self, upload_id: str) -> None:
        """From now on parts of this upload are accepted. Also when it was begun before."""

    def part_url(
        self, upload_id: str, number: int, size_bytes: int, expires_at: float, token_id: str | None = None
    ) -> str | None:
        """Absolute URL, signed, to PUT exactly `size_bytes` to, with `Content-Digest` (RFC 9530), until `expires_at` (Unix s).

        It ends earlier with the API token that it is given to, where the store can know of that (local files). None where a URL
        is signed together with the part's digests: see `signed`.
        """

    async def signed(
        self,
        upload_id: str,
        number: int,
        size_bytes: int,
        expires_at: float,
        digests: PartDigests,
        token_id: str | None = None,
    ) -> PartRequest:
        """Permission to PUT the body that has these digests, and no other. Raises DigestsUnknown."""

    async def arrived(self, upload_id: str) -> list[ArrivedPart]:
        """What is stored whole, by number; nothing for an upload that was never begun."""

    async def draft(self, upload_id: str, number: int) -> PartDraft:
        """A part to be written here, of any size up to that of the plan: the last one of a stream grows with every request."""

    def read_part(self, upload_id: str, part: ArrivedPart) -> AsyncIterator[bytes]:
        """The bytes of a part that arrived. Raises PartsMissing when it is there no more, or another version of it."""

    async def adopt(self, upload_id: str, number: int, source_id: str, part: ArrivedPart) -> bool:
        """Makes `part` of the upload `source_id` also part `number` of this one. Raises PartsMissing.

        False where parts of any size cannot stand side by side: their bytes have to be written anew, cut by the plan.
        """

    async def free_bytes(self) -> int | None:
        """Room on the disk for this user; None for a store that does not tell."""

    async def complete(self, upload_id: str, key: str, parts: Sequence[ArrivedPart], content_type: str) -> ObjectInfo:
        """Makes the parts, in the order given, one object under `key`, and drops them.

        Done before for this upload and key: says again what was made. Raises PartsMissing or PartsDamaged; nothing is made then,
        and the damaged parts have not arrived any more.
        """

    async def discard(self, upload_id: str) -> None:
        """Drops the parts; URLs signed before are refused from now on where the store can. Also when there is nothing."""

    async def sweep(self, older_than_s: float) -> int:
        """Collects what killed processes left and no upload knows of, if older; returns how many things went."""
