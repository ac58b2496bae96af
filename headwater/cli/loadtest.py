"""`headwater loadtest run SCENARIO`: simulated viewers, a report, and objectives that decide the exit status."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headwater.cli.node import LAB_CONFIG, deployment_or_exit
from headwater.settings.load import ConfigError
from headwater.settings.units import Address, parse_address
from loadtest.measures import Measures
from loadtest.report import document, show
from loadtest.run import CannotRun, Target, run_scenario
from loadtest.scenario import load_scenario

EXIT_NOT_MET = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
loadtest_app = typer.Typer(name="loadtest", help="Simulated viewers.", no_args_is_help=True)


@loadtest_app.callback()
def _group() -> None:
    """Keeps `run` a command of its own while the group has one only."""


@loadtest_app.command()
def run(
    scenario: Annotated[Path, typer.Argument(help="The scenario's YAML file.")],
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar="HEADWATER_CONFIG", help="The deployment's YAML file. Default: configs/lab.yaml."),
    ] = None,
    api: Annotated[
        str | None, typer.Option(envvar="HEADWATER_API", help="Base URL of the origin's API. Default: the config's.")
    ] = None,
    dns: Annotated[str | None, typer.Option(help="Address of the DNS server. Default: the config's.")] = None,
    report: Annotated[Path | None, typer.Option("--json", help="Write the whole result to this file.")] = None,
    allow_remote: Annotated[bool, typer.Option(help="Test machines other than this one; be sure that they are yours.")] = False,
) -> None:
    """Run a scenario. Exit status: 0 every objective is met, 1 one is not, 2 the run could not begin."""
    try:
        chosen = load_scenario(scenario)
        target = _target(config, api, dns, allow_remote=allow_remote)
        if report is not None and not report.resolve().parent.is_dir():
            raise CannotRun(f"{report} cannot be written: its folder does not exist.")
        outcome = asyncio.run(run_scenario(chosen, target, ProgressLine(chosen.viewers, shown=sys.stderr.isatty())))
    except (ConfigError, CannotRun) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from error
    except KeyboardInterrupt as error:
        print("stopped; an unfinished run has no result.", file=sys.stderr)
        raise typer.Exit(EXIT_INTERRUPTED) from error
    console = Console(width=None if sys.stdout.isatty() else 140)
    show(outcome, console)
    if report is not None:
        report.write_text(json.dumps(document(outcome), indent=1) + "\n", encoding="utf-8")
    raise typer.Exit(0 if outcome.met else EXIT_NOT_MET)


def _target(config: Path | None, api: str | None, dns: str | None, *, allow_remote: bool) -> Target:
    if config is None and api is None and dns is None and LAB_CONFIG.exists():
        print(f"testing the deployment of {LAB_CONFIG}; --config FILE names another one.", file=sys.stderr)
        config = LAB_CONFIG
    deployment = deployment_or_exit(config) if config is not None else None
    api_url = api or (deployment.origin.public_url if deployment else None)
    server: Address | None = deployment.dns.listen if deployment else None
    if dns is not None:
        try:
            server = parse_address(dns)
        except ValueError as error:
            raise CannotRun(f"--dns {dns}: {error}.") from error
    if api_url is None or server is None:
        raise CannotRun("where is the deployment? Give --config FILE, or both --api URL and --dns ADDRESS:PORT.")
    if not api_url.startswith(("http://", "https://")):
        raise CannotRun(f"--api {api_url}: a URL such as http://127.0.0.1:7080 was expected.")
    return Target(api_url, server, deployment, allow_remote)


class ProgressLine:
    """One line on a terminal, overwritten; nothing elsewhere."""

    def __init__(self, viewers: int, *, shown: bool) -> None:
        self._viewers = viewers
        self._shown = shown

    def __call__(self, measures: Measures) -> None:
        if self._shown:
            done, failed = measures.finished, measures.failures.total()
            print(
                f"\r{done + failed} of {self._viewers} viewers are done, {failed} gave up ", end="", file=sys.stderr, flush=True
            )
            if done + failed == self._viewers:
                print(file=sys.stderr)


def register(app: typer.Typer) -> None:
    app.add_typer(loadtest_app)
