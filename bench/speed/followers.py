"""A thousand followers of one slow fill, from another process: how long after the site sent it the last one has a byte."""

from __future__ import annotations

import resource
import selectors
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from bench.speed.peers.headwater import LANED, Lab, node
from bench.speed.servers import Site, fetch

FOLLOWERS = 1000
ROUNDS = 5
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Woken:
    """Milliseconds from the site's sending to the first byte at the median follower and at the last; medians of the rounds."""

    median_ms: float
    last_ms: float


def measure(lab: Lab, site: Site) -> Woken:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as nodes:
        nodes.enter_context(node(lab, LANED, site.folder / "followed-edge"))
        rounds = [_round(lab.plain[LANED], site, number) for number in range(-1, ROUNDS)][1:]
    return Woken(statistics.median(one for one, _ in rounds), statistics.median(last for _, last in rounds))


def _round(edge: tuple[str, int], site: Site, number: int) -> tuple[float, float]:
    """(median, last) of one round, in which everybody has the header and waits for the body's first half."""
    request = f"GET /held/{number} HTTP/1.1\r\nHost: one.cold.test\r\n\r\n".encode()
    with _connections(edge) as (connections, waiting):
        for connection in connections:
            connection.sendall(request)
        heads = dict.fromkeys(connections, b"")
        while not all(head.endswith(b"\r\n\r\n") for head in heads.values()):
            for ready in _ready(waiting):
                heads[ready] += ready.recv(65536)
        sent_at = float(fetch(("127.0.0.1", site.upstream), f"/release/{number}")[1])
        came_at: dict[socket.socket, float] = {}
        while len(came_at) < FOLLOWERS:
            for ready in _ready(waiting):
                ready.recv(65536)
                came_at.setdefault(ready, time.monotonic())
    late_ms = sorted((at - sent_at) * 1000 for at in came_at.values())
    return late_ms[FOLLOWERS // 2], late_ms[-1]


@contextmanager
def _connections(address: tuple[str, int]) -> Iterator[tuple[list[socket.socket], selectors.BaseSelector]]:
    connections = [socket.create_connection(address) for _ in range(FOLLOWERS)]
    waiting = selectors.DefaultSelector()
    try:
        for connection in connections:
            waiting.register(connection, selectors.EVENT_READ)
        yield connections, waiting
    finally:
        waiting.close()
        for connection in connections:
            connection.close()


def _ready(waiting: selectors.BaseSelector) -> list[socket.socket]:
    ready = [key.fileobj for key, _ in waiting.select(_TIMEOUT_S)]
    if not ready:
        raise TimeoutError(f"nothing came for {_TIMEOUT_S:g} s")
    return [one for one in ready if isinstance(one, socket.socket)]
