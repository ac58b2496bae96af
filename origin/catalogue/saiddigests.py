"""The digests that creators said for their parts, before they sent them. Each call is one step of the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from origin.catalogue.schema import part_digests
from origin.objects.parts import PartDigests


async def say_digests(connection: AsyncConnection, upload_id: str, said: Mapping[int, PartDigests]) -> None:
    """In place of what was said for these parts before."""
    mine = part_digests.c.upload_id == upload_id
    await connection.execute(delete(part_digests).where(mine, part_digests.c.number.in_(list(said))))
    rows = [
        {"upload_id": upload_id, "number": number, "sha256": digests.sha256, "md5": digests.md5}
        for number, digests in said.items()
    ]
    if rows:
        await connection.execute(insert(part_digests), rows)


async def said_digests(connection: AsyncConnection, upload_id: str) -> dict[int, PartDigests]:
    """By part number."""
    query = select(part_digests).where(part_digests.c.upload_id == upload_id)
    return {row["number"]: PartDigests(row["sha256"], row["md5"]) for row in (await connection.execute(query)).mappings()}
