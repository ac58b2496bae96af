"""`headwater up FILE`: a whole deployment on this machine, every node a process of its own, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from control.enrolment.book import BookUnusable
from control.enrolment.startup import ensure_enrolled
from control.operators.ownertoken import ensure_operator_token
from control.operators.tokenbook import TokenBookError
from headwater.cli.credentials import note_lab
from headwater.cli.demo import DemoFailed, show_demo
from headwater.cli.node import deployment_or_exit
from headwater.runtime import preflight
from headwater.runtime.datalock import InUse, holding
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.node import EXIT_CANNOT_START
from headwater.runtime.nodetoken import read_token
from headwater.runtime.supervisor import NodeFailed, Supervisor
from headwater.settings.deployment import Deployment, nodes_of
from origin.catalogue.ownertoken import ensure_creator_token
from origin.transcode.programs.tools import NoFfmpeg, find_ffmpeg
from signer.keyring import KeyRing

# After `kill -9` of `headwater up` its nodes drain by themselves; a start right afterwards waits for their ports this long.
LEFT_BEHIND_S = 20.0


def up(
    config: Annotated[Path, typer.Argument(help="The deployment's YAML file.")],
    demo: Annotated[bool, typer.Option("--demo", help="Upload a self-made clip when there is no video yet.")] = False,
) -> None:
    """Run a whole deployment on this machine until Ctrl-C."""
    deployment = deployment_or_exit(config)
    try:
        with holding(deployment.data) as was_killed:
            _exit_unless_ready(deployment, config, wait_s=LEFT_BEHIND_S if was_killed else 0.0)
            token = _make_secrets(deployment)
            status = asyncio.run(_run(deployment, config, demo, token))
    except (InUse, CannotStart, TokenBookError, BookUnusable) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_CANNOT_START) from error
    except PermissionError as error:
        print(f"{error.filename} cannot be written: change `data` in {config}, or its owner.", file=sys.stderr)
        raise typer.Exit(EXIT_CANNOT_START) from error
    raise typer.Exit(status)


def _exit_unless_ready(deployment: Deployment, config: Path, wait_s: float) -> None:
    """Prints all that hinders the start and exits, unless it passes within `wait_s`."""
    deadline = time.monotonic() + wait_s
    problems = _problems(deployment, config)
    if problems and wait_s:
        print("Waiting for the nodes of a killed `headwater up` to end…", file=sys.stderr)
    while problems and time.monotonic() < deadline:
        time.sleep(0.2)
        problems = _problems(deployment, config)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise typer.Exit(EXIT_CANNOT_START)


def _problems(deployment: Deployment, config: Path) -> list[str]:
    """Everything that hinders the start, each with its cure."""
    found = preflight.problems(deployment, config)
    try:
        find_ffmpeg(deployment.origin.transcode.ffmpeg)
    except NoFfmpeg as error:
        found.append(f"origin.{error}")
    return found


def _make_secrets(deployment: Deployment) -> str:
    """Tokens and a first signing key, so that all nodes find them when they start. Returns the creator's API token."""
    for node in nodes_of(deployment):
        read_token(deployment.data, node)
    KeyRing(deployment.data / deployment.signing.keys).ensure(deployment.signing.algorithm)
    token = asyncio.run(ensure_creator_token(deployment)).text
    ensure_operator_token(deployment)
    ensure_enrolled(deployment)
    for address in {deployment.origin.public_url, deployment.origin.api.listen.url, deployment.control.listen.url}:
        note_lab(address, deployment.data)
    return token


async def _run(deployment: Deployment, config: Path, demo: bool, token: str) -> int:
    """Runs the nodes until a signal. Returns the exit status."""
    console = Console(highlight=False, soft_wrap=True)
    supervisor = Supervisor(deployment, config, say=lambda line: console.print(line, markup=False))
    stop = _stop_signal(supervisor)
    stopped = asyncio.create_task(stop.wait())
    work = asyncio.create_task(_start(supervisor, config, demo, token, console))
    try:
        await asyncio.wait([stopped, work], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            await stopped
        return 0
    except NodeFailed as error:
        print(error, file=sys.stderr)
        return EXIT_CANNOT_START if error.cannot_start else 1
    finally:
        for task in (work, stopped):
            task.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)
        console.print("Stopping…")
        await supervisor.stop()
        console.print("Stopped. All data is kept; the next start goes on with it.")


async def _start(supervisor: Supervisor, config: Path, demo: bool, token: str, console: Console) -> None:
    console.print(f"Starting {len(supervisor.roles)} nodes; their logs are in {supervisor.deployment.data / 'log'}", markup=False)
    await supervisor.start()
    try:
        await show_demo(supervisor.deployment, config, console, token, upload=demo)
    except DemoFailed as error:
        console.print(f"The lab runs, but its demo video does not: {error}", markup=False)
    console.print("Ctrl-C stops everything.")


def _stop_signal(supervisor: Supervisor) -> asyncio.Event:
    """Set at the first SIGINT, SIGTERM or SIGHUP; a second one does not wait for nodes that drain."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            supervisor.kill()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def register(app: typer.Typer) -> None:
    app.command()(up)
