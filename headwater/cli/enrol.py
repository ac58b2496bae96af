"""`headwater enrol token|list|revoke`: how nodes get their certificates, and how they lose them."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headwater.cli.controlapi import Control, fail, ordered
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption
from headwater.settings.units import parse_duration_s

PLAIN_WIDTH = 150
NodeArgument = Annotated[str, typer.Argument(help="Node name from the config.")]

commands = typer.Typer(name="enrol", help="Nodes' certificates: enrol a node, list them, revoke one.", no_args_is_help=True)


@commands.command("token")
def make_token(
    node: NodeArgument,
    config: ConfigOption,
    expires: Annotated[str, typer.Option(help="How long it can be used, such as `30 min`; 30 d at most.")] = "1 h",
    role: Annotated[
        str | None, typer.Option(help="edge or shield: for a node that the config does not have yet; it waits until it has.")
    ] = None,
    token: TokenOption = None,
) -> None:
    """Make a one-time token for a node and print it: it is shown once. A node's earlier token ends."""
    try:
        expires_s = parse_duration_s(expires)
    except ValueError as error:
        fail(f"--expires: {error}")
    made = ordered(Control(config, token), "enrolment/token", {"node": node, "expires_s": expires_s, "role": role})
    print(made["token"])
    until = _clock(made["expires_at"])
    print(
        f"For {node}, once, until {until}: start the node with it in HEADWATER_ENROL, or put it into `enrol.token` of its folder "
        f"(`nodes/{node}` of its data folder).",
        file=sys.stderr,
    )


@commands.command("list")
def list_nodes(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts; tokens of the last 30 days too.")] = False,
    token: TokenOption = None,
) -> None:
    """List the nodes and their certificates, then the tokens that nobody has used yet."""
    listed = ordered(Control(config, token), "enrolment")
    if as_json:
        print(json.dumps(listed, indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(f"authority SHA-256 {listed['authority']}", highlight=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("node", "role", "certificate", "expires", "token"):
        table.add_column(column, no_wrap=True)
    open_tokens = {one["node"]: one for one in listed["tokens"] if one["state"] == "open"}
    for node in listed["nodes"]:
        table.add_row(*_row(node, open_tokens.get(node["node"])))
    console.print(table)


@commands.command("revoke")
def revoke(node: NodeArgument, config: ConfigOption, token: TokenOption = None) -> None:
    """End a node's certificates and tokens: its next request is refused. It enrols again with a new token."""
    ordered(Control(config, token), "enrolment/revoke", {"node": node})
    print(f"{node} is refused from now on; viewers are sent elsewhere. `headwater enrol token {node}` lets it enrol again.")


def _row(node: dict[str, Any], token: dict[str, Any] | None) -> list[str]:
    state = node["state"] if node["state"] != "revoked" else f"revoked {_clock(node['revoked_at'])}"
    return [
        node["node"],
        node["role"],
        state if node["configured"] else f"{state}, not in the config",
        _clock(node["expires_at"]) if node["expires_at"] else "",
        f"{token['id']} until {_clock(token['expires_at'])}" if token else "",
    ]


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def register(app: typer.Typer) -> None:
    app.add_typer(commands)
