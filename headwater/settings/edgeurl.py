"""Where viewers reach one edge: the base URL that redirects and steering manifests name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headwater.settings.topology import Edge


@dataclass(frozen=True, slots=True)
class EdgeUrl:
    """Scheme, host and port, as before the grant. `host` has the brackets of an IPv6 address."""

    scheme: Literal["http", "https"]
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port; the scheme's own port is left out."""
        usual = {"http": 80, "https": 443}[self.scheme]
        return self.host if self.port == usual else f"{self.host}:{self.port}"


def edge_url(edge: Edge, *, secure: bool) -> EdgeUrl:
    """The edge under its own name, or its address. Over TLS when the viewer came so and the edge has it."""
    over_tls = edge.tls if secure else None
    address = over_tls.listen if over_tls is not None else edge.listen
    host = edge.host or (f"[{address.host}]" if ":" in address.host else address.host)
    return EdgeUrl("http" if over_tls is None else "https", host, address.port)
