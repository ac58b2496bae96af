"""`headwater logs follow`: what nodes log, as they log it, through control."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from headwater.cli.controlapi import EXIT_REFUSED, Control, NoControl, Refusal, fail
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption

AGAIN_S: Final = 0.5
AWAY_AT_MOST_S: Final = 120.0

commands = typer.Typer(name="logs", help="What nodes log.", no_args_is_help=True)


@commands.callback()
def logs() -> None:
    """What nodes log."""


@commands.command("follow")
def follow(
    config: ConfigOption,
    nodes: Annotated[list[str] | None, typer.Argument(help="Nodes; default: all.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only requests with this status, such as 404 or 5xx.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only requests that were refused.")] = False,
    service: Annotated[bool, typer.Option("--service", help="The service log instead of the access log.")] = False,
    last: Annotated[int, typer.Option(help="Begin with the last lines of each node.", min=0, max=500)] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they are logged, for scripts.")] = False,
    token: TokenOption = None,
) -> None:
    """Show log lines as they come, until Ctrl-C. A control that is started again is followed further."""
    if service and (status or refused):
        fail("--status and --refused are of the access log.")
    control = Control(config, token)
    query = [("node", node) for node in nodes or []] + [("status", one) for one in status or []]
    query += [("log", "service" if service else "access"), ("refused", "1" if refused else "0")]
    try:
        for members in _members(control, query, last):
            _show(members, as_json=as_json)
    except Refusal as refusal:
        fail(str(refusal), EXIT_REFUSED)
    except NoControl as error:
        fail(str(error))
    except BrokenPipeError:  # `| head` has enough
        sys.stderr.close()
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _members(control: Control, query: list[tuple[str, str]], last: int) -> Iterator[dict[str, Any]]:
    """What control tells, also after it was away; raises NoControl when it stays away, or was never there."""
    heard: float | None = None
    while True:
        try:
            for line in control.lines("logs", [*query, ("last", str(last))]):
                heard, last = time.monotonic(), 0
                if line:
                    yield json.loads(line)
        except NoControl:
            if heard is None or time.monotonic() - heard > AWAY_AT_MOST_S:
                raise
        time.sleep(AGAIN_S)


def _show(members: dict[str, Any], *, as_json: bool) -> None:
    if "unreached" in members:
        print(f"{members['unreached']} cannot be reached for its log, and is asked again: {members['why']}", file=sys.stderr)
    elif "lost" in members:
        print(f"{members['of']} logs faster than this is read: {members['lost']} lines are left out", file=sys.stderr)
    elif as_json:
        print(json.dumps(members["line"], ensure_ascii=False), flush=True)
    else:
        told = _request if members["log"] == "access" and "status" in members["line"] else _event
        print(f"{_clock(members['line'].get('time'))}  {members['of']:<16} {told(members['line'])}", flush=True)


def _request(line: dict[str, Any]) -> str:
    why = line.get("refusal") or line.get("cut_off") or line.get("outcome") or ""
    took = f"{line['duration_ms']:.1f} ms" if isinstance(line.get("duration_ms"), int | float) else ""
    asked = f"{line.get('method') or ''} {line.get('path') or ''}"
    return f"{line['status']} {why:<14} {asked}  {line.get('client') or ''} {took}".rstrip()


def _event(line: dict[str, Any]) -> str:
    rest = {name: value for name, value in line.items() if name not in ("time", "level", "event", "node")}
    told = " ".join(f"{name}={value}" for name, value in rest.items())
    return f"{line.get('level', ''):<8} {line.get('event', '')} {told}".rstrip()


def _clock(text: object) -> str:
    try:
        return datetime.fromisoformat(str(text)).astimezone().strftime("%H:%M:%S")
    except ValueError:
        return "--:--:--"


def register(app: typer.Typer) -> None:
    app.add_typer(commands)
