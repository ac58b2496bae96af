"""How nodes come to know control, and control them: enrolment with one-time tokens, then mutual TLS."""

from __future__ import annotations

from pydantic import Field

from headwater.settings.model import Settings, quantity
from headwater.settings.units import DurationS, ListenAddress


class Enrolment(Settings):
    """Where nodes enrol, and how long their certificates hold."""

    listen: ListenAddress = Field(
        description="Where nodes enrol, and then ask control over mutual TLS. `control.listen` is for operators alone then."
    )
    lifetime: DurationS = quantity(
        "30 d",
        description="Lifetime of a node's certificate. A node renews it by itself when half of it is over.",
        ge=4,
        le=34560000,
    )
