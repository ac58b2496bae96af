"""Settings of the nightly window in which edges are filled with what is likely to be watched."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from headwater.rules.prepositioning import Window, parse_window
from headwater.settings.model import Settings, quantity
from headwater.settings.units import RateBps, SizeBytes

DailyWindow = Annotated[
    Window,
    BeforeValidator(lambda value: value if isinstance(value, Window) else parse_window(value)),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "window"}),
]


class Preposition(Settings):
    """What each region's edges fetch of its likely top videos, each night."""

    window: DailyWindow = Field(description="When, in UTC, such as `02:00-05:00`; it may go past midnight.")
    size: SizeBytes = quantity("10 GiB", description="Bytes that one edge fetches in a night at most.", gt=0)
    bandwidth: RateBps = quantity("100 Mbit/s", description="Rate at which one edge fetches.", gt=0)
    concurrency: int = Field(4, description="Objects that one edge fetches at once.", ge=1, le=64)
    top: int = Field(200, description="Videos of each region that are thought of.", ge=1, le=100_000)
