"""Settings of a rollout: how a change of the config reaches the nodes, step by step."""

from __future__ import annotations

from pydantic import Field

from headwater.settings.model import Settings, quantity
from headwater.settings.units import DurationS, RateBps, SizeBytes


class Handoff(Settings):
    """What edges fetch of the buckets that they are about to gain, before viewers move."""

    size: SizeBytes = quantity("20 GiB", description="Bytes that one edge fetches at most; 0 B: none.", ge=0)
    bandwidth: RateBps = quantity("500 Mbit/s", description="Rate at which one edge fetches.", gt=0)
    concurrency: int = Field(8, description="Objects that one edge fetches at once.", ge=1, le=64)
    longest: DurationS = quantity("10 min", description="After this long viewers move, whatever is still missing.", ge=0)


class Staging(Settings):
    """A rollout's steps."""

    canary: str | None = Field(None, description="The edge that gets new settings first; by default the one with least weight.")
    settle: DurationS = quantity("10 s", description="How long every step is watched before the next.", ge=0)
    ramp: DurationS = quantity("5 min", description="Time over which weights move to their new values.", ge=0)
    ramp_steps: int = Field(5, description="Steps in which they do.", ge=1, le=100)
    patience: DurationS = quantity(
        "30 s", description="How long nodes may take to take a step over, and new ones to come up.", gt=0
    )
    max_errors: float = Field(
        0.02,
        description="Share of failed requests at a node that ends a rollout; twice the share before it is allowed in any case.",
        ge=0,
        le=1,
    )
    handoff: Handoff = Field(Handoff(), description="Fetching ahead of viewers who move.")
