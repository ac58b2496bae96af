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
from bench.speed.servers import Site, cpu_us_of, fetch

FOLLOWERS = 1000
ROUNDS = 5
_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Woken:
    """Milliseconds from the site's sending to the first byte at the median follower and at the last; medians of the rounds.
    The `withheld` ones are of rounds in which nobody had even the header. `cpu_us` is what a follower cost the edge."""

    median_ms: float
    last_ms: float
    cpu_us: float
    withheld_last_ms: float
    withheld_cpu_us: float


def measure(lab: Lab, site: Site) -> Woken:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with ExitStack() as nodes:
        pid = nodes.enter_context(node(lab, LANED, site.folder / "followed-edge"))
        edge = lab.plain[LANED]
        held = [_round(edge, pid, site, f"held/{number}", header_first=True) for number in range(-1, ROUNDS)][1:]
        withheld = [_round(edge, pid, site, f"withheld/{number}", header_first=False) for number in range(ROUNDS)]
    medians, lasts, costs = (statistics.median(column) for column in zip(*held, strict=True))
    _, withheld_lasts, withheld_costs = (statistics.median(column) for column in zip(*withheld, strict=True))
    return Woken(medians, lasts, costs, withheld_lasts, withheld_costs)


def _round(edge: tuple[str, int], pid: int, site: Site, path: str, *, header_first: bool) -> tuple[float, float, float]:
    """(median ms, last ms, CPU us a follower) of one round, in which everybody waits for the body's first half."""
    request = f"GET /{path} HTTP/1.1\r\nHost: one.cold.test\r\n\r\n".encode()
    with _connections(edge) as (connections, waiting):
        for connection in connections:
            connection.sendall(request)
        heads = dict.fromkeys(connections, b"")
        if not header_first:
            _wait_until_idle(pid)
        while header_first and not all(head.endswith(b"\r\n\r\n") for head in heads.values()):
            for ready in _ready(waiting):
                heads[ready] += ready.recv(65536)
        before_us = cpu_us_of(pid)
        sent_at = float(fetch(("127.0.0.1", site.upstream), f"/release/{path.partition('/')[2]}")[1])
        came_at: dict[socket.socket, float] = {}
        while len(came_at) < FOLLOWERS:
            for ready in _ready(waiting):
                ready.recv(65536)
                came_at.setdefault(ready, time.monotonic())
        cost_us = cpu_us_of(pid) - before_us
    late_ms = sorted((at - sent_at) * 1000 for at in came_at.values())
    return late_ms[FOLLOWERS // 2], late_ms[-1], cost_us / FOLLOWERS


def _wait_until_idle(pid: int) -> None:
    """Returns when the edge has read all requests: it has nothing to do any more."""
    before_us = -1.0
    while (now_us := cpu_us_of(pid)) - before_us > 1000:
        before_us = now_us
        time.sleep(0.2)


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
