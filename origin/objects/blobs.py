"""A folder of content-addressed blobs and the names that point to them. Blocking: callers run it in threads.

    blobs/ab/{sha256}    the bytes, once per content, read only
    names/{key}@         JSON: what the key points to; `@` is no key character, so a key may also be another's folder
    drafts/              files being written; renamed or linked into place when whole and fsynced
    lock                 shared while a blob and its name are put in place, exclusive while something is removed conditionally

A reader opens a name, then its blob: it sees the old version or the new one, never a mixture. A process killed at any point
leaves a draft or a blob without a name, which `sweep` collects once it is so old that no writer can be about to name it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Final

from headwater.runtime.metrics import counter
from headwater.runtime.wholefiles import sync_folder
from origin.objects.interface import ObjectInfo, ObjectNotFound, ObjectStoreFailed
from origin.objects.keys import check_key, check_prefix

NAME_SUFFIX: Final = "@"
# A name replaced between the look at it and the look at its blob is read again; nobody replaces one this often.
REREADS: Final = 8

DAMAGED = counter("headwater_objects_damaged_total", "Objects in local files that were found damaged.", ["what"])
SWEPT = counter("headwater_objects_swept_total", "Files collected because nothing refers to them.", ["what"])


@dataclass(frozen=True, slots=True)
class Name:
    """What a key points to. `upload_id` is the upload that made it, so that completing twice is recognised."""

    sha256: str
    size_bytes: int
    content_type: str
    modified_at: float
    upload_id: str | None = None

    def info(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, self.size_bytes, self.sha256, self.content_type, self.modified_at)


class Draft:
    """A file written aside; its digest grows with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._file: BinaryIO = open(path, "xb")  # noqa: SIM115 - closed by `finish` or `abandon`

    def write(self, chunk: bytes | memoryview) -> None:
        self._file.write(chunk)
        self._sha256.update(chunk)
        self.size_bytes += len(chunk)

    def sync(self) -> None:
        """What was written so far is on disk, so that `finish` has less to wait for."""
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def finish(self) -> str:
        """Everything is on disk; the digest in hex."""
        self._file.flush()
        os.fchmod(self._file.fileno(), 0o444)
        os.fsync(self._file.fileno())
        self._file.close()
        return self._sha256.hexdigest()

    def abandon(self) -> None:
        """Also after `finish`, and after the file was renamed."""
        try:
            self._file.close()
        except OSError:
            pass  # what was still to be written finds no room: nobody wants it
        finally:
            self.path.unlink(missing_ok=True)


