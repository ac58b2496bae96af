"""One `headwater up` per data folder: an advisory lock that the kernel drops with the process that holds it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "up.lock"


class InUse(Exception):
    """Another process runs this data folder; the message names it and the cure."""


@contextmanager
def holding(data: Path) -> Iterator[bool]:
    """Holds the lock of `data`. Yields whether the last holder was killed before it could stop its nodes. Raises InUse.

    The file holds the holder's pid and is emptied when it ends in order.
    """
    data.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        held_by = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(
                f"{data} is in use by another `headwater up` (process {held_by or 'unknown'}): "
                "stop that one, or name another `data` folder in the config."
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield bool(held_by)
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
