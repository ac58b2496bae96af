"""`headwater tokens create|list|revoke`: API tokens of creators, kept by the catalogue, and of operators, kept by control."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from control.operators.tokenbook import TokenBook, TokenBookError, book_of
from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.rules.apitokens import (
    CONTROL_SCOPES,
    DRAWN_BYTES,
    InvalidToken,
    StoredToken,
    draw_token,
    parse_name,
    parse_scopes,
)
from headwater.runtime.httpsite import CannotStart
from headwater.settings.deployment import Deployment
from headwater.settings.units import parse_duration_s

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")
EXIT_UNKNOWN = 1
EXIT_NOT_DONE = 2

commands = typer.Typer(name="tokens", help="API tokens: who may upload and manage.", no_args_is_help=True)


@commands.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Whose token it is: uploads belong to this name, the audit log tells it.")],
    config: ConfigOption,
    scope: Annotated[
        list[str],
        typer.Option(
            help="upload: own uploads; manage: everybody's uploads and videos; view: control's state; operate: change it too."
        ),
    ],
    lasts: Annotated[str | None, typer.Option(help="How long it holds, such as `90 d`; until it is revoked without it.")] = None,
) -> None:
    """Make a token and print it: it is shown once, only its digest is kept."""
    now = time.time()
    try:
        scopes = parse_scopes(scope)
        expires_at = now + parse_duration_s(lasts) if lasts is not None else None
        owner = parse_name(name)
    except (InvalidToken, ValueError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE) from error
    token = draw_token(secrets.token_bytes(DRAWN_BYTES))
    stored, deployment = StoredToken(token.id, owner, token.secret_sha256, scopes, now, expires_at), deployment_or_exit(config)
    if scopes <= CONTROL_SCOPES:
        _in_book(deployment, lambda book: book.keep(stored))
    else:
        _in_catalogue(deployment, _keeping(stored))
    print(token.text)
    print(f"Keep it now: it is not shown again. `headwater tokens revoke {token.id}` ends it.", file=sys.stderr)


@commands.command("list")
def list_tokens(config: ConfigOption, as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False) -> None:
    """List the tokens, revoked and expired ones too; their secrets are not known to anybody here."""
    deployment = deployment_or_exit(config)
    tokens = [*_in_book(deployment, TokenBook.all), *_in_catalogue(deployment, _listed)]
    if as_json:
        print(json.dumps([_facts(token) for token in tokens], indent=2))
        return
    table = Table(box=None)
    for column in ("id", "name", "scopes", "created", "state"):
        table.add_column(column, no_wrap=True)
    for token in tokens:
        table.add_row(token.id, token.name, " ".join(sorted(token.scopes)), _clock(token.created_at), _state(token, time.time()))
    Console().print(table)


@commands.command("revoke")
def revoke(token_id: Annotated[str, typer.Argument(help="The token's id, or the whole token.")], config: ConfigOption) -> None:
    """End a token: the next request that shows it is refused."""
    wanted = token_id.removeprefix("hw_").partition("_")[0]
    deployment = deployment_or_exit(config)
    revoked = _in_book(deployment, lambda book: book.revoke(wanted, time.time()))
    if not revoked and not _in_catalogue(deployment, _revoking(wanted)):
        print(f"There is no token {wanted}: `headwater tokens list` shows those that there are.", file=sys.stderr)
        raise typer.Exit(EXIT_UNKNOWN)
    print(f"Token {wanted} is refused from now on.")


def _in_catalogue(deployment: Deployment, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    # Imported here: every command of `headwater` would wait for the database library otherwise.
    from origin.catalogue.engine import open_catalogue

    async def run() -> T:
        async with open_catalogue(deployment) as catalogue:
            return await work(catalogue)

    try:
        return asyncio.run(run())
    except CannotStart as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE) from error


def _in_book(deployment: Deployment, work: Callable[[TokenBook], T]) -> T:
    try:
        return work(book_of(deployment))
    except TokenBookError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE) from error


def _keeping(token: StoredToken) -> Callable[[AsyncEngine], Awaitable[None]]:
    async def keep(catalogue: AsyncEngine) -> None:
        from origin.catalogue.engine import writing
        from origin.catalogue.tokens import keep_token

        async with writing(catalogue) as connection:
            await keep_token(connection, token)

    return keep


async def _listed(catalogue: AsyncEngine) -> list[StoredToken]:
    from origin.catalogue.engine import reading
    from origin.catalogue.tokens import all_tokens

    async with reading(catalogue) as connection:
        return await all_tokens(connection)


def _revoking(token_id: str) -> Callable[[AsyncEngine], Awaitable[bool]]:
    async def revoke_it(catalogue: AsyncEngine) -> bool:
        from origin.catalogue.engine import writing
        from origin.catalogue.tokens import revoke_token

        async with writing(catalogue) as connection:
            return await revoke_token(connection, token_id, time.time())

    return revoke_it


def _facts(token: StoredToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": sorted(token.scopes),
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "revoked_at": token.revoked_at,
    }


def _state(token: StoredToken, now: float) -> str:
    if token.revoked_at is not None:
        return f"revoked {_clock(token.revoked_at)}"
    if token.expires_at is None:
        return "holds"
    return f"{'expired' if now >= token.expires_at else 'holds until'} {_clock(token.expires_at)}"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)
