"""Fixtures that every test may use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headwater.settings.deployment import Deployment
from tests.support.deployments import lab_deployment


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    """The lab's deployment on free ports, its data in a temporary folder."""
    return lab_deployment(tmp_path)


@pytest.fixture(autouse=True)
async def no_task_is_left_behind() -> AsyncIterator[None]:
    """A leaked task fails the test that leaked it."""
    yield
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()}
    assert not left, f"tasks left behind: {left}"
