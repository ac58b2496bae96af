"""Who is at the other end of a connection, by the certificate that they showed in its handshake."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from headwater.rules.nodeidentity import NodeIdentity, identity_of_peer


@dataclass(frozen=True, slots=True)
class Peer:
    """A certificate that our CA signed. `begins` and `expires` are Unix seconds."""

    identity: NodeIdentity
    begins: float
    expires: float

    def ages(self, now: float) -> bool:
        """Whether its owner should have a newer one by now."""
        return now >= self.begins + (self.expires - self.begins) * 2 / 3


def peer_of(request: web.BaseRequest) -> Peer | None:
    """None for a plain connection, and for a peer that showed no certificate of a node."""
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    identity = identity_of_peer(certificate)
    if identity is None or certificate is None:
        return None
    return Peer(
        identity,
        ssl.cert_time_to_seconds(certificate["notBefore"]),
        ssl.cert_time_to_seconds(certificate["notAfter"]),
    )


@web.middleware
async def closing(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """The outermost step of a site with certificates: a connection whose certificate grows old, or was refused, ends with its
    answer. Its owner may have a newer one by now, and shows that when it connects again."""
    answer = await handler(request)
    peer = peer_of(request)
    if peer is not None and not answer.prepared and (answer.status == 403 or peer.ages(time.time())):
        answer.force_close()
    return answer
