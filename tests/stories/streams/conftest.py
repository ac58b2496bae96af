"""An API whose uploads have small parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from headwater.settings.deployment import Deployment
from tests.support.deployments import lab_deployment, with_uploads
from tests.support.origin import RunningApi, running_api
from tests.support.streaming import (
    PART,
)


@pytest.fixture
def deployment(tmp_path: Any) -> Deployment:
    """Small parts, so that a small file has many."""
    return with_uploads(lab_deployment(tmp_path), part_size=PART)


@pytest.fixture
async def api(deployment: Deployment) -> AsyncIterator[RunningApi]:
    async with running_api(deployment) as running:
        yield running
