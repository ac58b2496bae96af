"""The cold path: how much later the first byte of a miss comes through one tier, and through two, than from the site itself."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.speed.peers.headwater import LANED, SHIELD, Lab, node
from bench.speed.servers import Site

OBJECT = "10k"


@dataclass(frozen=True, slots=True)
class Added:
    """Milliseconds until the first byte of a 10 KiB miss: at the site, through an edge, through edge and shield."""

    direct: tuple[float, float]
    one_tier: tuple[float, float]
    two_tiers: tuple[float, float]
    requests: int

    @property
    def per_tier_ms(self) -> tuple[float, float]:
        """What a tier adds at p50 and at p99, the worse of the first and the second."""
        first = tuple(one - none for one, none in zip(self.one_tier, self.direct, strict=True))
        second = tuple(two - one for two, one in zip(self.two_tiers, self.one_tier, strict=True))
        return max(first[0], second[0]), max(first[1], second[1])


def measure(lab: Lab, site: Site, requests: int) -> Added:
    """Asks for new objects, one after another, in turn by the three ways, on kept connections."""
    with ExitStack() as nodes:
        nodes.enter_context(node(lab, SHIELD, site.folder / "cold-shield"))
        nodes.enter_context(node(lab, LANED, site.folder / "cold-edge"))
        ways = [(("127.0.0.1", site.upstream), None), (lab.plain[LANED], "one.cold.test"), (lab.plain[LANED], "two.cold.test")]
        times: list[list[float]] = [[], [], []]
        connections = [nodes.enter_context(_connected(address)) for address, _ in ways]
        for number in range(-20, requests):  # the first few open the connections between the tiers
            for way, (_, host) in enumerate(ways):
                taken_ms = _first_byte_ms(connections[way], f"/cold/{OBJECT}-{number}", host)
                if number >= 0:
                    times[way].append(taken_ms)
    direct, one, two = ((statistics.median(some), statistics.quantiles(some, n=100)[98]) for some in times)
    return Added(direct, one, two, requests)


@contextmanager
def _connected(address: tuple[str, int]) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        yield connection
    finally:
        connection.close()


def _first_byte_ms(connection: http.client.HTTPConnection, path: str, host: str | None) -> float:
    started = time.perf_counter()
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    taken_s = time.perf_counter() - started
    if answer.status != 200:
        raise RuntimeError(f"{path} by {host or 'the site itself'}: {answer.status} {answer.read()!r}")
    answer.read()
    return taken_s * 1000
