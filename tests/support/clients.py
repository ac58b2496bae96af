"""Client libraries of other people, from tests/clients (npm, by lock file)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.deployments import ROOT

PLACES = (ROOT / "tests" / "clients" / "node_modules", ROOT / "origin" / "api" / "pages_static" / "node_modules")


def client_library(path: str) -> Path:
    """The file of an installed package. Skips the test without it, or fails where all must run."""
    for place in PLACES:
        if (place / path).is_file():
            return place / path
    reason = f"{path} is not installed: `make test` installs tests/clients from its lock file"
    if os.environ.get("HEADWATER_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
