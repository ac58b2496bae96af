"""The versions of the config as an operator sees them."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.console import Console
from typer.testing import CliRunner

from headwater.cli import history
from tests.support.deployments import lab_config


def version(number: int, **members: object) -> dict[str, object]:
    asker = {"who": "operator", "login": "ada", "address": ""}
    told = {"source": "edit", "outcome": "applied", "summary": "", "reason": ""}
    return {"number": number, "at": 0.0, "asker": asker, **told, **members}


def test_lists_in_a_change_and_paths_in_a_reason_are_shown_as_they_are() -> None:
    changed = version(2, summary="regions.ap.spill: [eu] \u2192 [eu, us]")
    failed = version(1, outcome="rolled back", reason="stopped: [/etc/headwater.yaml]")
    console = Console(width=150)
    with console.capture() as shown:
        console.print(history.listed({"versions": [changed, failed], "in_force": 2}))
    assert "regions.ap.spill: [eu] \u2192 [eu, us]" in shown.get()
    assert "[/etc/headwater.yaml]" in shown.get()


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    app = typer.Typer()
    history.register(app)
    said = CliRunner().invoke(app, ["diff", "1", str(tmp_path / "new.yaml"), "--config", str(lab_config(tmp_path))])
    assert said.exit_code == 2
    assert "new.yaml cannot be read" in said.output
