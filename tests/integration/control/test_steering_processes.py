"""Control, DNS and an edge as real processes: an edit moves viewers, a death moves viewers, control's own death moves nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.asking import ask_until_true
from tests.support.deployments import free_port
from tests.support.lab import Lab, running_lab

HOST = "v3fa.cdn.test"
FRA, IAD, SIN = "127.0.1.1", "127.0.2.1", "127.0.3.1"


def checked_often(content: dict[str, Any]) -> None:
    content["control"]["probe_interval"] = "100 ms"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with running_lab(tmp_path, ("control", "dns", "fra-1", "sin-1"), checked_often) as lab:
        yield lab


def edit_pop(lab: Lab, pop: str, change: Callable[[dict[str, Any]], None]) -> None:
    content = yaml.safe_load(lab.config.read_text())
    change(content["pops"][pop])
    draft = lab.config.with_suffix(".draft")
    draft.write_text(yaml.safe_dump(content, sort_keys=False))
    draft.replace(lab.config)  # as careful editors save


async def answered(lab: Lab, *addresses: str) -> None:
    """Returns when DNS answers a viewer in eu with these addresses."""

    async def is_so() -> bool:
        return await lab.resolve(HOST, "192.0.2.0/24") == list(addresses)

    await ask_until_true(is_so)


@pytest.mark.slow
async def test_edits_and_deaths_move_viewers_and_the_death_of_control_moves_nobody(lab: Lab) -> None:
    # iad was never started: once control has been patient enough with it, spill goes past it.
    await answered(lab, FRA, SIN)

    edit_pop(lab, "fra", lambda pop: pop.update(weight=0))
    await answered(lab, SIN)
    edit_pop(lab, "fra", lambda pop: pop.update(weight=50))
    await answered(lab, FRA, SIN)

    await lab.kill("fra-1")
    await answered(lab, SIN)

    await lab.kill("control")
    held = await lab.metric("dns", "headwater_snapshot_version")
    assert await lab.resolve(HOST, "192.0.2.0/24") == [SIN], "DNS goes on by its last snapshot"
    await lab.kill("dns")
    await lab.start("dns")
    assert await lab.resolve(HOST, "192.0.2.0/24") == [SIN], "also when it starts without control"
    assert await lab.metric("dns", "headwater_snapshot_version") == held

    await lab.start("control", "fra-1")
    await answered(lab, FRA, SIN)
    assert await lab.metric("dns", "headwater_snapshot_version") > held


@pytest.mark.slow
async def test_an_edge_that_is_to_listen_elsewhere_gets_no_viewers_until_it_was_started_again(lab: Lab) -> None:
    await answered(lab, FRA, SIN)
    edit_pop(lab, "fra", lambda pop: pop["edges"]["fra-1"].update(listen=f"{FRA}:{free_port(FRA)}"))
    await answered(lab, SIN)
    await lab.restart("fra-1")
    await answered(lab, FRA, SIN)
