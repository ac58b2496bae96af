"""Outputs of tasks, addressed by what went into them: a retry, a duplicate or a crash finds what is there and makes the rest."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

FORMAT = 7  # raised when the same inputs give other bytes, so that outputs of two versions are never joined


def digest_of(kind: str, *inputs: Any) -> str:
    """Hex name of a task's output. Inputs are plain values or dataclasses of plain values and fractions."""
    plain = [asdict(value) if is_dataclass(value) and not isinstance(value, type) else value for value in inputs]
    text = json.dumps([FORMAT, kind, plain], sort_keys=True, default=str)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def made(work: Path, digest: str, make: Callable[[Path], None]) -> Path:
    """The output's folder: what is there, or what `make(draft folder)` writes. Appears whole or not at all."""
    target = work / digest
    if target.is_dir():
        return target
    draft = work / f".{digest}.{secrets.token_hex(4)}"
    draft.mkdir(parents=True)
    try:
        make(draft)
        for file in sorted(draft.rglob("*"), reverse=True):  # what a folder holds before the folder
            _flush(file)
        _flush(draft)
        draft.rename(target)
    except OSError:
        if not target.is_dir():  # a duplicate of this task may have been faster
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _flush(path: Path) -> None:
    """What is named by its content must hold it after a power cut too."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
