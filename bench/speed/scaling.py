"""Two workers beside one: how much CPU a request costs each, so that it matters little who else uses the cores."""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.speed.load import parsed
from bench.speed.peers.headwater import SINGLE, TWIN, Lab, edge
from bench.speed.servers import BOTH_CORES, Server, Site, children, cpu_s_of, fetch

CONNECTIONS = 64
WARMING = 60  # connections: each worker is asked at least once


@dataclass(frozen=True, slots=True)
class Scaling:
    """CPU microseconds per request of one worker, and of two together; the share of the CPU that the lesser of the two had."""

    one_us: float
    two_us: float
    lesser_share: float

    @property
    def work(self) -> float:
        """How much two workers on two cores do, as a multiple of one on one."""
        return 2 * self.one_us / self.two_us


def measure(lab: Lab, site: Site, names: dict[str, str], seconds: float) -> Scaling:
    """Several rounds of each, in turn, with the load on the same two cores; the least of each counts."""
    with ExitStack() as started:
        one, two = (
            started.enter_context(edge(lab, name, site.folder / f"scaling-{name}", names, core=BOTH_CORES))
            for name in (SINGLE, TWIN)
        )
        for server in (one, two):
            _wait_for_answer(server)
            for _ in range(WARMING):
                if fetch(server.plain, server.targets["10k"])[0] != 200:
                    raise RuntimeError(f"{server.name} does not answer")
        rounds = [(_cost_us(one, seconds), _cost_us(two, seconds)) for _ in range(4)]
        used = sorted(cpu_s_of(pid) for pid in children(two.pid))[-2:]
    return Scaling(min(cost for cost, _ in rounds), min(cost for _, cost in rounds), used[0] / sum(used))


def _wait_for_answer(server: Server, timeout_s: float = 60.0) -> None:
    """The parent of workers listens before they serve: a first connection may wait for long."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            fetch(server.plain, server.targets["10k"])
            return
    raise TimeoutError(f"{server.name} did not answer within {timeout_s:g} s")


def _cost_us(server: Server, seconds: float) -> float:
    command = ["wrk", "-t2", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--latency", server.url("10k", tls=False)]
    before = server.cpu_s()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60, cwd=Path("/"))
    used_s = server.cpu_s() - before
    answered = parsed(done.stdout, used_s, 0.0)
    if answered.errors:
        raise RuntimeError(f"{answered.errors} errors: {done.stdout}")
    return used_s / answered.requests * 1e6
