"""`headwater config check FILE` and `headwater config describe`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headwater.cli.node import deployment_or_exit
from headwater.settings.deployment import nodes_of
from headwater.settings.describe import settings_page

config = typer.Typer(help="Check a deployment's config, describe all settings.", no_args_is_help=True)

OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file instead of stdout.")]


@config.command()
def check(file: Annotated[Path, typer.Argument(help="The deployment's YAML file.")]) -> None:
    """Say all that is wrong with a file at once; exit status 0 or 78."""
    deployment = deployment_or_exit(file)
    print(f"{file} is good: {deployment.name}, {len(nodes_of(deployment))} nodes, data in {deployment.data}")


@config.command()
def describe(output: OutputOption = None) -> None:
    """Every setting as a Markdown page: path, type, default, bounds and what it is."""
    publish(settings_page(), output)


def publish(page: str, output: Path | None) -> None:
    """Writes a generated page to the file, or to stdout."""
    if output is None:
        print(page, end="")
    else:
        output.write_text(page, encoding="utf-8")


def register(app: typer.Typer) -> None:
    app.add_typer(config, name="config")
