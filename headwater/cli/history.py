"""`headwater history` and `diff`: the versions of the config, and what is between two of them."""

from __future__ import annotations

import difflib
import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.cli.controlapi import Control, fail, ordered
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption
from headwater.cli.planning import PLAIN_WIDTH


def history(
    config: ConfigOption,
    version: Annotated[int | None, typer.Argument(help="Print this version's file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
    token: TokenOption = None,
) -> None:
    """List the versions of the config: who, when, how it came, what became of it."""
    control = Control(config, token)
    if version is not None:
        found = ordered(control, f"versions/{version}")
        print(json.dumps(found, indent=2, ensure_ascii=False) if as_json else found["text"], end="\n" if as_json else "")
        return
    answer = ordered(control, "versions")
    if as_json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return
    console = Console()
    (console if console.is_terminal else Console(width=PLAIN_WIDTH)).print(listed(answer))


def listed(answer: dict[str, Any]) -> Table:
    """The versions as rich prints them; brackets in what is told of them are no markup."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("version", "when", "by", "came by", "outcome", "what"):
        table.add_column(name, no_wrap=name != "what")
    for one in answer["versions"]:
        outcome = "in force" if one["number"] == answer["in_force"] else one["outcome"]
        asker = one["asker"]
        told = f"{one['summary']}{'; ' + one['reason'] if one['reason'] else ''}"
        who = asker["login"] or asker["who"]
        table.add_row(str(one["number"]), when(one["at"]), Text(who), one["source"], outcome, Text(told))
    return table


def diff(
    config: ConfigOption,
    first: Annotated[int | None, typer.Argument(help="A version; default: the one before the one in force.")] = None,
    second: Annotated[str | None, typer.Argument(help="Another version, or a file; default: the one in force.")] = None,
    token: TokenOption = None,
) -> None:
    """Show what is between two versions, or a version and a file."""
    file = _text_of(Path(second)) if second is not None and not second.isdigit() else None
    control = Control(config, token)
    versions = ordered(control, "versions")
    in_force = versions["in_force"] or 0
    applied = [one["number"] for one in versions["versions"] if one["outcome"] == "applied" and one["number"] < in_force]
    number = first if first is not None else max(applied, default=in_force)
    old = ordered(control, f"versions/{number}")["text"]
    if second is not None and file is not None:
        new, shown = file, second
    else:
        other = int(second) if second is not None else in_force
        new, shown = ordered(control, f"versions/{other}")["text"], f"version {other}"
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), f"version {number}", shown, lineterm="")
    print("\n".join(lines))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}")


def when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def register(app: typer.Typer) -> None:
    app.command()(history)
    app.command()(diff)
