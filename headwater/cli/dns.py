"""`headwater dns`: what the parent zone needs of a signed zone, and the rollover of the zone's keys."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import dns.name
import typer
from rich.console import Console
from rich.table import Table

from dnssteer import keyroll
from dnssteer.keykeeper import timing_of
from dnssteer.keyroll import CannotRoll, KeyPlace, Role, State
from dnssteer.zonekeys import ZoneKeys, key_folder
from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.runtime.httpsite import CannotStart
from headwater.settings.deployment import Deployment

EXIT_USAGE = 2

dns_app = typer.Typer(name="dns", help="The DNS zone.", no_args_is_help=True)
keys_app = typer.Typer(name="keys", help="The keys of the signed zone and their rollover.", no_args_is_help=True)
dns_app.add_typer(keys_app)


def register(app: typer.Typer) -> None:
    app.add_typer(dns_app)


@dns_app.command("ds")
def ds(config: ConfigOption) -> None:
    """Prints the DS record that the zone's parent should have, making the zone's keys when there are none."""
    deployment = deployment_or_exit(config)
    with _refusals():
        keys = _keys(deployment).current
    print(keys.delegation(dns.name.from_text(deployment.zone), round(deployment.dns.rollover.key_ttl)))
    if not deployment.dns.dnssec:
        print("The zone is not signed yet: set `dns.dnssec: true` first, and give the parent this record then.", file=sys.stderr)


@keys_app.command("list")
def list_keys(config: ConfigOption, as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False) -> None:
    """Every key that is published, where it is in its rollover, and what comes next."""
    deployment = deployment_or_exit(config)
    with _refusals():
        places = _keys(deployment).current.places
    rows = [_row(place, places, deployment) for place in sorted(places, key=lambda place: (place.role, place.since))]
    if as_json:
        print(json.dumps({"zone": deployment.zone, "keys": rows}))
        return
    table = Table("key", "role", "state", "since", "next", title=f"Keys of {deployment.zone}")
    for row in rows:
        table.add_row(str(row["key"]), row["role"], row["state"], row["since"], row["next"])
    Console().print(table)


@keys_app.command("roll")
def roll(role: Annotated[Role, typer.Argument(help="zsk: the key that signs the zone; ksk: the one that the parent names.")],
         config: ConfigOption) -> None:  # fmt: skip
    """Begins to replace a key. The running server makes the further steps as they are due."""
    deployment = deployment_or_exit(config)
    with _refusals():
        keys = _keys(deployment)
        place = keys.roll(role)
    print(f"{role} {place.tag} is published from now on. Next: {_next(place, keys.current.places, deployment)}.")


@keys_app.command("seen")
def seen(
    config: ConfigOption,
    ttl_s: Annotated[int, typer.Option("--ttl", help="TTL of the parent's DS set, in seconds.", min=1, max=7 * 86_400)] = 86_400,
) -> None:
    """Says that all servers of the parent zone have the DS of the submitted key."""
    deployment = deployment_or_exit(config)
    with _refusals():
        keys = _keys(deployment)
        place = keys.ds_seen(ttl_s)
    print(f"{place.role} {place.tag}: the parent has its DS. Next: {_next(place, keys.current.places, deployment)}.")


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (CannotStart, CannotRoll, PermissionError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from error


def _keys(deployment: Deployment) -> ZoneKeys:
    return ZoneKeys(key_folder(deployment), deployment.zone)


def _row(place: KeyPlace, places: keyroll.Keys, deployment: Deployment) -> dict[str, Any]:
    return {
        "key": place.tag,
        "role": place.role.value,
        "state": place.state.value,
        "since": _clock(place.since),
        "next": _next(place, places, deployment),
    }


def _next(place: KeyPlace, places: keyroll.Keys, deployment: Deployment) -> str:
    """What happens to the key next, in words."""
    timing = timing_of(deployment.dns, deployment.dns.rollover)
    at = keyroll.due_at(place, places, timing)
    if at is None:
        if place.state is State.SUBMITTED:
            return "the parent takes its DS (CDS and CDNSKEY ask for it; `headwater dns ds` prints it)"
        every_s = timing.every_s(place.role)
        return "replaced when told to" if every_s is None else f"replaced from {_clock(place.since + every_s)} on"
    when = _clock(at) if at > time.time() else "now, by the running server"
    match place.role, place.state:
        case _, State.RETIRED:
            return f"removed: {when}"
        case Role.KSK, State.PUBLISHED:
            return f"submitted to the parent: {when}"
    return f"active: {when}"


def _clock(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
