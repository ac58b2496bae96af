"""`headwater config`, `headwater metrics`, and the pages that they generate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from headwater.settings.describe import settings_of
from tests.support.deployments import LAB, ROOT


def headwater(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headwater", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_a_good_file_is_called_good() -> None:
    done = headwater("config", "check", str(LAB))
    assert (done.returncode, done.stderr) == (0, "")
    assert "is good: lab, 10 nodes" in done.stdout


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path: Path) -> None:
    text = LAB.read_text().replace("zone:", "zoen:").replace("demote_after: 30 d", "demote_after: 30")
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    done = headwater("config", "check", str(file))
    assert done.returncode == 78
    said = done.stderr.splitlines()
    assert any("zoen: unknown key; did you mean 'zone'?" in line for line in said)
    assert any("zone: is missing" in line for line in said)
    assert any("demote_after" in line and "a number with a unit was expected" in line for line in said)
    assert all(line.startswith(f"{file}") for line in said)


def test_every_setting_says_what_it_is() -> None:
    assert [setting.path for setting in settings_of(Deployment) if not setting.description] == []


def test_quantities_are_shown_with_their_unit_and_bounds() -> None:
    shown = {setting.path: setting for setting in settings_of(Deployment)}
    segment = shown["origin.transcode.segment"]
    assert (segment.default, segment.bounds) == ("`4 s`", "at least 1 s, at most 12 s")
    assert shown["origin.uploads.part_size"].bounds == "at least 256 KiB"
    assert shown["origin.tiers.hot.demote_after"].kind.startswith("duration")
    assert shown["pops.NAME.edges.NAME.capacity"].kind.startswith("bit rate")


@pytest.mark.parametrize(("page", "command"), [("settings.md", ("config", "describe")), ("metrics.md", ("metrics", "describe"))])
def test_generated_pages_are_up_to_date(page: str, command: tuple[str, ...]) -> None:
    done = headwater(*command)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "docs" / page).read_text() == done.stdout, f"docs/{page} is out of date: run `make docs` and commit it"
