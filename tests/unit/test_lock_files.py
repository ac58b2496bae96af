"""What is installed is what is pinned: the lock files hold all that pyproject.toml asks for, with hashes, from anywhere."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.deployments import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
WANTED = {
    "requirements.lock": [*PROJECT["dependencies"], *EXTRAS["pages"], *EXTRAS["install"]],
    "requirements-dev.lock": [*PROJECT["dependencies"], *EXTRAS["pages"], *EXTRAS["install"], *EXTRAS["dev"]],
}


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_file_pins_everything_that_the_project_asks_for(lock: str) -> None:
    pins: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^ \\;]+)", (ROOT / lock).read_text(), re.MULTILINE):
        pins.setdefault(canonicalize_name(name), []).append(version)
    wanted = [Requirement(line) for line in WANTED[lock] if not line.startswith("headwater")]
    unmet = [
        str(need)
        for need in wanted
        if not any(need.specifier.contains(version) for version in pins.get(canonicalize_name(need.name), []))
    ]
    assert unmet == [], f"{lock} is out of date: run `make lock` and commit it"


@pytest.mark.parametrize("lock", WANTED)
def test_a_lock_file_names_hashes_and_no_place(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert len(re.findall(r"^[a-z].*==", text, re.MULTILINE)) == len(re.findall(r"\\\n    --hash=[^\n]*\n(?!    --hash)", text))
    assert "index" not in re.sub(r"#.*", "", text)
    assert "://" not in text
