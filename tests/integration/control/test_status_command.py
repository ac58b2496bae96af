"""`headwater status` against a running control, in its own process as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control.service import control_node
from headwater.settings.deployment import admin_address, nodes_of
from tests.support.controlled import Lab, answering, controlled_lab
from tests.support.deployments import ROOT


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with controlled_lab(tmp_path) as lab:
        yield lab


async def headwater(*arguments: str) -> tuple[int | None, str, str]:
    """(exit status, stdout, stderr)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headwater", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    return process.returncode, out.decode(), errors.decode()


async def test_the_table_shows_every_node_and_what_is_wrong(lab: Lab) -> None:
    async with control_node(lab.context("control")), answering(lab, "fra-1"):
        await lab.snapshot_with(lambda snapshot: snapshot.health["iad-1"] == "down" and snapshot.health["fra-1"] == "up")
        code, out, _ = await headwater("status", "--config", str(lab.file))
    assert code == 0
    lines = out.splitlines()
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert set(nodes_of(lab.deployment)) <= set(rows)
    assert " up " in rows["fra-1"]
    assert " down " in rows["iad-1"]
    assert f"iad-1: last failed check: {admin_address(lab.deployment, 'iad-1')}: connection refused" in lines


async def test_json_is_the_whole_tree_also_while_the_file_is_wrong(lab: Lab) -> None:
    async with control_node(lab.context("control")):
        lab.edit("pops.fra.wieght", 1)
        code, out, _ = await headwater("status", "--config", str(lab.file), "--json")
    assert code == 0
    tree = json.loads(out)
    assert len(tree["nodes"]) == 10
    assert tree["deployment"] == "lab"


async def test_without_control_the_sentence_names_the_cure(lab: Lab) -> None:
    code, out, errors = await headwater("status", "--config", str(lab.file))
    assert (code, out) == (1, "")
    assert "start it with `headwater up" in errors
    assert len(errors.splitlines()) == 1
