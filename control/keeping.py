"""Small files of control's own that survive a kill at any moment: written aside, fsynced, renamed. Blocking."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def keep(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces the file's content as a whole. Raises OSError; then the former content is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    _sync(path.parent)


def keep_json(path: Path, members: Any) -> None:
    """As `keep`, for plain values."""
    keep(path, json.dumps(members, ensure_ascii=False, indent=1).encode())


def kept_json(path: Path) -> Any:
    """What `keep_json` wrote; None when there is nothing. Raises ValueError or OSError when it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
