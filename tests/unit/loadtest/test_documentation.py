"""docs/load-test.md names every key of a scenario, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from loadtest.scenario import Audience, Scenario

PAGE = Path(__file__).resolve().parents[3] / "docs" / "load-test.md"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_the_page_names_every_key_of_a_scenario_and_no_other() -> None:
    tables = PAGE.read_text().split("## A scenario")[1].split("## Reading")[0]
    named = {
        key for cell in re.findall(r"^\| (`[^|]+`) \|", tables, re.MULTILINE) for key in re.findall(r"`([a-z0-9_.]+)`", cell)
    }
    assert named == set(keys(Scenario))
    assert all(f"`{key}`" in tables for key in keys(Audience))
