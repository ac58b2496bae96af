"""`headwater purge`: objects are gone from every cache, or asked about at their next use."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headwater.cli.controlapi import EXIT_NOT_DONE, Control, NoControl, Refusal, fail
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption

TIMEOUT_S = 15.0
EXIT_MISSING = 1


def purge(
    config: ConfigOption,
    url: Annotated[str | None, typer.Argument(help="One object's URL, signed or plain, or its path.")] = None,
    prefix: Annotated[str | None, typer.Option(help="All URLs below this one; it ends at a slash of theirs.")] = None,
    tag: Annotated[str | None, typer.Option(help="All objects whose Cache-Tag or Surrogate-Key names this tag.")] = None,
    video: Annotated[str | None, typer.Option(help="All objects of this video.")] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Keep them, but ask for them anew at their next use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Control's whole answer, for scripts.")] = False,
    token: TokenOption = None,
) -> None:
    """Purge objects from all caches. Exit status 0: every cache acknowledged; 1: some are missing; 2: nothing was done."""
    given = {"url": url, "prefix": prefix, "tag": tag, "video": video}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if len(body) != 1:
        print("Say what to purge: a URL, or one of --prefix, --tag and --video.", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE)
    try:
        answer = Control(config, token).post("purge", {**body, "soft": soft}, TIMEOUT_S)
    except NoControl as error:
        fail(str(error))
    except Refusal as refusal:
        fail(f"Nothing was purged: {refusal}")
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        _show(answer)
    raise typer.Exit(EXIT_MISSING if answer["missing"] else 0)


def _show(answer: dict[str, Any]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("node", "role", "purge"):
        table.add_column(name)
    for one in answer["acknowledged"]:
        table.add_row(one["node"], one["role"], f"acknowledged in {one['took_ms']} ms")
    for one in answer["missing"]:
        table.add_row(one["node"], one["role"], f"missing: {one['reason']}", style="red")
    console.print(table)
    done, missing = len(answer["acknowledged"]), len(answer["missing"])
    verb = "asked about at its next use" if answer["soft"] else "served no more"
    told = " and ".join(f"{one['kind']} {one['target']}" for one in answer["targets"])
    console.print(f"{told}: {verb} by {done} of {done + missing} caches (purge {answer['sequence']})", soft_wrap=True)
    if missing:
        console.print("The missing ones carry it out when they reach control again, before they serve after a start.")


def register(app: typer.Typer) -> None:
    app.command()(purge)
