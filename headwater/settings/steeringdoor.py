"""Settings of the steering node's HTTP door: redirects, Content Steering, DNS over HTTPS."""

from __future__ import annotations

from pydantic import Field

from headwater.settings.listening import Tls
from headwater.settings.model import Settings
from headwater.settings.units import ListenAddress, Network


class SteeringDoor(Settings):
    """Where the steering node answers over HTTP."""

    listen: ListenAddress = Field(description="Where the door serves plain HTTP.")
    tls: Tls | None = Field(None, description="TLS beside `listen`; none by default.")
    public_url: str | None = Field(
        None,
        description="The door as viewers reach it, such as `https://steer.cdn.example.net`. Players then fetch their steering "
        "manifests here from the second one on, and so learn of moves when the edge they were at is gone.",
        pattern=r"^https?://[^/]+$",
    )
    trusted: list[Network] = Field(
        [], description="Networks of proxies in front, whose X-Forwarded-For says who the viewer is; of others it is not read."
    )
