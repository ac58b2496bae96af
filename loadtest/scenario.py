"""A scenario: who watches what, how they arrive and behave, and the objectives that decide the exit status."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from headwater.rules.names import parse_video_id
from headwater.settings.load import parse_settings, read_text
from headwater.settings.model import Settings, quantity
from headwater.settings.units import DurationS, Network, RateBps


class Arrival(Settings):
    over: DurationS = quantity("0 s", description="Viewers arrive evenly over this time; 0: all at once.", ge=0, le=86400)


class Videos(Settings):
    """Which videos are watched."""

    ids: list[str] = Field([], description="Video ids, most popular first; empty: every ready video, newest first.")
    newest: int = Field(100, description="At most so many of the ready videos.", ge=1, le=10_000)
    zipf: float = Field(0, description="Popularity by rank r is 1/r^zipf; 0: all alike.", ge=0, le=4)

    @field_validator("ids")
    @classmethod
    def _are_ids(cls, ids: list[str]) -> list[str]:
        return [parse_video_id(video_id) for video_id in ids]


class Audience(Settings):
    """Viewers whose resolver sends this client subnet (RFC 7871)."""

    network: Network = Field(description="Client subnet, such as 192.0.2.0/24.")
    weight: float = Field(1, description="Share of the viewers, relative to the other audiences.", gt=0)


class Watch(Settings):
    least: DurationS = quantity("10 s", description="Shortest time played.", gt=0, le=86400)
    most: DurationS = quantity("10 s", description="Longest time played; each viewer draws between the two.", gt=0, le=86400)
    seek_probability: float = Field(0, description="Chance, for each segment played, of a jump to any segment.", ge=0, le=1)

    @model_validator(mode="after")
    def _least_before_most(self) -> Watch:
        if self.least > self.most:
            raise ValueError("`least` is longer than `most`; swap them")
        return self


class Player(Settings):
    """The simulated player."""

    buffer: DurationS = quantity("12 s", description="Fetches ahead up to this much.", gt=0, le=600)
    start_buffer: DurationS = quantity("2 s", description="Starts, and goes on after a stall, with this much.", gt=0, le=60)
    first_estimate: RateBps = quantity("3000 kbit/s", description="Throughput assumed before the first segment.", gt=0)
    request_timeout: DurationS = quantity("8 s", description="A request that takes longer has failed.", gt=0, le=120)
    attempts: int = Field(
        4, description="Tries of one request, each at the next address, before the viewer gives up.", ge=1, le=20
    )

    @model_validator(mode="after")
    def _can_start(self) -> Player:
        if self.start_buffer > self.buffer:
            raise ValueError("`start_buffer` is more than `buffer`: the player would never start")
        return self


class Objectives(Settings):
    """Each one given must hold; what could not be measured does not hold."""

    startup_p95: DurationS | None = Field(None, description="At most: from asking for the video to the first picture.")
    rebuffer_ratio: float | None = Field(None, description="At most: stalled time / (played + stalled time).", ge=0, le=1)
    failures: int | None = Field(None, description="At most: viewers that gave up, or were not done in time.", ge=0)
    retries: int | None = Field(None, description="At most: requests that failed and were tried again.", ge=0)
    hit_ratio_edge: float | None = Field(None, description="At least: edge hits / answers with a Cache-Status.", ge=0, le=1)
    origin_requests_per_object: float | None = Field(
        None, description="At most: requests to the byte server / different objects fetched. Needs --config.", ge=0
    )


class Scenario(Settings):
    name: str = Field(description="Name in reports.", pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    seed: int = Field(1, description="The same seed gives the same viewers.", ge=0)
    viewers: int = Field(description="Number of viewers.", ge=1, le=10_000)
    arrival: Arrival = Field(Arrival(), description="How they arrive.")
    videos: Videos = Field(Videos(), description="What they watch.")
    audiences: list[Audience] = Field(description="Where they are.", min_length=1)
    watch: Watch = Field(Watch(), description="How they watch.")
    player: Player = Field(Player(), description="Their player.")
    time_limit: DurationS = quantity("10 min", description="The run ends by then, whatever happens.", gt=0, le=86400)
    objectives: Objectives = Field(Objectives(), description="What must hold.")

    @model_validator(mode="after")
    def _fits_its_limit(self) -> Scenario:
        needed_s = self.arrival.over + self.watch.most
        if needed_s >= self.time_limit:
            raise ValueError(f"arrival and watching alone take {needed_s:g} s: raise `time_limit` or shorten them")
        return self


def load_scenario(file: Path) -> Scenario:
    """Raises headwater.settings.load.ConfigError with all problems, by line."""
    return parse_settings(Scenario, read_text(file), file, example="loadtest/scenarios/smoke.yaml")
