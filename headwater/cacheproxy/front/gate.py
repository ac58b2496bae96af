"""One node's limits at work: who may connect, who may ask, and who is too slow; every limit met has its name.

`Gate` decides and counts; `GuardedConnection` (connection.py) reports to it. A sweep a few times a second looks at all
connections, so that a request costs no timer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from enum import StrEnum
from typing import Protocol

from aiohttp import web

from headwater.cacheproxy.metrics import BYTES_IN_FLIGHT, CONNECTIONS, LIMITS_REACHED
from headwater.cacheproxy.roles import ClientAddress, Refused
from headwater.rules.tokenbucket import TokenBuckets, client_key
from headwater.settings.limits import Limits

_SWEEPS_A_TIMEOUT = 4  # a timeout is met at most a quarter late
_SWEEP_S = (0.05, 1.0)


class Limit(StrEnum):
    """The names of limits in bodies, logs and metrics."""

    CONNECTIONS = "connections"
    CLIENT_CONNECTIONS = "client_connections"
    CLIENT_RATE = "client_rate"
    BYTES_IN_FLIGHT = "bytes_in_flight"
    URL = "url_too_long"
    HEADER_FIELD = "header_field_too_long"
    HEADER_FIELDS = "header_fields_too_many"
    HEADER = "header_too_long"
    HEADER_SLOW = "header_too_slow"
    BODY_SLOW = "body_too_slow"
    READER_SLOW = "reader_too_slow"
    IDLE = "idle"


class Watched(Protocol):
    """A connection as the gate sees it."""

    client: ClientAddress

    def check(self, now_s: float) -> int:
        """Ends the connection when it is too slow. Returns the bytes that wait to be sent on it."""

    def leave_if_idle(self) -> None:
        """Ends the connection when no request of it is under way."""


class Gate:
    """`now_s` is the loop's time at the last sweep: exact enough for connections, and free to read."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.now_s = 0.0
        self.bytes_in_flight = 0
        self.leaving = False  # the node drains: each answer is its connection's last
        self.emptied = asyncio.Event()  # while it drains: all connections have ended
        self._open: set[Watched] = set()
        self._of_client: dict[int, int] = {}
        self._exempt = tuple(limits.exempt)
        self._rates = (
            TokenBuckets(limits.client_rate, limits.client_burst, limits.clients_remembered) if limits.client_rate else None
        )
        self._logged_at: dict[str, float] = {}
        self._refused_at = limits.connections + max(1, limits.connections // 8)

    @property
    def connections(self) -> int:
        return len(self._open)

    def enter(self, connection: Watched) -> Limit | None:
        """Counts a new connection in. Returns the limit that keeps it out; it is counted until `leave` all the same."""
        self._open.add(connection)
        CONNECTIONS.set(len(self._open))
        key = client_key(connection.client)
        count = self._of_client[key] = self._of_client.get(key, 0) + 1
        if len(self._open) > self._refused_at:
            return reached(Limit.CONNECTIONS)
        allowed = self.limits.client_connections
        if allowed and count > allowed and not self._is_exempt(connection.client):
            return reached(Limit.CLIENT_CONNECTIONS)
        return None

    def leave(self, connection: Watched) -> None:
        if connection not in self._open:
            return
        self._open.remove(connection)
        CONNECTIONS.set(len(self._open))
        key = client_key(connection.client)
        self._of_client[key] -= 1
        if not self._of_client[key]:
            del self._of_client[key]
        if self.leaving and not self._open:
            self.emptied.set()

    def send_idle_away(self) -> None:
        """The node ends."""
        for connection in tuple(self._open):
            connection.leave_if_idle()

    @property
    def full(self) -> bool:
        """Whether even a refusal would cost too much: connections are then dropped without a word."""
        return len(self._open) > self._refused_at + max(16, self.limits.connections // 8)

    def admit(self, request: web.BaseRequest, client: ClientAddress) -> None:
        """Lets a request pass, or raises Refused: the header's size, then the client's rate."""
        size = sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
        if size > self.limits.header:
            reached(Limit.HEADER)
            raise Refused(431, Limit.HEADER, f"the header has more than {self.limits.header} bytes")
        wait_s = self.rate_wait_s(client)
        if wait_s:
            reached(Limit.CLIENT_RATE)
            detail = f"more than {self.limits.client_rate:g} requests a second of one client"
            raise Refused(429, Limit.CLIENT_RATE, detail, headers={"Retry-After": str(math.ceil(wait_s))})

    def is_rated(self, client: ClientAddress) -> bool:
        """Whether a client's requests are counted against a rate at all."""
        return self._rates is not None and not self._is_exempt(client)

    def rate_wait_s(self, client: ClientAddress) -> float:
        """Takes one request from the client's rate: 0, or the seconds it should have waited."""
        if self._rates is None or self._is_exempt(client):
            return 0.0
        return self._rates.take(client_key(client), asyncio.get_running_loop().time())

    def overloaded(self) -> Limit | None:
        """Why the node takes on nothing new for now: then only what is in the store is served."""
        if len(self._open) > self.limits.connections:
            return Limit.CONNECTIONS
        if self.bytes_in_flight > self.limits.bytes_in_flight:
            return Limit.BYTES_IN_FLIGHT
        return None

    def spare(self) -> None:
        """Raises Refused while the node is overloaded."""
        limit = self.overloaded()
        if limit is not None:
            reached(limit)
            wait = str(math.ceil(self.limits.retry_after))
            raise Refused(
                503, limit, "the node is overloaded and serves only what it has; try again", headers={"Retry-After": wait}
            )

    def worth_logging(self, reason: str) -> bool:
        """One line a second and reason: whoever is refused must not be able to fill the disk. The metric counts all."""
        if self.now_s - self._logged_at.get(reason, -1.0) < 1.0:
            return False
        self._logged_at[reason] = self.now_s
        return True

    async def watch(self) -> None:
        """Sweeps over the connections until cancelled."""
        loop = asyncio.get_running_loop()
        shortest_s = min(
            self.limits.header_timeout, self.limits.body_timeout, self.limits.reader_timeout, self.limits.idle_timeout
        )
        pause_s = min(max(shortest_s / _SWEEPS_A_TIMEOUT, _SWEEP_S[0]), _SWEEP_S[1])
        while True:
            self.now_s = loop.time()
            self.bytes_in_flight = sum(connection.check(self.now_s) for connection in tuple(self._open))
            BYTES_IN_FLIGHT.set(self.bytes_in_flight)
            await asyncio.sleep(pause_s)

    def _is_exempt(self, client: ClientAddress) -> bool:
        if isinstance(client, ipaddress.IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        return any(client in network for network in self._exempt)


def reached(limit: Limit) -> Limit:
    """Counts a limit that was met."""
    LIMITS_REACHED.labels(limit.value).inc()
    return limit
