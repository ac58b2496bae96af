"""`headwater sign`, `headwater verify` and `headwater keys`: grants by hand, and the rotation of their keys."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Annotated
from urllib.parse import urlsplit

import typer

from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.rules.names import InvalidName, bucket_of, logical_host, parse_video_id
from headwater.settings.deployment import Deployment
from headwater.settings.units import parse_duration_s
from signer.grant import Algorithm, Grant, GrantRefused, KeyState, Refusal, check_use, decode, mint, verify
from signer.keyring import KeyRing, KeyRingError, StoredKey, clock_text, signing_one
from signer.urls import path_of, prefix_for, split_grant, with_grant

EXIT_REFUSED = 1
EXIT_USAGE = 2

keys_app = typer.Typer(name="keys", help="The keys that sign grants, and their rotation.", no_args_is_help=True)


class Form(StrEnum):
    PATH = "path"
    QUERY = "query"


def ring_of(deployment: Deployment) -> KeyRing:
    return KeyRing(deployment.data / deployment.signing.keys)


@contextmanager
def _said_clearly() -> Iterator[None]:
    """Wrong arguments and refusals of the ring are one sentence on stderr and exit status 2."""
    try:
        yield
    except (KeyRingError, ValueError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from error
    except PermissionError as error:
        print(f"{error.filename} may not be read or written by this user: run as the owner of the data folder.", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from error


def moment(text: str, now: float) -> float:
    """Unix seconds of `1800000000`, `2026-11-20T19:00:00Z`, or a duration from now such as `10 min` or `-30 s`."""
    if text.isascii() and text.isdigit():
        return float(text)
    sign, duration = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    try:
        return now + sign * parse_duration_s(duration)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r}: Unix seconds, an ISO 8601 time or a duration from now such as '10 min' was expected"
        ) from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def sign(
    url_or_path: Annotated[str, typer.Argument(help="A URL, a path such as /videos/{id}/master.m3u8, or a video id.")],
    config: ConfigOption,
    expires: Annotated[str | None, typer.Option(help="Lifetime, such as 6h. Default: the config's signing.lifetime.")] = None,
    not_before: Annotated[str | None, typer.Option(help="Not valid before: a time, or a duration from now.")] = None,
    network: Annotated[str | None, typer.Option(help="Valid for clients of this network only, such as 192.0.2.0/24.")] = None,
    session: Annotated[str | None, typer.Option(help="Session id, for the logs: letters, digits, - and _.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Path prefix covered. Default: the whole video.")] = None,
    form: Annotated[Form, typer.Option(help="Where the grant stands.")] = Form.PATH,
    edge: Annotated[str | None, typer.Option(help="Name this edge's own address instead of the logical host.")] = None,
) -> None:
    """Print a signed URL."""
    deployment = deployment_or_exit(config)
    with _said_clearly():
        now = time.time()
        url = _full_url(split_grant(url_or_path)[1], deployment, edge)
        path = path_of(url)
        key = ring_of(deployment).signing_key()
        grant = Grant(
            key_id=key.key_id,
            expires_at=math.ceil(now + (parse_duration_s(expires) if expires else deployment.signing.lifetime)),
            prefix=path_of(prefix) if prefix else prefix_for(path),
            not_before=math.floor(moment(not_before, now)) if not_before else None,
            network=ip_network(network, strict=False) if network else None,
            session=session,
        )
        if grant.not_before is not None and grant.not_before >= grant.expires_at:
            raise ValueError("the grant would expire before it is valid: move --not-before or --expires")
        token = mint(grant, key)
        if not grant.covers(path):
            raise ValueError(f"the prefix {grant.prefix} does not cover {path}")
        print(with_grant(url, token, form.value))


def _full_url(url: str, deployment: Deployment, edge: str | None) -> str:
    """The URL with scheme and host: the edge's, the given one, or the video's logical host; a path of no video stays a path."""
    if "/" not in url:
        url = f"/videos/{parse_video_id(url)}/master.m3u8"
    parts = urlsplit(url)
    if edge is not None:
        known = {name: node for name, _, node in deployment.edges()}
        if edge not in known:
            raise ValueError(f"there is no edge {edge!r}; there are: {', '.join(known)}")
        return parts._replace(scheme="http", netloc=str(known[edge].listen)).geturl()
    segments = parts.path.split("/")
    if parts.netloc or segments[1:2] != ["videos"]:
        return url
    try:
        host = logical_host(bucket_of(parse_video_id(segments[2])), deployment.zone)
    except (InvalidName, IndexError):
        return url
    port = next(node.listen.port for _, _, node in deployment.edges())
    return parts._replace(scheme="http", netloc=f"{host}:{port}").geturl()


def verify_url(
    url: Annotated[str, typer.Argument(help="A signed URL, or its path.")],
    config: ConfigOption,
    client: Annotated[str | None, typer.Option(help="The client's IP address, for grants bound to a network.")] = None,
    at: Annotated[str, typer.Option(help="The moment to judge at: a time, or a duration from now such as -30s.")] = "+0 s",
) -> None:
    """Say whether an edge would serve a signed URL, and if not exactly why (exit status 1)."""
    deployment = deployment_or_exit(config)
    with _said_clearly():
        now = moment(at, time.time())
        keys = {key.key_id: key for key in ring_of(deployment).published()}
        address = ip_address(client) if client else None
        token, plain = split_grant(url)
        path = path_of(plain)
    try:
        if token is None:
            raise GrantRefused(Refusal.MISSING, "no grant in front of the path, and no query parameter 'grant'")
        _print_claims(token)
        grant = verify(token, keys)
        anyone = ip_address("127.0.0.1") if grant.network is None else grant.network.network_address
        check_use(grant, path, address or anyone, now, deployment.signing.leeway)
    except GrantRefused as refused:
        print(f"refused: {refused.refusal}: {refused.detail}")
        raise typer.Exit(EXIT_REFUSED) from refused
    unchecked = " (network not checked: give --client)" if grant.network is not None and address is None else ""
    print(f"good: {path} may be fetched for {grant.expires_at - now:.0f} s more{unchecked}")


def _print_claims(token: str) -> None:
    grant = decode(token)[0]
    print(f"key         {grant.key_id}")
    print(f"prefix      {grant.prefix}")
    print(f"expires     {_time(grant.expires_at)}")
    if grant.not_before is not None:
        print(f"not before  {_time(grant.not_before)}")
    if grant.network is not None:
        print(f"network     {grant.network}")
    if grant.session is not None:
        print(f"session     {grant.session}")


def _time(unix_s: float | None) -> str:
    """Readable and exact: the format allows seconds beyond the calendar's end."""
    if unix_s is None:
        return "-"
    return f"{clock_text(unix_s)} ({unix_s:.0f})" if unix_s < 253402300800 else f"{unix_s:.0f}"


