"""The outbox: events are written in the transaction that makes them true, and leave afterwards: none is lost, none made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from origin.catalogue.engine import reading, writing
from origin.catalogue.schema import outbox

UPLOAD_COMPLETE = "upload.complete"
VIDEO_DELETED = "video.deleted"


@dataclass(frozen=True, slots=True)
class Event:
    """`id` is the same however often the event is sent; `body` is JSON."""

    id: str
    kind: str
    body: Mapping[str, Any]
    created_at: float


async def put_event(connection: AsyncConnection, event: Event) -> None:
    """One step of the caller's transaction."""
    row = {"id": event.id, "kind": event.kind, "body": dict(event.body), "created_at": event.created_at}
    await connection.execute(insert(outbox).values(**row))


async def waiting_events(engine: AsyncEngine, limit: int) -> list[Event]:
    """What has not left yet, oldest first."""
    query = select(outbox).where(outbox.c.published_at.is_(None)).order_by(outbox.c.created_at, outbox.c.id).limit(limit)
    async with reading(engine) as connection:
        rows = (await connection.execute(query)).mappings().all()
    return [Event(row["id"], row["kind"], row["body"], row["created_at"]) for row in rows]


async def count_waiting(engine: AsyncEngine) -> int:
    async with reading(engine) as connection:
        count = await connection.execute(select(func.count()).select_from(outbox).where(outbox.c.published_at.is_(None)))
        return int(count.scalar_one())


async def mark_published(engine: AsyncEngine, ids: Sequence[str], now: float) -> None:
    async with writing(engine) as connection:
        await connection.execute(update(outbox).where(outbox.c.id.in_(list(ids))).values(published_at=now))


async def forget_events(engine: AsyncEngine, before: float, *, unpublished: bool) -> int:
    """Removes what left before then; with `unpublished`, what nobody wants to have sent as well. Returns how many."""
    left = outbox.c.published_at < before
    old = or_(left, outbox.c.created_at < before) if unpublished else left
    async with writing(engine) as connection:
        return (await connection.execute(delete(outbox).where(old))).rowcount
