"""Small files that are there whole or not at all, after a kill or a power cut at any moment: written aside, fsynced, renamed.

Then the folder is fsynced, without which the name may be lost. Readable by their owner alone unless said otherwise. Blocking.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def make_once(file: Path, content: bytes) -> None:
    """Makes `file` (mode 0600, in a folder of its owner's) unless it is there; of two starters, one's content stays."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _draft_of(file)
    try:
        _write(draft, content, 0o600)
        os.link(draft, file)  # fails when there is one, which a rename would replace
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(file.parent)


def replace_whole(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Puts `content` in the place of what the file has, in one step. Raises OSError; then the former content is still there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft_of(file)
    try:
        _write(draft, content, mode)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(file.parent)


def replace_secret(file: Path, content: bytes) -> None:
    """As `replace_whole`, in a folder that only its owner can look into."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_whole(file, content)


def keep_json(file: Path, members: Any) -> None:
    """`replace_whole` of plain values."""
    replace_whole(file, json.dumps(members, ensure_ascii=False, indent=1).encode())


def kept_json(file: Path) -> Any:
    """What `keep_json` wrote; None when there is nothing. Raises ValueError or OSError when it cannot be read."""
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None


@contextmanager
def writing_alone(lock: Path) -> Iterator[None]:
    """Held against every other thread and process that takes the same lock file; the kernel lets it go when one dies."""
    lock.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def stamp_of(file: Path) -> tuple[int, int, int] | None:
    """(modified in ns, bytes, inode): another one when somebody has replaced the file; None when there is none."""
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def sync_folder(folder: Path) -> None:
    """What was renamed, linked or removed in the folder is so after a power cut too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _draft_of(file: Path) -> Path:
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}")


def _write(draft: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())