def longest_grant_s(deployment: Deployment) -> float:
    """How long a playback grant can live: its lifetime, and on top the length of the longest video (see `grant_expiry`)."""
    return deployment.signing.lifetime + deployment.origin.transcode.max_duration


@keys_app.command("list")
def list_keys(config: ConfigOption) -> None:
    """List the keys, oldest first; the one that signs is marked."""
    deployment = deployment_or_exit(config)
    with _said_clearly():
        ring = ring_of(deployment)
        keys = ring.keys()
        signing = signing_one(keys)
        rows = [("", "KEY", "ALGORITHM", "STATE", "CREATED", "ACTIVATED", "RETIRED", "GRANTS IN USE UNTIL")]
        for key in keys:
            until = None if key.state is KeyState.RETIRED else ring.in_use_until(key, longest_grant_s(deployment))
            times = (_clock(key.created_at), _clock(key.activated_at), _clock(key.retired_at), _clock(until))
            rows.append(("*" if key == signing else " ", key.key_id, key.algorithm, key.state, *times))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _clock(unix_s: float | None) -> str:
    return "-" if unix_s is None else clock_text(unix_s)


@keys_app.command("new")
def new_key(
    config: ConfigOption,
    algorithm: Annotated[Algorithm | None, typer.Option(help="Default: the config's signing.algorithm.")] = None,
    key_id: Annotated[str | None, typer.Option("--id", help="Key id. Default: the date and four random digits.")] = None,
) -> None:
    """Make a key in state next: nodes learn it, nothing is signed with it yet."""
    deployment = deployment_or_exit(config)
    with _said_clearly():
        key = ring_of(deployment).new(algorithm or Algorithm(deployment.signing.algorithm), key_id)
    print(f"{key.key_id} is next; `headwater keys activate {key.key_id}` lets it sign.")


@keys_app.command("activate")
def activate_key(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="A next key.")],
    config: ConfigOption,
    force: Annotated[bool, typer.Option(help="Even if some node may not know the key yet.")] = False,
) -> None:
    """Let a next key sign from now on; older active keys go on verifying until they are retired."""
    deployment = deployment_or_exit(config)
    with _said_clearly():
        ring = ring_of(deployment)
        key = ring.activate(key_id, force=force)
        keys = ring.keys()
        others = [other for other in keys if other.state is KeyState.ACTIVE and other.key_id != key.key_id]
    print(f"{key.key_id} signs from now on.{''.join(_may_retire(ring, other, deployment) for other in others)}")


def _may_retire(ring: KeyRing, key: StoredKey, deployment: Deployment) -> str:
    until = ring.in_use_until(key, longest_grant_s(deployment))
    return f" {key.key_id} still verifies; its grants may be in use until {_clock(until)}."


@keys_app.command("retire")
def retire_key(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="A key that has signed its last grant.")],
    config: ConfigOption,
    force: Annotated[bool, typer.Option("--force", "--yes", help="Even if viewers with its grants are refused.")] = False,
) -> None:
    """Refuse a key's grants from now on and forget its secret. There is no way back."""
    deployment = deployment_or_exit(config)
    with _said_clearly():
        key = ring_of(deployment).retire(key_id, lifetime_s=longest_grant_s(deployment), force=force)
    print(f"{key.key_id} is retired; its grants are refused as soon as each node has the news.")


def register(app: typer.Typer) -> None:
    app.command()(sign)
    app.command("verify")(verify_url)
    app.add_typer(keys_app)
