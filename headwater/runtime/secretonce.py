"""Secrets that a first start makes: a file that is there whole or not at all, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def make_once(file: Path, content: bytes) -> None:
    """Makes `file` (mode 0600) unless it is there; of two starters, one's content stays. Whole after a kill or a power cut."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
        os.link(draft, file)  # fails when there is one, which a rename would replace
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
