"""`headwater audit`: who changed what, when, and from where."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from headwater.cli.controlapi import Control, NoControl, Refusal, fail
from headwater.cli.credentials import TokenOption
from headwater.cli.history import when
from headwater.cli.node import ConfigOption


def audit(
    config: ConfigOption,
    limit: Annotated[int, typer.Option(help="Lines, newest first.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line each.")] = False,
    token: TokenOption = None,
) -> None:
    """Show who changed what, when, and from where."""
    try:
        lines = Control(config, token).get("audit", limit=str(limit))["lines"]
    except (NoControl, Refusal) as error:
        fail(str(error))
    for line in lines:
        if as_json:
            json.dump(line, sys.stdout, ensure_ascii=False)
            print()
        else:
            print(_sentence(line, when(line["at"])))


def _sentence(line: dict[str, Any], at: str) -> str:
    login = f" ({line['login']})" if line.get("login") else ""
    place = f" from {line['from']}" if line.get("from") else ""
    return f"{at}  {line['what']:<9} {line['detail']}: {line['outcome']}  [{line['who']}{login}{place}]"


def register(app: typer.Typer) -> None:
    app.command()(audit)
