"""A clip that is uploaded as a stream, and the steps of clients that do it: create, append, break off, ask for the offset."""

from __future__ import annotations

import asyncio
import base64
import io
import random
from typing import Any

from sqlalchemy import select

from origin.catalogue.engine import reading
from origin.catalogue.schema import jobs
from tests.support.origin import Answer, RunningApi

PART = 256 * 1024
CLIP = random.Random(5).randbytes(3 * PART + 1000)
TUS = {"Tus-Resumable": "1.0.0"}
STREAM = {**TUS, "Content-Type": "application/offset+octet-stream"}
PARTIAL = {"Content-Type": "application/partial-upload", "Upload-Draft-Interop-Version": "8"}


def encoded(**said: str) -> str:
    return ",".join(f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in said.items())


async def created(api: RunningApi, size: int = len(CLIP), **headers: str) -> str:
    """The path of a new tus upload."""
    answer = await api.creator.ask("POST", "/upload/tus", headers={**TUS, "Upload-Length": str(size), **headers})
    assert answer.status == 201, answer
    return path_of(answer)


def path_of(answer: Answer) -> str:
    return "/" + answer.headers["Location"].split("/", 3)[3]


async def patch(api: RunningApi, path: str, offset: int, body: bytes, **headers: str) -> Answer:
    return await api.creator.ask(
        "PATCH", path, data=io.BytesIO(body), headers={**STREAM, "Upload-Offset": str(offset), **headers}
    )


async def offset_of(api: RunningApi, path: str, **headers: str) -> int:
    answer = await api.creator.ask("HEAD", path, headers={**TUS, **headers})
    assert answer.status in (200, 204), answer
    return int(answer.headers["Upload-Offset"])


async def master_of(api: RunningApi, video_id: str) -> bytes:
    async with reading(api.catalogue) as connection:
        key = (await connection.execute(select(jobs.c.master_key).where(jobs.c.video_id == video_id))).scalar_one()
    return b"".join([chunk async for chunk in api.stores.masters.read(key)])


def id_of(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def head_of(request: str, fields: dict[str, str]) -> bytes:
    return f"{request} HTTP/1.1\r\n{''.join(f'{name}: {text}' + chr(13) + chr(10) for name, text in fields.items())}\r\n".encode()


async def broken_off(api: RunningApi, method: str, path: str, body: bytes, sent: int, headers: dict[str, str]) -> None:
    """A request whose connection dies after `sent` bytes of its body arrived."""
    url = api.deployment.origin.api.listen
    reader, writer = await asyncio.open_connection(url.host, url.port)
    fields = {"Host": str(url), "Authorization": f"Bearer {api.token.text}", "Content-Length": str(len(body)), **headers}
    writer.write(head_of(f"{method} {path}", fields) + body[:sent])
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    del reader


def lingering() -> list[asyncio.Task[Any]]:
    """The server's tasks that wait for the rest of bodies which were answered before their end."""
    tasks = [task for task in asyncio.all_tasks() if "RequestHandler.start" in repr(task)]
    return [task for task in tasks if (frame := task.get_stack(limit=1)) and "end_t" in frame[0].f_locals]
