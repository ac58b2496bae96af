"""How many files the origin's API may have open: a stream with a checksum holds one for each of its parts until its end."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.service import control_node
from origin.api.service import api_node
from tests.support.controlled import controlled_lab


@pytest.fixture
def most_files() -> Iterator[int]:
    """The hard limit, above a soft one that is low, as systems have it by habit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_the_api_opens_as_many_files_as_it_may(tmp_path: Path, most_files: int) -> None:
    async with controlled_lab(tmp_path) as lab, control_node(lab.context("control")), api_node(lab.context("origin-api")):
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most_files
