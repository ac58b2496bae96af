"""`headwater drain` and `undrain`: viewers leave a POP or an edge, and come back."""

from __future__ import annotations

from typing import Annotated

import typer

from headwater.cli.apply import PLAN_TIMEOUT_S, ForceOption, follow
from headwater.cli.controlapi import EXIT_REFUSED, Control, NoControl, Refusal, fail
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption
from headwater.cli.planning import console_for_plans, show_plan

NamesArgument = Annotated[list[str], typer.Argument(help="POPs or edges.")]
GentlyOption = Annotated[
    bool, typer.Option("--gently", help="Fetch ahead and move viewers in steps, as `apply` does, instead of at once.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would move.")]


def drain(
    names: NamesArgument,
    config: ConfigOption,
    gently: GentlyOption = False,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    token: TokenOption = None,
) -> None:
    """Send no more viewers to these POPs or edges, until they are undrained. The config file stays as it is."""
    _order(Control(config, token), names, drained=True, gently=gently, force=force, dry_run=dry_run)


def undrain(
    names: NamesArgument,
    config: ConfigOption,
    gently: GentlyOption = False,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    token: TokenOption = None,
) -> None:
    """Send viewers to these POPs or edges again, by their weights in the config file."""
    _order(Control(config, token), names, drained=False, gently=gently, force=force, dry_run=dry_run)


def _order(control: Control, names: list[str], *, drained: bool, gently: bool, force: bool, dry_run: bool) -> None:
    console = console_for_plans()
    try:
        if dry_run:
            show_plan(control.post("plan", {"drain" if drained else "undrain": names}, PLAN_TIMEOUT_S), console)
            return
        order = {"names": names, "drained": drained, "gently": gently, "force": force}
        done = control.post("drain", order, PLAN_TIMEOUT_S)
    except NoControl as error:
        fail(str(error))
    except Refusal as refusal:
        if "plan" in refusal.members:
            show_plan(refusal.members["plan"], console)
        fail(str(refusal), EXIT_REFUSED)
    show_plan(done["plan"], console)
    if done["rollout"] is not None:
        follow(control)
    else:
        print(f"Drained now: {', '.join(done['drained']) or 'nothing'}. Viewers follow as their DNS answers run out.")


def register(app: typer.Typer) -> None:
    app.command()(drain)
    app.command()(undrain)
