"""Publishes snapshots: versions that grow for ever, kept on disk before anyone sees them, handed to all who wait at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from control.metrics import PUBLISHED, PUBLISHED_VERSION, WAITING
from headwater.runtime.logs import Log
from headwater.runtime.wholefiles import replace_whole
from headwater.settings.deployment import Deployment
from headwater.settings.snapshot import Snapshot

VERSIONS_REMEMBERED: Final = 500
# Versions are Unix seconds, or little more: nobody has published one as late as this. It is far below what a question may name.
NEVER_PUBLISHED: Final = 2**40


def _bodies(snapshot: Snapshot, others: Mapping[str, Deployment]) -> dict[str, bytes]:
    """The snapshot's JSON for nodes that see another deployment; equal ones are made once."""
    made: dict[int, bytes] = {}
    found: dict[str, bytes] = {}
    for node, deployment in others.items():
        if id(deployment) not in made:
            made[id(deployment)] = snapshot.model_copy(update={"deployment": deployment}).model_dump_json().encode()
        found[node] = made[id(deployment)]
    return found


class Publisher:
    """`current` is what nodes get; None until the first one is published. `clock` gives Unix seconds."""

    def __init__(self, folder: Path, log: Log, *, clock: Callable[[], float] = time.time) -> None:
        self._file = folder / "published.json"
        self._log = log
        self._clock = clock
        self._closed = False
        self._overtaken = False
        self._news = asyncio.Event()
        self._body = b""
        self._others: dict[str, Deployment] = {}
        self._bodies: dict[str, bytes] = {}
        self.published_at: deque[tuple[int, float]] = deque(maxlen=VERSIONS_REMEMBERED)
        self.current: Snapshot | None = None
        self.before_start = self._kept()
        self._version = self.before_start.version if self.before_start else 0

    @property
    def version(self) -> int:
        """The latest version, also of the time before this process; 0 when there was none."""
        return self._version

    @property
    def closed(self) -> bool:
        return self._closed

    async def publish(self, draft: Snapshot, others: Mapping[str, Deployment] | None = None) -> bool:
        """Publishes what `draft` says under the next version; nodes among `others` get it with another deployment, under the same
        version. False when nothing but the version is new.

        Versions are the Unix time, or one more than the last: they grow even when the folder that keeps them is lost.
        """
        if (
            self.current is not None
            and not self._overtaken
            and draft.model_copy(update={"version": self.current.version}) == self.current
            and (others or {}) == self._others
        ):
            return False
        version = max(self._version + 1, int(self._clock()))
        snapshot = draft.model_copy(update={"version": version})
        body = snapshot.model_dump_json().encode()
        bodies = _bodies(snapshot, others or {})
        await asyncio.to_thread(self._keep, body)
        self._version, self._body, self.current, self._overtaken = version, body, snapshot, False
        self._others, self._bodies = dict(others or {}), bodies
        self.published_at.append((version, self._clock()))
        PUBLISHED.inc()
        PUBLISHED_VERSION.set(version)
        self._wake()
        return True

    def learn_of(self, version: int) -> bool:
        """A node holds `version`. True when it is later than ours, as after the loss of our folder: publish again above it.

        A version that cannot be is not outdone: one node's damage, or malice, would else end the news of all.
        """
        if version <= self._version:
            return False
        if version >= NEVER_PUBLISHED:
            self._log.warning("a node holds a snapshot that no control can have published", held=version, ours=self._version)
            return False
        self._log.warning("a node holds a later snapshot than this control ever published", held=version, ours=self._version)
        self._version, self._overtaken = version, True
        return True

    async def newer_than(self, version: int, wait_s: float, node: str = "") -> bytes | None:
        """The current snapshot's JSON, as `node` is to see it, as soon as it is newer than `version`; None when there is none
        within `wait_s`."""
        with WAITING.track_inprogress():
            try:
                async with asyncio.timeout(wait_s):
                    while not self._closed and (self.current is None or self.current.version <= version):
                        await self._news.wait()
            except TimeoutError:
                return None
        return None if self._closed else self._bodies.get(node, self._body)

    def behind_since(self, held: int) -> float | None:
        """When (Unix seconds) the first version after `held` was published; None when there is none, or too long ago to know."""
        return next((at for version, at in self.published_at if version > held), None)

    def close(self) -> None:
        """Lets all who wait go."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _kept(self) -> Snapshot | None:
        try:
            return Snapshot.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            self._log.warning("the last published snapshot cannot be read; versions go on by the clock", error=str(error))
            return None

    def _keep(self, body: bytes) -> None:
        """Mode 0600: an HMAC key in a snapshot is a secret."""
        replace_whole(self._file, body)
