"""`headwater dns ds`: what the parent zone needs of a signed zone."""

from __future__ import annotations

import sys

import dns.name
import typer

from dnssteer.signing import key_folder, zone_key
from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.runtime.httpsite import CannotStart

EXIT_USAGE = 2

dns_app = typer.Typer(name="dns", help="The DNS zone.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(dns_app)


@dns_app.callback()
def zone() -> None:
    """A group, though it has one command."""


@dns_app.command("ds")
def ds(config: ConfigOption) -> None:
    """Prints the zone's DS record for its parent, making the zone's key when there is none."""
    deployment = deployment_or_exit(config)
    try:
        key = zone_key(key_folder(deployment), deployment.zone)
    except (CannotStart, PermissionError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from error
    print(key.delegation(dns.name.from_text(deployment.zone)))
    if not deployment.dns.dnssec:
        print("The zone is not signed yet: set `dns.dnssec: true` first, and give the parent this record then.", file=sys.stderr)
