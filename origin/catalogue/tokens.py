"""The origin's API tokens: those with the scopes `upload` and `manage`. Secrets never reach this file, only their digests."""

from __future__ import annotations

from sqlalchemy import RowMapping, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.rules.apitokens import Scope, StoredToken
from origin.catalogue.schema import api_tokens


async def keep_token(connection: AsyncConnection, token: StoredToken) -> None:
    """Raises IntegrityError when there is one with its id."""
    row = {
        "id": token.id,
        "name": token.name,
        "secret_sha256": token.secret_sha256,
        "scopes": sorted(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }
    await connection.execute(insert(api_tokens).values(**row))


async def find_token(connection: AsyncConnection, token_id: str) -> StoredToken | None:
    row = (await connection.execute(select(api_tokens).where(api_tokens.c.id == token_id))).mappings().one_or_none()
    return _stored(row) if row is not None else None


async def all_tokens(connection: AsyncConnection) -> list[StoredToken]:
    """Oldest first, revoked ones too."""
    query = select(api_tokens).order_by(api_tokens.c.created_at, api_tokens.c.id)
    return [_stored(row) for row in (await connection.execute(query)).mappings()]


async def revoke_token(connection: AsyncConnection, token_id: str, now: float) -> bool:
    """False when there is none with this id. One that was revoked before keeps its time."""
    if await find_token(connection, token_id) is None:
        return False
    unrevoked = (api_tokens.c.id == token_id, api_tokens.c.revoked_at.is_(None))
    await connection.execute(update(api_tokens).where(*unrevoked).values(revoked_at=now))
    return True


def _stored(row: RowMapping) -> StoredToken:
    return StoredToken(
        id=row["id"],
        name=row["name"],
        secret_sha256=row["secret_sha256"],
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
    )
