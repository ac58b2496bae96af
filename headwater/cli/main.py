"""The `headwater` command: one module per group of commands; only that of the command which is run is imported.

A node's process that imported all of them would spend more processor time on that than on everything else until it is healthy.
"""

from __future__ import annotations

import importlib
import sys

import typer

# Modules of this package, each of which offers `register(app)`, and the commands that they bring.
GROUPS: dict[str, tuple[str, ...]] = {
    "apply": ("plan", "apply", "rollback"),
    "audit": ("audit",),
    "config": ("config",),
    "dns": ("dns",),
    "drain": ("drain", "undrain"),
    "enrol": ("enrol",),
    "explain": ("explain",),
    "history": ("history", "diff"),
    "metrics": ("metrics",),
    "loadtest": ("loadtest",),
    "logs": ("logs",),
    "node": ("run",),
    "purge": ("purge",),
    "requeue": ("requeue",),
    "rotate": ("keys",),
    "sign": ("sign", "verify", "keys"),
    "status": ("status",),
    "store": ("store",),
    "tokens": ("tokens",),
    "up": ("up",),
    "upload": ("upload",),
    "video": ("video",),
    "worker": ("worker",),
    "warm": ("warm",),
}

app = typer.Typer(
    name="headwater",
    help="A self-hosted video CDN with its origin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def headwater() -> None:
    """A self-hosted video CDN with its origin."""  # a callback keeps the command's name also where it is the only one


def groups_for(command: str | None) -> tuple[str, ...]:
    """The modules that a command needs: all of them for what is no command, such as `--help`."""
    return tuple(group for group, commands in GROUPS.items() if command in commands) or tuple(GROUPS)


def main() -> None:
    for group in groups_for(sys.argv[1] if len(sys.argv) > 1 else None):
        importlib.import_module(f"headwater.cli.{group}").register(app)
    app()
