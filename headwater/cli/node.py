"""`headwater run NODE`: one node in the foreground, as `headwater up` or a service manager starts it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from headwater.runtime.node import EXIT_CANNOT_START, NodeMain, run_node
from headwater.runtime.nodeprocess import end_with_parent
from headwater.runtime.workerplace import WorkerPlace
from headwater.settings.deployment import Deployment, Role, nodes_of
from headwater.settings.load import ConfigError, load_deployment

NODE_MAINS: dict[Role, str] = {
    "control": "control.service:control_node",
    "origin-api": "origin.api.service:api_node",
    "origin-bytes": "origin.byteserver.service:byteserver_node",
    "origin-transcoder": "origin.transcode.service:transcoder_node",
    "dns": "dnssteer.service:dns_node",
    "shield": "shield.service:shield_node",
    "edge": "edge.service:edge_node",
}

# Where a clone of the repository has the lab's config; taken when nothing says which deployment is meant.
LAB_CONFIG = Path("configs/lab.yaml")

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="HEADWATER_CONFIG",
        help="The deployment's YAML file. Default: configs/lab.yaml.",
        default_factory=lambda: LAB_CONFIG,
        show_default=False,
    ),
]


def deployment_or_exit(config: Path) -> Deployment:
    """The deployment, or all that is wrong with its file on stderr and exit status 78."""
    try:
        return load_deployment(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_CANNOT_START) from error


def node_main(role: Role) -> NodeMain:
    module, _, name = NODE_MAINS[role].partition(":")
    main: NodeMain = getattr(importlib.import_module(module), name)
    return main


def run(
    node: Annotated[str, typer.Argument(help="Node name from the config.")],
    config: ConfigOption,
    parent: Annotated[int | None, typer.Option(help="Drain and end when this process, the parent, has ended.")] = None,
    worker: Annotated[str | None, typer.Option(hidden=True)] = None,
    listeners: Annotated[str, typer.Option(hidden=True)] = "",
    replaces: Annotated[bool, typer.Option("--replaces", hidden=True)] = False,
) -> None:
    """Run one node in the foreground."""
    if parent is not None and not end_with_parent(parent):
        raise typer.Exit(0)
    deployment = deployment_or_exit(config)
    role = nodes_of(deployment).get(node)
    if role is None:
        print(f"{config} has no node {node!r}; it has {', '.join(nodes_of(deployment))}.", file=sys.stderr)
        raise typer.Exit(2)
    place = None
    if worker is not None:  # started by the node's own parent process, see headwater.runtime.workers
        index, _, workers = worker.partition("/")
        place = WorkerPlace(int(index), int(workers), tuple(map(int, listeners.split(","))), replaces)
    raise typer.Exit(run_node(node_main(role), node, deployment, config.resolve(), place))


def register(app: typer.Typer) -> None:
    app.command()(run)
