"""Which uploads this user has begun and not finished, so that the same command after a kill goes on with them.

One small JSON file in the user's state folder; it names files, never holds a URL with a signature.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from headwater.runtime.wholefiles import keep_json, writing_alone


@dataclass(frozen=True, slots=True)
class Begun:
    """`key` is the Idempotency-Key of the first request, written down before it is sent; `video_id` its answer."""

    key: str
    video_id: str | None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The same file, unchanged, for the same origin and under the same title, is the same upload."""

    api: str
    path: str
    size_bytes: int
    mtime_ns: int
    title: str

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def state_folder() -> Path:
    """XDG base directories: what should survive a restart but is no setting."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "headwater"


class BegunUploads:
    """The file, read and written under a lock so that two commands at once lose nothing of each other."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "uploads.json"

    def recall(self, fingerprint: Fingerprint) -> Begun:
        """What was begun for this file, or a new key that is now on disk."""
        with self._changing() as entries:
            return entries.setdefault(fingerprint.digest(), Begun(secrets.token_urlsafe(24), None))

    def note(self, fingerprint: Fingerprint, begun: Begun) -> None:
        with self._changing() as entries:
            entries[fingerprint.digest()] = begun

    def forget(self, fingerprint: Fingerprint) -> None:
        with self._changing() as entries:
            entries.pop(fingerprint.digest(), None)

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Begun]]:
        with writing_alone(self._file.with_suffix(".lock")):
            entries = self._read()
            before = dict(entries)
            yield entries
            if entries != before:
                keep_json(self._file, {digest: asdict(begun) for digest, begun in entries.items()})

    def _read(self) -> dict[str, Begun]:
        """A file that cannot be read as ours is as good as none: the worst is an upload begun anew."""
        try:
            entries = json.loads(self._file.read_text(encoding="utf-8"))
            return {digest: Begun(entry["key"], entry["video_id"]) for digest, entry in entries.items()}
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return {}
