"""What an object store does. Keys are relative paths of safe characters; objects are immutable unless replaced whole."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known of an object without reading it. `sha256` is hex; `modified_at` is Unix seconds."""

    key: str
    size_bytes: int
    sha256: str
    content_type: str
    modified_at: float

    def same_version(self, other: ObjectInfo) -> bool:
        """Whether both are copies of one put: the time tells equal contents put twice apart."""
        return (self.key, self.sha256, self.modified_at) == (other.key, other.sha256, other.modified_at)


class ObjectNotFound(Exception):
    """There is no object under this key."""


class InvalidKey(ObjectNotFound, ValueError):
    """There can be no object under this key: it is not a relative path of safe characters."""


class ObjectStoreFailed(Exception):
    """The store could not do it; trying again later may help."""


class DiskFull(ObjectStoreFailed):
    """There is no room left where the objects are; someone has to make some."""


def is_disk_full(error: BaseException) -> bool:
    """Whether this is a full disk or an exhausted quota, in whatever clothes it comes."""
    return isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT))


class OpenedObject(Protocol):
    """One version of an object: what `info` says and what `read` gives belong together, whatever replaces it meanwhile."""

    @property
    def info(self) -> ObjectInfo: ...

    def read(self, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last`, both included; fewer only where the object ends. Raises ObjectStoreFailed."""


class ObjectStore(Protocol):
    """Every call is atomic: an object is there whole, with its digest, or not at all. Errors are those above."""

    async def put_file(self, key: str, path: Path, content_type: str) -> ObjectInfo:
        """Stores a copy of the file at `path`. Replaces what was under `key`."""

    async def put_bytes(self, key: str, body: bytes, content_type: str) -> ObjectInfo: ...

    async def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFound."""

    def opened(self, key: str) -> AbstractAsyncContextManager[OpenedObject]:
        """The present version, held for as long as the context lasts. Raises ObjectNotFound."""

    def read(self, key: str, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        """The bytes `first` to `last`, both included; raises ObjectNotFound before the first chunk."""

    async def delete(self, key: str) -> None:
        """Also when there is nothing."""

    def list(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """Objects whose key begins with `prefix`, in key order."""

    def as_file(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A readable local file with the object's bytes, for tools that need one; read only. Raises ObjectNotFound."""


class TierStore(ObjectStore, Protocol):
    """What moving objects between stores needs besides: changes that hold only if nobody was faster."""

    async def adopt(self, source: OpenedObject) -> bool:
        """Stores a copy under the same key, with the same time and type, unless there is an object already (then False).

        Raises ObjectStoreFailed when the bytes read do not have the digest that `source.info` names.
        """

    async def delete_version(self, info: ObjectInfo) -> bool:
        """Deletes the object only if its digest and its time are these; says whether it did."""

    async def sweep(self, older_than_s: float) -> int:
        """Collects what no key refers to and what killed writers left, if older; returns how many files went."""
