"""The base of every settings class: closed (unknown keys are errors), immutable, each field documented where it is declared."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, arbitrary_types_allowed=True)


def quantity(default: str, **constraints: Any) -> Any:
    """A field whose default is written as in the file, with its unit; pydantic turns it into the number."""
    return Field(default, **constraints)
