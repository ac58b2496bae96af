"""Settings of the caching proxy: what a node keeps, and how it asks its parents."""

from __future__ import annotations

from pydantic import Field

from headwater.rules.slices import SlicePolicy
from headwater.settings.model import Settings, quantity
from headwater.settings.units import DurationS, RateBps, SizeBytes


class SliceSettings(Settings):
    """Large objects are kept in aligned slices: a part of one costs the slices that it touches, not the whole object."""

    above: SizeBytes = quantity(
        "64 MiB",
        description="Objects above this length are kept in slices where they have a strong ETag and their parent gives ranges. "
        "One of which a range is asked first is kept so from one slice on.",
    )
    size: SizeBytes = quantity(
        "4 MiB", description="Length of a slice. Those up to `spool_in_ram` are held in memory while they arrive.", ge=64 * 1024
    )
    ahead: int = Field(
        3, description="Slices fetched at the same time beyond the one that a client reads; 0: one after another.", ge=0, le=32
    )

    @property
    def policy(self) -> SlicePolicy:
        return SlicePolicy(self.above, self.size, self.ahead)


class PrefetchSettings(Settings):
    """The next segments of viewers, fetched by edges before the players ask for them (docs/operations.md)."""

    ahead: int = Field(1, description="Segments fetched beyond the one that a viewer asked for.", ge=1, le=8)
    bandwidth: RateBps = quantity("50 Mbit/s", description="Rate at which one edge fetches ahead, on average.", gt=0)
    at_once: int = Field(4, description="Segments fetched ahead at the same time by one worker.", ge=1, le=64)


class CacheSettings(Settings):
    """One node's store and its fills."""

    ram: SizeBytes = quantity(
        "256 MiB", description="Bytes of bodies kept in memory, those of running fills included; never exceeded."
    )
    disk: SizeBytes = quantity(
        "2 GiB",
        description="Bytes kept on disk, in blocks of 4 KiB, those of running fills included; never exceeded (docs/eviction.md).",
    )
    max_object: SizeBytes = quantity(
        "512 MiB", description="Larger objects pass through and are not stored, but for those kept in slices."
    )
    slices: SliceSettings | None = Field(
        default_factory=SliceSettings, description="How large objects are kept; `null` keeps every object whole."
    )
    prefetch: PrefetchSettings | None = Field(
        None, description="What an edge fetches ahead of its viewers; without it, nothing. Shields fetch nothing ahead."
    )
    spool_in_ram: SizeBytes = quantity(
        "8 MiB",
        description="A fill keeps this much in memory (at most a sixteenth of `ram`); a longer one is written to disk at once.",
    )
    connect_timeout: DurationS = quantity("2 s", description="Wait for a TCP connection to a parent.", gt=0)
    first_byte_timeout: DurationS = quantity("10 s", description="Wait for a parent's response header.", gt=0)
    stall_timeout: DurationS = quantity(
        "5 s",
        description="A fill that receives no byte for this long goes on at the next parent.",
        gt=0,
    )
    parent_connections: int = Field(64, description="Connections kept to each parent.", ge=1, le=4096)
    keep_filling_from: float = Field(
        0.5,
        description="A fill that no client follows any more goes on when at least this share of its bytes is in.",
        ge=0,
        le=1,
    )
    negative_ttl: DurationS = quantity(
        "1 s",
        description="How long a 404 or 410 without a lifetime of its own is remembered.",
        ge=0,
    )
    parent_down: DurationS = quantity(
        "3 s",
        description="A parent that refused or stalled is asked last for this long.",
        ge=0,
    )
    fast_lane: bool = Field(
        True,
        description="Plain requests for whole objects in memory are answered before the ordinary handler, with the same bytes.",
    )
    grants_remembered: int = Field(
        100_000, description="Verified grants remembered per worker; the least recently used go first.", ge=1
    )
