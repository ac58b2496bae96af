"""Kills the origin with SIGKILL at random moments while many uploads arrive by every dialect, and looks at what became of them.

    python -m tests.drills uploads [UPLOADS] [SEED]

Every client remembers what was acknowledged to it: parts, offsets, completions. When the origin is back, each of these has to be
there. At the end every completed upload is one video with exactly its bytes, none is there twice, and what clients gave up is
collected, in the catalogue and on the disk.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from origin.objects.files import FileObjects
from tests.support.deployments import lab_config
from tests.support.killedorigin import Origin, killable_origin
from tests.support.origin import Answer
from tests.support.waiting import until

PART: Final = 256 * 1024
CLIENTS: Final = 4
LONGEST_LIFE_S: Final = 0.9
GIVEN_UP: Final = 0.1  # of all uploads
PATIENCE_S: Final = 60.0
COLLECTED_WITHIN_S: Final = 15.0
TUS: Final = {"Tus-Resumable": "1.0.0"}
OFFSETS: Final = {**TUS, "Content-Type": "application/offset+octet-stream"}


@dataclass(slots=True)
class Tally:
    """What was seen. `lost` names acknowledged things that were not there afterwards."""

    uploads: int = 0
    kills: int = 0
    acknowledged: int = 0
    resumed: int = 0
    given_up: int = 0
    completed: dict[str, str] = field(default_factory=dict)  # title: SHA-256
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    collected: int = 0
    left_behind: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.lost or self.wrong or self.left_behind)

    def __str__(self) -> str:
        return (
            f"{self.uploads} uploads, {self.kills} kills: {self.acknowledged} parts and offsets acknowledged, "
            f"{len(self.lost)} lost; {self.resumed} requests without an answer; {len(self.completed)} completed, "
            f"{len(self.wrong)} of them not exactly one video with their bytes; {self.given_up} given up, "
            f"{self.collected} leftovers collected, {len(self.left_behind)} left behind"
        )


class Client:
    """One creator's machine, which goes on whenever the origin is back."""

    def __init__(self, origin: Origin, tally: Tally, choice: random.Random) -> None:
        self._origin = origin
        self._tally = tally
        self._choice = choice

    async def upload(self, number: int) -> None:
        title = f"upload {number}"
        content = self._choice.randbytes(self._choice.randint(1, 5 * PART))
        gives_up = self._choice.random() < GIVEN_UP
        by = self._choice.choice([self._in_parts, self._by_tus, self._by_the_draft, self._by_google])
        if await by(title, content, gives_up):
            self._tally.completed[title] = hashlib.sha256(content).hexdigest()
        else:
            self._tally.given_up += 1

    async def _ask(self, method: str, path: str, **options: Any) -> Answer | None:
        """None when the connection died: nothing is known then."""
        try:
            return await self._origin.creator.ask(method, path, **options)
        except (aiohttp.ClientError, ConnectionError):
            self._tally.resumed += 1
            return None

    async def _until_answered(self, ask: Callable[[], Awaitable[Answer | None]]) -> Answer:
        until = time.monotonic() + PATIENCE_S
        while (answer := await ask()) is None or answer.status >= 500:
            assert time.monotonic() < until, f"the origin does not come back: {answer}"
            await asyncio.sleep(0.05)  # it was killed; its start takes a while
        return answer

    async def _in_parts(self, title: str, content: bytes, gives_up: bool) -> bool:
        said = {"title": title, "size": len(content), "filename": "f.mp4", "part_size": PART}
        key = {"Idempotency-Key": title.replace(" ", "-")}
        begun = await self._until_answered(lambda: self._ask("POST", "/api/v1/videos", json=said, headers=key))
        path = f"/api/v1/videos/{begun.body['video_id']}/upload"
        stored: set[int] = set()
        while True:
            parts = (await self._until_answered(lambda: self._ask("GET", path))).body["parts"]
            there = {part["number"] for part in parts if part["arrived"]}
            self._lost_if(not stored <= there, f"{title}: parts {sorted(stored - there)} of {sorted(stored)}")
            missing = [part for part in parts if not part["arrived"]]
            self._choice.shuffle(missing)
            for part in missing:
                first = (part["number"] - 1) * PART
                if not await self._put(part, content[first : first + part["size"]]):
                    break
                stored.add(part["number"])
                self._tally.acknowledged += 1
                if gives_up:
                    return False
            else:
                done = await self._ask("POST", f"{path}/complete")
                if done is not None and done.status == 202:
                    return True

    async def _put(self, part: dict[str, Any], body: bytes) -> bool:
        try:
            return (await self._origin.creator.put(part, body)).status == 204
        except (aiohttp.ClientError, ConnectionError):
            self._tally.resumed += 1
            return False

    async def _by_tus(self, title: str, content: bytes, gives_up: bool) -> bool:
        fields = {**TUS, "Upload-Length": str(len(content)), "Upload-Metadata": f"title {_base64(title)}"}
        begun = await self._until_answered(lambda: self._ask("POST", "/upload/tus", headers=fields))

        async def send(path: str, offset: int, body: bytes) -> Answer | None:
            return await self._ask("PATCH", path, data=io.BytesIO(body), headers={**OFFSETS, "Upload-Offset": str(offset)})

        return await self._stream(title, content, gives_up, _path(begun), TUS, send)

    async def _by_the_draft(self, title: str, content: bytes, gives_up: bool) -> bool:
        begun = await self._until_answered(
            lambda: self._ask("POST", "/upload/resumable", params={"title": title}, headers={"Upload-Complete": "?0"})
        )

        async def send(path: str, offset: int, body: bytes) -> Answer | None:
            last = "?1" if offset + len(body) == len(content) else "?0"
            fields = {"Content-Type": "application/partial-upload", "Upload-Offset": str(offset), "Upload-Complete": last}
            return await self._ask("PATCH", path, data=io.BytesIO(body), headers=fields)

        return await self._stream(title, content, gives_up, _path(begun), {}, send)

    async def _stream(
        self,
        title: str,
        content: bytes,
        gives_up: bool,
        path: str,
        fields: dict[str, str],
        send: Callable[[str, int, bytes], Awaitable[Answer | None]],
    ) -> bool:
        acknowledged = 0
        while True:
            head = await self._until_answered(lambda: self._ask("HEAD", path, headers=fields))
            offset = int(head.headers["Upload-Offset"])
            self._lost_if(offset < acknowledged, f"{title}: {acknowledged} bytes were acknowledged, {offset} are there")
            if head.headers.get("Upload-Complete") == "?1" or (fields and offset == len(content)):
                return True
            while True:
                answer = await send(path, offset, content[offset : offset + self._choice.randint(1, 3 * PART)])
                if answer is None or answer.status >= 300:
                    break
                offset = acknowledged = int(answer.headers["Upload-Offset"])
                self._tally.acknowledged += 1
                if answer.headers.get("Upload-Complete") == "?1" or (fields and offset == len(content)):
                    return True
                if gives_up:
                    return False

    async def _by_google(self, title: str, content: bytes, gives_up: bool) -> bool:
        size = len(content)
        fields = {"X-Upload-Content-Length": str(size)}
        target = "/upload/youtube/v3/videos?uploadType=resumable"
        said = {"snippet": {"title": title}}
        begun = await self._until_answered(lambda: self._ask("POST", target, json=said, headers=fields))
        path = _path(begun)
        acknowledged = 0
        asked = {"Content-Range": f"bytes */{size}"}
        while True:
            probe = await self._until_answered(lambda: self._ask("PUT", path, headers=asked, allow_redirects=False))
            if probe.status == 200:
                return True
            offset = _stored(probe)
            self._lost_if(offset < acknowledged, f"{title}: {acknowledged} bytes were acknowledged, {offset} are there")
            body = content[offset : offset + self._choice.randint(1, 3 * PART)]
            sent = {"Content-Range": f"bytes {offset}-{offset + len(body) - 1}/{size}"}
            answer = await self._ask("PUT", path, data=io.BytesIO(body), headers=sent, allow_redirects=False)
            if answer is not None and answer.status == 200:
                return True
            if answer is not None and answer.status == 308:
                acknowledged = _stored(answer)
                self._tally.acknowledged += 1
                if gives_up:
                    return False

    def _lost_if(self, lost: bool, what: str) -> None:
        if lost:
            self._tally.lost.append(what)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _path(begun: Answer) -> str:
    return "/" + begun.headers["Location"].split("/", 3)[3]


