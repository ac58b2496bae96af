"""The audit log: who changed what, when, and from where. Append-only: a line of JSON each, fsynced.

    {"at": 1795212000.2, "who": "operator 7f3a", "login": "ada", "from": "127.0.0.1",
     "what": "drain", "detail": "fra", "outcome": "done"}

`who` is what the asker proved (a token's name); `login` is what the asker said of themselves, which proves nothing.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from control.metrics import AUDITED
from headwater.runtime.logs import Log

READ_AT_MOST: Final = 8 * 2**20  # of the file's end


class What(StrEnum):
    """The kinds of change; also the metric's label."""

    APPLY = "apply"
    ROLLBACK = "rollback"
    STOP = "stop"
    EDIT = "edit"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    PURGE = "purge"
    WARM = "warm"
    PREPOSITION = "preposition"
    KEYS = "keys"
    TOKEN = "token"
    ENROL = "enrol"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Asker:
    """Whoever asks for a change: what they proved, what they call themselves, and their address."""

    who: str
    login: str = ""
    address: str = ""


FILE_EDITOR: Final = Asker("the config file's editor")
NIGHTLY: Final = Asker("the nightly window")
KEY_RING: Final = Asker("who may write the key ring's folder")


class AuditLog:
    """`note` blocks for an fsync: call it in a thread. Never rewrites what is there."""

    def __init__(self, folder: Path, log: Log, *, clock: Callable[[], float] = time.time) -> None:
        self._file = folder / "audit.log"
        self._log = log
        self._clock = clock
        self._lock = threading.Lock()

    def note(self, asker: Asker, what: What, detail: str, outcome: str) -> None:
        """Appends a line. A disk that does not take it is an error in the service log: the change itself goes on."""
        line = {"at": round(self._clock(), 3), "who": asker.who, "login": asker.login, "from": asker.address}
        line |= {"what": what.value, "detail": detail, "outcome": outcome}
        data = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        AUDITED.labels(what).inc()
        try:
            with self._lock:
                self._append(data)
        except OSError as error:
            self._log.error("the audit log does not take a line", error=str(error), line=line)

    def last(self, at_most: int) -> list[dict[str, Any]]:
        """The latest lines, newest first; a torn one is left out."""
        try:
            with self._file.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - READ_AT_MOST))
                lines = deque(file.read().splitlines(), maxlen=at_most)
        except FileNotFoundError:
            return []
        found = []
        for line in reversed(lines):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return [one for one in found if isinstance(one, dict)]

    def _append(self, data: bytes) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                data = b"\n" + data  # a line that a kill tore off
            os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def members_of(asker: Asker) -> dict[str, str]:
    return asdict(asker)


def asker_from(members: Any) -> Asker:
    """Raises KeyError or TypeError."""
    return Asker(str(members["who"]), str(members["login"]), str(members["address"]))