class BlobFolder:
    """`root` may itself be a symlink; below it none is followed."""

    def __init__(self, root: Path) -> None:
        for name in ("blobs", "names", "drafts"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self._blobs, self._names, self._drafts = (self.root / name for name in ("blobs", "names", "drafts"))
        (self.root / "lock").touch()

    def draft(self) -> Draft:
        return Draft(self._drafts / secrets.token_hex(8))

    def publish(self, key: str, draft: Draft, name: Name, *, only_if_absent: bool = False) -> bool:
        """Puts the finished draft in place and points `key` to it; False when `only_if_absent` and there is one already."""
        path = self._name_path(key)
        blob = self._blob_path(name.sha256)
        with self._locked(fcntl.LOCK_SH):
            _make_folders(blob.parent, self.root)
            draft.path.replace(blob)  # over the same content if it is there already, which also makes it young again
            sync_folder(blob.parent)
            return self._write_name(path, name, only_if_absent)

    def find(self, key: str) -> Name:
        """Raises ObjectNotFound, or ObjectStoreFailed when the name file is damaged."""
        return self._read_name(key, self._name_path(key))

    def open(self, key: str) -> tuple[Name, int]:
        """(name, file descriptor of its blob). Raises as `find` does, and ObjectStoreFailed for a missing or short blob."""
        for _ in range(REREADS):
            name = self.find(key)
            try:
                descriptor = os.open(self._blob_path(name.sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # replaced and swept since the name was read, or lost
            if os.fstat(descriptor).st_size != name.size_bytes:
                os.close(descriptor)
                DAMAGED.labels("blob_size").inc()
                raise ObjectStoreFailed(f"{key} is damaged: its blob {name.sha256} has not {name.size_bytes} bytes")
            return name, descriptor
        DAMAGED.labels("blob_missing").inc()
        raise ObjectStoreFailed(f"{key} is damaged: its blob {name.sha256} is missing")

    def blob_of(self, key: str) -> Path:
        """Path of the blob, checked as `open` does."""
        name, descriptor = self.open(key)
        os.close(descriptor)
        return self._blob_path(name.sha256)

    def forget(self, key: str) -> None:
        path = self._name_path(key)
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)

    def forget_version(self, info: ObjectInfo) -> bool:
        path = self._name_path(info.key)
        with self._locked(fcntl.LOCK_EX):
            try:
                if not self._read_name(info.key, path).info(info.key).same_version(info):
                    return False
            except ObjectNotFound:
                return False
            path.unlink()
            sync_folder(path.parent)
        return True

    def names(self, prefix: str, *, strict: bool = False) -> Iterator[tuple[str, Name]]:
        """(key, name) in key order, for keys that begin with `prefix`.

        A damaged name is left out and counted, so that it does not hide the others; `strict` raises ObjectStoreFailed instead.
        """
        folder, slash, _ = check_prefix(prefix).rpartition("/")
        for key in self._keys_below(folder + slash, prefix):
            try:
                yield key, self.find(key)
            except ObjectNotFound:
                continue  # deleted since the folder was read
            except ObjectStoreFailed:
                if strict:
                    raise

    def sweep(self, now: float, older_than_s: float) -> int:
        """Unlinks drafts and unnamed blobs last touched before `now - older_than_s`; returns how many."""
        before = now - older_than_s
        # While one name cannot be read, nobody knows which blob it means.
        named = {name.sha256 for _, name in self.names("", strict=True)}
        swept = sum(self._collect(path, before, "draft") for path in list(self._drafts.iterdir()))
        for folder in list(self._blobs.iterdir()):
            swept += sum(self._collect(path, before, "blob") for path in list(folder.iterdir()) if path.name not in named)
        return swept

    def _collect(self, path: Path, before: float, what: str) -> bool:
        try:
            if path.lstat().st_mtime >= before:
                return False
            with self._locked(fcntl.LOCK_EX):  # nobody can be about to name it now, and its time is looked at again
                if path.lstat().st_mtime >= before:
                    return False
                path.unlink()
        except FileNotFoundError:
            return False
        SWEPT.labels(what).inc()
        return True

    def _keys_below(self, base: str, prefix: str) -> Iterator[str]:
        """`base` is "" or ends with `/`. Files and folders are merged so that keys come in the order of their characters."""
        try:
            entries = list(os.scandir(self._inside(self._names / base)))
        except (FileNotFoundError, NotADirectoryError):
            return
        found = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found.append(base + entry.name + "/")
            elif entry.is_file(follow_symlinks=False) and entry.name.endswith(NAME_SUFFIX):
                found.append(base + entry.name.removesuffix(NAME_SUFFIX))
        for key in sorted(found):
            if key.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._keys_below(key, prefix)
            elif key.startswith(prefix):
                yield key

    def _read_name(self, key: str, path: Path) -> Name:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFound(key) from None
        with os.fdopen(descriptor, "rb") as file:
            content = file.read()
        try:
            return Name(**json.loads(content))
        except (ValueError, TypeError) as error:
            DAMAGED.labels("name").inc()
            raise ObjectStoreFailed(f"{key} is damaged: its name file cannot be read: {error}") from error

    def _write_name(self, path: Path, name: Name, only_if_absent: bool) -> bool:
        _make_folders(path.parent, self.root)
        draft = self._drafts / secrets.token_hex(8)
        with open(draft, "xb") as file:
            file.write(json.dumps(asdict(name)).encode())
            file.flush()
            os.fsync(file.fileno())
        try:
            if only_if_absent:
                os.link(draft, path)  # fails when there is one, which a rename would replace
            else:
                draft.replace(path)
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)
        return True

    def _name_path(self, key: str) -> Path:
        return self._inside(self._names / (check_key(key) + NAME_SUFFIX))

    def _blob_path(self, sha256: str) -> Path:
        return self._inside(self._blobs / sha256[:2] / sha256)

    def _inside(self, path: Path) -> Path:
        """`path`, unless a symlink on the way to it leads elsewhere."""
        if os.path.realpath(path.parent) != str(path.parent):
            raise ObjectStoreFailed(f"{path.parent} leads through a symlink; objects are kept in plain folders")
        return path

    @contextmanager
    def _locked(self, mode: int) -> Iterator[None]:
        with open(self.root / "lock", "rb") as file:
            fcntl.flock(file, mode)
            yield


def _make_folders(folder: Path, root: Path) -> None:
    """Makes `folder` below `root` so that it survives a power cut."""
    if folder.is_dir():
        return
    if folder != root:
        _make_folders(folder.parent, root)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)
