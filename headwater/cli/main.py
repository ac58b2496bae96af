"""The `headwater` command: one module per group of commands; each is imported only when it is listed or run."""

from __future__ import annotations

import importlib

import typer

# Modules of this package that each offer `register(app)`.
GROUPS = (
    "apply",
    "config",
    "dns",
    "drain",
    "explain",
    "history",
    "metrics",
    "loadtest",
    "logs",
    "node",
    "purge",
    "requeue",
    "rotate",
    "sign",
    "status",
    "store",
    "tokens",
    "up",
    "upload",
    "video",
    "worker",
    "warm",
)

app = typer.Typer(
    name="headwater",
    help="A self-hosted video CDN with its origin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    for group in GROUPS:
        importlib.import_module(f"headwater.cli.{group}").register(app)
    app()
