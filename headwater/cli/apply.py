"""`headwater plan`, `apply` and `rollback`: what a config would move, and moving it step by step."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from control.config.wanted import Wanted
from control.operators.operations import offline
from headwater.cli.controlapi import EXIT_NOT_DONE, EXIT_REFUSED, Control, NoControl, Refusal, fail
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.cli.planning import console_for_plans, show_plan
from headwater.rules.planning import Seen
from headwater.settings.deployment import Deployment
from headwater.settings.load import parse_deployment

PLAN_TIMEOUT_S = 60.0
POLL_S = 10.0
AWAY_AT_MOST_S = 120.0  # control may be started again while it rolls out
EXIT_ROLLED_BACK = 3
EXIT_CONFIG = 78

FileArgument = Annotated[Path, typer.Argument(help="The YAML file that is wanted.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Do it although the plan says that it would not hold.")]
JsonOption = Annotated[bool, typer.Option("--json", help="The whole plan as JSON, for scripts.")]


def plan(
    file: FileArgument,
    config: ConfigOption,
    as_json: JsonOption = False,
    is_offline: Annotated[
        bool, typer.Option("--offline", help="Compare with the config file alone: no control, no measured traffic.")
    ] = False,
    force: ForceOption = False,
    token: TokenOption = None,
) -> None:
    """Say what FILE would move before it moves. Exit status 0: it holds; 1: it would not hold; 78: FILE is wrong."""
    if is_offline:
        found = _offline(deployment_or_exit(config), _as_if_at(config, file))
    else:
        found = _asked_for_plan(Control(config, token), file)
    _show(found, as_json=as_json)
    if found["impossible"] or (found["refusals"] and not force):
        raise typer.Exit(EXIT_REFUSED)


def apply(
    file: FileArgument,
    config: ConfigOption,
    force: ForceOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only plan.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    token: TokenOption = None,
) -> None:
    """Roll FILE out: canary, POP by POP, weights in steps, back by itself when a step does not hold.

    Exit status 0: done; 1: refused; 3: rolled back; 78: FILE is wrong.
    """
    control = Control(config, token)
    if dry_run:
        plan(file, config, force=force, token=token)
        return
    try:
        begun = control.post("apply", {"text": _text(file), "name": str(file), "force": force}, PLAN_TIMEOUT_S)
    except (Refusal, NoControl) as error:
        _refused(error)
    show_plan(begun["plan"], console_for_plans())
    follow(control, detach=detach)


def rollback(
    config: ConfigOption,
    version: Annotated[int | None, typer.Argument(help="A number of `headwater history`; default: the one before.")] = None,
    force: ForceOption = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    token: TokenOption = None,
) -> None:
    """Stop the rollout that is under way; else roll a former version out, as `apply` would."""
    control = Control(config, token)
    try:
        begun = control.post("rollback", {"version": version, "force": force}, PLAN_TIMEOUT_S)
    except (Refusal, NoControl) as error:
        _refused(error)
    if "stopped" in begun:
        print(f"{begun['stopped']} is stopped")
        follow(control, detach=detach, wanted="rolled back")
        return
    show_plan(begun["plan"], console_for_plans())
    follow(control, detach=detach)


def follow(control: Control, *, detach: bool = False, wanted: str = "done") -> None:
    """Prints a rollout's lines as they come, until it ends. Control may be away in between: it goes on where it was."""
    if detach:
        return
    seen, away_since = 0, None
    while True:
        try:
            state = control.get("rollout", POLL_S + 10, after=str(seen), wait=str(POLL_S))["rollout"]
            away_since = None
        except NoControl as error:
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > AWAY_AT_MOST_S:
                fail(f"{error} The rollout goes on when control does; see `headwater status`.")
            time.sleep(0.5)
            continue
        except Refusal as refusal:
            fail(str(refusal))
        if state is None:
            fail("Control knows of no rollout.")
        for line in state["lines"][max(0, seen - state["dropped"]) :]:
            print(f"{time.strftime('%H:%M:%S', time.localtime(line['at']))}  {line['text']}", flush=True)
        seen = state["dropped"] + len(state["lines"])
        if not state["active"]:
            if state["status"] == "rolled back" and wanted == "done":
                raise typer.Exit(EXIT_ROLLED_BACK)
            return


def _as_if_at(config: Path, file: Path) -> Deployment:
    """The file's deployment as it would be in the config's place: paths in it are relative to that."""
    deployment_or_exit(file)  # its problems name it
    return parse_deployment(_text(file), config)


def _offline(before: Deployment, after: Deployment) -> dict[str, Any]:
    capacities = {name: float(edge.capacity) for one in (before, after) for name, _, edge in one.edges()}
    return offline(Wanted("", before), Wanted("", after), Seen(capacities=capacities, shields=tuple(before.shields)))


def _asked_for_plan(control: Control, file: Path) -> dict[str, Any]:
    try:
        return control.post("plan", {"text": _text(file), "name": str(file)}, PLAN_TIMEOUT_S)
    except NoControl as error:
        fail(f"{error} Or plan without it: --offline.")
    except Refusal as error:
        _refused(error)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}", EXIT_CONFIG)


def _refused(error: Refusal | NoControl) -> NoReturn:
    if isinstance(error, NoControl):
        fail(f"{error} If it had begun, it goes on when control does: see `headwater status`.", EXIT_NOT_DONE)
    if "plan" in error.members:
        show_plan(error.members["plan"], console_for_plans())
    fail(str(error), EXIT_CONFIG if error.kind == "config-invalid" else EXIT_REFUSED)


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        json.dump(found, sys.stdout, indent=2, ensure_ascii=False)
        print()
    else:
        show_plan(found, console_for_plans())


def register(app: typer.Typer) -> None:
    app.command()(plan)
    app.command()(apply)
    app.command()(rollback)
