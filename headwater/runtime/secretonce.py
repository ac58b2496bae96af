"""Secrets in files that are there whole or not at all, readable by their owner alone: made at a first start, or replaced."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def make_once(file: Path, content: bytes) -> None:
    """Makes `file` (mode 0600) unless it is there; of two starters, one's content stays. Whole after a kill or a power cut."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _draft_of(file)
    try:
        _write(draft, content)
        os.link(draft, file)  # fails when there is one, which a rename would replace
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    _sync(file.parent)


def replace_secret(file: Path, content: bytes) -> None:
    """Puts `content` in the place of what the file has, in one step. Whole after a kill or a power cut."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _draft_of(file)
    try:
        _write(draft, content)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    _sync(file.parent)


def _draft_of(file: Path) -> Path:
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}")


def _write(draft: Path, content: bytes) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as new:
        new.write(content)
        new.flush()
        os.fsync(new.fileno())


def _sync(parent: Path) -> None:
    folder = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
