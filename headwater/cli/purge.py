"""`headwater purge`: objects are gone from every cache, or asked about at their next use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.runtime.nodetoken import NODE_HEADER, token_file

TIMEOUT_S = 15.0
EXIT_MISSING = 1
EXIT_NOT_DONE = 2


def purge(
    config: ConfigOption,
    url: Annotated[str | None, typer.Argument(help="One object's URL, signed or plain, or its path.")] = None,
    prefix: Annotated[str | None, typer.Option(help="All URLs below this one; it ends at a slash of theirs.")] = None,
    tag: Annotated[str | None, typer.Option(help="All objects whose Cache-Tag or Surrogate-Key names this tag.")] = None,
    video: Annotated[str | None, typer.Option(help="All objects of this video.")] = None,
    soft: Annotated[bool, typer.Option("--soft", help="Keep them, but ask for them anew at their next use.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Control's whole answer, for scripts.")] = False,
) -> None:
    """Purge objects from all caches. Exit status 0: every cache acknowledged; 1: some are missing; 2: nothing was done."""
    given = {"url": url, "prefix": prefix, "tag": tag, "video": video}
    body: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if len(body) != 1:
        print("Say what to purge: a URL, or one of --prefix, --tag and --video.", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE)
    deployment = deployment_or_exit(config)
    answer = _ordered(deployment.control.listen.url, control_token(deployment.data), {**body, "soft": soft}, config)
    if as_json:
        print(json.dumps(answer, indent=2))
    else:
        _show(answer)
    raise typer.Exit(EXIT_MISSING if answer["missing"] else 0)


def control_token(data: Path) -> str:
    """Control's own token, which only the deployment's user can read. Exits with one sentence when it cannot be read."""
    file = token_file(data, "control")
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError as error:
        why = f"{file} cannot be read ({error.strerror}): run this where control runs, as the user who runs it."
        print(why, file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE) from error


def _ordered(url: str, token: str, body: dict[str, Any], config: Path) -> dict[str, Any]:
    try:
        reply = httpx.post(f"{url}/api/v1/purge", json=body, headers={NODE_HEADER: token}, timeout=TIMEOUT_S, trust_env=False)
        answer = reply.json()
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        print(f"Control does not answer at {url} ({error}): start it with `headwater up {config}`.", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE) from error
    if reply.status_code != 200:
        print(f"Nothing was purged: {answer.get('detail', reply.text)}", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE)
    return dict(answer)


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
