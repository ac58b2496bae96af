"""The command line: each command is found, and starts no more than it needs."""

from __future__ import annotations

import importlib
import subprocess
import sys

import typer
from typer.main import get_command

from headwater.cli.main import GROUPS, groups_for
from tests.support.deployments import ROOT


def test_each_group_of_commands_brings_what_is_listed_for_it() -> None:
    for group, listed in GROUPS.items():
        app = typer.Typer()
        app.callback()(lambda: None)
        for needed in groups_for(listed[0]):
            importlib.import_module(f"headwater.cli.{needed}").register(app)
        brought = set(get_command(app).commands)  # type: ignore[attr-defined]
        assert set(listed) <= brought, group
        assert brought <= {command for needed in groups_for(listed[0]) for command in GROUPS[needed]}


def test_what_is_no_command_sees_all_of_them() -> None:
    assert groups_for("--help") == groups_for(None) == groups_for("upt") == tuple(GROUPS)


def test_a_nodes_process_imports_neither_the_catalogue_nor_the_cluster_for_its_command_line() -> None:
    """They would triple the processor time of a start, times the nodes and workers of a machine."""
    asked = "import sys, headwater.cli.main as m; sys.argv[1:] = ['run', '--help']\ntry:\n m.main()\nexcept SystemExit:\n pass\n"
    heavy = "print(sorted({'sqlalchemy', 'distributed', 'dask', 'boto3', 'av', 'control'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", asked + heavy], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
