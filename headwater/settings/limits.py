"""Limits of a node that serves HTTP: what one client may cost it, and how much it takes on in all."""

from __future__ import annotations

import ipaddress
from typing import Final

from pydantic import Field

from headwater.settings.model import Settings, quantity
from headwater.settings.units import DurationS, Network, SizeBytes

# Below these a node would refuse what every player sends, or whatever is not in its store as soon as one client takes a moment.
LEAST_HEADER_BYTES: Final = 1024
LEAST_IN_FLIGHT_BYTES: Final = 1024 * 1024


class Limits(Settings):
    """Each limit that is met is counted in `headwater_limits_reached_total` under its name there."""

    request_line: SizeBytes = quantity(
        "8 KiB", description="A longer request line (the URL) is refused: 414 `url_too_long`.", ge=LEAST_HEADER_BYTES
    )
    header_field: SizeBytes = quantity(
        "8 KiB", description="A longer header field is refused: 431 `header_field_too_long`.", ge=LEAST_HEADER_BYTES
    )
    header_fields: int = Field(100, description="More header fields are refused: 431 `header_fields_too_many`.", ge=1)
    header: SizeBytes = quantity(
        "32 KiB",
        description="A longer header, all fields together, is refused: 431 `header_too_long`.",
        ge=LEAST_HEADER_BYTES,
    )
    header_timeout: DurationS = quantity(
        "10 s",
        description="A header that is not whole after this long is refused: 408 `header_too_slow`. TLS handshakes too.",
        gt=0,
    )
    body_timeout: DurationS = quantity(
        "10 s", description="A request body that gains less than `least_progress` in this long: 408 `body_too_slow`.", gt=0
    )
    reader_timeout: DurationS = quantity(
        "30 s", description="A client that takes less than `least_progress` of its answer in this long is cut off.", gt=0
    )
    least_progress: SizeBytes = quantity("4 KiB", description="What a slow body or reader must move in its time.")
    idle_timeout: DurationS = quantity("75 s", description="A connection without a request is closed after this long.", gt=0)
    connections: int = Field(
        10_000,
        description="Connections in all. Those beyond get hits from the store only, everything else is 503 `connections`; "
        "an eighth beyond, new ones are refused at once.",
        ge=1,
    )
    client_connections: int = Field(
        256, description="Connections of one client (IPv4 address or IPv6 /64); more are refused with 503. 0: no limit.", ge=0
    )
    client_rate: float = Field(
        500, description="Requests per second of one client in the long run; more are refused with 429. 0: no limit.", ge=0
    )
    client_burst: int = Field(1000, description="Requests that a client may send at once, above its rate.", ge=1)
    clients_remembered: int = Field(
        100_000, description="Clients whose rate is remembered; those not seen for longest are forgotten first.", ge=1
    )
    exempt: list[Network] = Field(
        [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")],
        description="Networks without limits per client: own probes and tiers.",
    )
    bytes_in_flight: SizeBytes = quantity(
        "2 GiB",
        description="Bytes that wait to be sent to slow clients. Beyond, hits are served and everything else is 503.",
        ge=LEAST_IN_FLIGHT_BYTES,
    )
    retry_after: DurationS = quantity("2 s", description="What refused clients are told to wait (Retry-After).", ge=1)