def _stored(answer: Answer) -> int:
    return int(answer.headers["Range"].rpartition("-")[2]) + 1 if "Range" in answer.headers else 0


async def campaign(folder: Path, uploads: int, seed: int) -> Tally:
    """Runs it in `folder`, which is empty."""
    config = lab_config(folder)
    _configure(config, part_size="256 KiB", min_part_size="256 KiB", max_open=100_000)
    tally = Tally(uploads=uploads)
    choice = random.Random(seed)
    async with killable_origin(config) as origin:
        await origin.start()
        numbers = iter(range(uploads))

        async def work(client: Client) -> None:
            for number in numbers:
                await client.upload(number)

        clients = [asyncio.create_task(work(Client(origin, tally, random.Random(choice.random())))) for _ in range(CLIENTS)]
        working = asyncio.gather(*clients)
        while not working.done():
            await asyncio.wait({working}, timeout=choice.uniform(0.02, LONGEST_LIFE_S))
            if not working.done():
                await origin.kill_and_start()
                tally.kills += 1
        await working
        await origin.kill()
        _check_videos(folder / "data", tally)
        _configure(config, keep_unfinished="1 s")
        await origin.start()
        await _collect(folder / "data", tally)
    return tally


def _configure(config: Path, **uploads: object) -> None:
    content = yaml.safe_load(config.read_text())
    content["origin"].setdefault("uploads", {}).update(uploads)
    config.write_text(yaml.safe_dump(content, sort_keys=False))


