"""`headwater store check FILE`: what the deployment's object stores can do, asked of the stores themselves."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from headwater.cli.node import deployment_or_exit
from origin.objects.interface import ObjectStoreFailed
from origin.objects.s3probe import WITHOUT, probe
from origin.objects.stores import stores_of

EXIT_UNUSABLE = 1

commands = typer.Typer(name="store", help="Look at a deployment's object stores.", no_args_is_help=True)


@commands.callback()
def store() -> None:
    """Keeps `check` a command of its own."""


@commands.command()
def check(file: Annotated[Path, typer.Argument(help="The deployment's YAML file.")]) -> None:
    """Write to, read from and remove from every S3 store, and say what each can do; exit status 1 when one cannot be used."""
    deployment = deployment_or_exit(file)
    good = True
    for name, settings in stores_of(deployment):
        if settings is None:
            print(f"{name}: local files, which can do all that is asked of them")
            continue
        try:
            found = asyncio.run(probe(settings))
        except ObjectStoreFailed as error:
            print(f"{name}: {error}", file=sys.stderr)
            good = False
            continue
        table = Table(
            "can", "", "without it", title=f"{name}: bucket {settings.bucket} at {settings.endpoint}", title_justify="left"
        )
        for capability, able in found.items():
            table.add_row(capability.value, "yes" if able else "no", "" if able else WITHOUT[capability])
        Console().print(table)
    if not good:
        raise typer.Exit(EXIT_UNUSABLE)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="store")
