"""One measurement: wrk on the load's core against one server, and what the server's core spent on it."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass

from bench.speed.servers import LOAD_CORE, Server

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
_UNITS_BYTES = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked: the object's name, how many connections, over TLS or not."""

    name: str
    connections: int
    tls: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """`errors` are answers other than 200 and broken connections; with any of them the figures mean nothing. `load_busy` is the
    share of the time that the load's core was at work for it: near 1 a faster server could not have been seen to be faster."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_gb: float
    errors: int
    load_busy: float
    requests: int


def measure(server: Server, case: Case, seconds: float) -> Measured:
    """Runs wrk for `seconds` against a warm server."""
    url = server.url(case.name, tls=case.tls)
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{case.connections}", f"-d{seconds:g}s", "--timeout", "10s"]
    before, load_before = server.cpu_s(), _children_cpu_s()
    done = subprocess.run([*command, "--latency", url], capture_output=True, text=True, check=True, timeout=seconds + 60)
    return parsed(done.stdout, server.cpu_s() - before, (_children_cpu_s() - load_before) / seconds)


def _children_cpu_s() -> float:
    """Of children that have ended: the servers have not."""
    times = os.times()
    return times.children_user + times.children_system


def parsed(output: str, cpu_s: float, load_busy: float) -> Measured:
    """wrk's own report. Raises ValueError when it is none."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    read = re.search(r"(\d+) requests in [\d.]+\w+, ([\d.]+)([KMGT]?B) read", output)
    if rate is None or read is None:
        raise ValueError(f"wrk said: {output}")
    percentiles = {
        int(at): float(value) * _UNITS_MS[unit] for at, value, unit in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s|m)", output)
    }
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    errors = (int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0)
    gigabytes = float(read[2]) * _UNITS_BYTES[read[3]] / 1e9
    cost = cpu_s / gigabytes if gigabytes else 0.0
    return Measured(float(rate[1]), percentiles[50], percentiles[99], cost, errors, load_busy, int(read[1]))