def _rows(data: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(data / "catalogue.sqlite3")) as catalogue:
        return catalogue.execute(query).fetchall()


def _check_videos(data: Path, tally: Tally) -> None:
    """Every completed upload is one video with one job, and its master has its bytes."""
    made: dict[str, list[str]] = {}
    for title, key in _rows(data, "SELECT videos.title, jobs.master_key FROM jobs JOIN videos ON videos.id = jobs.video_id"):
        made.setdefault(title, []).append(key)
    for title, sha256 in tally.completed.items():
        found = [_sha256_of(data, key) for key in made.get(title, [])]
        if found != [sha256]:
            tally.wrong.append(f"{title}: {found}, not {sha256}")
    tally.wrong += [f"{title}: a video that nobody completed" for title in made if title not in tally.completed]
    if _rows(data, "PRAGMA integrity_check") != [("ok",)]:
        tally.wrong.append("the catalogue is damaged")


def _sha256_of(data: Path, key: str) -> str:
    root = data / "objects" / "masters"
    name = json.loads((root / "names" / f"{key}@").read_text())
    return hashlib.sha256((root / "blobs" / name["sha256"][:2] / name["sha256"]).read_bytes()).hexdigest()


async def _collect(data: Path, tally: Tally) -> None:
    """What was given up is collected, with its parts, and what killed writers left is swept."""
    unfinished = "SELECT count(*) FROM uploads WHERE completed_at IS NULL"
    ((before,),) = _rows(data, unfinished)
    root = data / "objects" / "masters"
    with suppress(TimeoutError):
        await until(lambda: _rows(data, unfinished) == [(0,)] and not list((root / "uploads").iterdir()), COLLECTED_WITHIN_S)
    tally.collected = before + await FileObjects(root).sweep(0.0)
    tally.left_behind = [str(file) for folder in ("uploads", "drafts") for file in (root / folder).rglob("*")]
    named = {json.loads(file.read_text())["sha256"] for file in (root / "names").rglob("*@")}
    tally.left_behind += [file.name for file in (root / "blobs").rglob("*") if file.is_file() and file.name not in named]


def main(arguments: list[str]) -> int:
    uploads = int(arguments[0]) if arguments else 200
    seed = int(arguments[1]) if len(arguments) > 1 else random.SystemRandom().randrange(10**6)
    with tempfile.TemporaryDirectory(prefix="headwater-uploads-") as folder:
        started = time.monotonic()
        tally = asyncio.run(campaign(Path(folder), uploads, seed))
    print(f"seed {seed}, {time.monotonic() - started:.0f} s: {tally}")
    for line in [*tally.lost, *tally.wrong, *tally.left_behind]:
        print(line, file=sys.stderr)
    return 0 if tally.good else 1
