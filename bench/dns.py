"""`make bench-dns`: our DNS server beside gdnsd and PowerDNS (geoip backend), asked by dnsperf in one run.

One core for the server, one for dnsperf; the table goes into docs/benchmarks.md. Every server answers two addresses for each of
the 4096 logical hosts. Ours steers them by the lab's config with its usual metrics, rate limits and cookies; gdnsd has them as
static records, its fastest kind.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.query

from bench import dnsfloor
from bench.speed.report import machine, put_into
from bench.speed.servers import LOAD_CORE, Server, free_port, program, running

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "benchmarks.md"
HOSTS: Final = [f"v{bucket:03x}.cdn.test" for bucket in range(4096)]
QUESTIONS: Final = 50_000
CALM_RATE: Final = 20_000  # questions a second while latency is measured
GOALS: Final = {"gdnsd": 1.0, "PowerDNS": 2.0}
OURS: Final = "Headwater"
FLOOR: Final = "Floor"


@dataclass(frozen=True, slots=True)
class Case:
    """How the names are asked. `dnsperf` has further arguments for it."""

    title: str
    random_case: bool
    dnsperf: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """`p99_ms` at CALM_RATE questions a second; `per_cpu_s` is answers per second of the server's processor time."""

    per_s: float
    per_cpu_s: float
    p99_ms: float
    lost: int


CASES: Final = (
    Case("A, names in lower case", random_case=False),
    Case("A, names in a random case (0x20)", random_case=True),
    Case("A with EDNS, random case", random_case=True, dnsperf=("-e",)),
    # As resolvers ask, which draw a port for each query: no two replies of a batch go to one socket.
    Case("A, one query a socket", random_case=True, dnsperf=("-c", "200")),
)


@contextmanager
def ours(folder: Path) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "bench.dns", "--serve", str(port)]
    with running(command, folder, PYTHONPATH=str(ROOT)) as pid:
        yield Server(OURS, "steering by the lab's config, metrics, rate limits, cookies", pid, ("127.0.0.1", port), None, {})


@contextmanager
def floor(folder: Path) -> Iterator[Server]:
    port = free_port()
    with running([sys.executable, "-m", "bench.dns", "--floor", str(port)], folder, PYTHONPATH=str(ROOT)) as pid:
        yield Server(FLOOR, "Python that sends queries back unread, in our batches", pid, ("127.0.0.1", port), None, {})


@contextmanager
def gdnsd(folder: Path) -> Iterator[Server]:
    port = free_port()
    (folder / "zones").mkdir()
    hosts = "".join(f"{host.partition('.')[0]} 20 A 127.0.1.1\n{host.partition('.')[0]} 20 A 127.0.2.1\n" for host in HOSTS)
    (folder / "zones" / "cdn.test").write_text(
        f"@ 20 SOA ns1 hostmaster 1 3600 600 604800 20\n@ 3600 NS ns1\nns1 A 127.0.0.1\n{hosts}"
    )
    (folder / "config").write_text(
        f'options => {{ listen => ["127.0.0.1:{port}"], udp_threads => 1, tcp_threads => 1, '
        f'run_dir => "{folder}/run", state_dir => "{folder}/state" }}\n'
    )
    with running([str(program("gdnsd")), "-c", str(folder), "start"], folder) as pid:
        yield Server("gdnsd", "static records, one UDP thread", pid, ("127.0.0.1", port), None, {})


@contextmanager
def powerdns(folder: Path) -> Iterator[Server]:
    port = free_port()
    hosts = "".join(f"    {host}:\n      - a: 127.0.1.1\n      - a: 127.0.2.1\n" for host in HOSTS)
    (folder / "zones.yaml").write_text(
        "domains:\n- domain: cdn.test\n  ttl: 20\n  records:\n    cdn.test:\n"
        f"      - soa: ns1.cdn.test hostmaster.cdn.test 1 3600 600 604800 20\n      - ns: ns1.cdn.test\n{hosts}"
    )
    options = {
        "launch": "geoip", "geoip-zones-file": folder / "zones.yaml", "local-address": "127.0.0.1", "local-port": port,
        "socket-dir": folder, "receiver-threads": 1, "distributor-threads": 1, "daemon": "no", "guardian": "no",
        "config-dir": folder, "security-poll-suffix": "", "setuid": "", "setgid": "", "loglevel": 3,
    }  # fmt: skip
    with running([str(program("pdns_server")), *(f"--{name}={value}" for name, value in options.items())], folder) as pid:
        yield Server("PowerDNS", "geoip backend, packet cache on, one receiver thread", pid, ("127.0.0.1", port), None, {})


PEERS: Final[dict[str, tuple[str, Callable[[Path], AbstractContextManager[Server]]]]] = {
    OURS: ("dnsperf", ours),
    "gdnsd": ("gdnsd", gdnsd),
    "PowerDNS": ("pdns_server", powerdns),
    FLOOR: ("dnsperf", floor),
}


def measure(server: Server, case: Case, seconds: float, folder: Path) -> Measured:
    """One stretch as fast as dnsperf can, one at a steady rate whose latencies are all read."""
    questions = _questions(case, folder)
    warm = _dnsperf(server, questions, case, "-n", "1")
    if "Queries lost:         0" not in warm and "Queries sent" not in warm:
        raise RuntimeError(f"dnsperf said: {warm}")
    before = server.cpu_s()
    fast = _dnsperf(server, questions, case, "-l", f"{seconds:g}")
    used_s = server.cpu_s() - before
    completed = int(_figure(r"Queries completed:\s+(\d+)", fast))
    calm = _dnsperf(server, questions, case, "-l", f"{seconds:g}", "-Q", str(CALM_RATE), "-v")
    latencies = sorted(float(line.rpartition(" ")[2]) for line in calm.splitlines() if line.startswith("> NOERROR"))
    p99_ms = latencies[int(len(latencies) * 0.99)] * 1000 if latencies else float("nan")
    return Measured(
        float(_figure(r"Queries per second:\s+([\d.]+)", fast)),
        completed / used_s,
        p99_ms,
        int(_figure(r"Queries lost:\s+(\d+)", fast)),
    )


def _figure(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"dnsperf said: {text[-500:]}")
    return found[1]


def _dnsperf(server: Server, questions: Path, case: Case, *arguments: str) -> str:
    host, port = server.plain
    command = [
        "taskset",
        "-c",
        str(LOAD_CORE),
        "dnsperf",
        "-s",
        host,
        "-p",
        str(port),
        "-d",
        str(questions),
        "-c",
        "8",
        "-q",
        "200",
    ]
    return subprocess.run([*command, *case.dnsperf, *arguments], capture_output=True, text=True, check=True, timeout=120).stdout


def _questions(case: Case, folder: Path) -> Path:
    file = folder / f"questions-{case.random_case}.txt"
    if not file.exists():
        chance = random.Random(1)
        names = [chance.choice(HOSTS) for _ in range(QUESTIONS)]
        if case.random_case:
            names = ["".join(chance.choice((letter, letter.upper())) for letter in name) for name in names]
        file.write_text("".join(f"{name} A\n" for name in names))
    return file


def _wait_until_answering(server: Server) -> None:
    """And answering rightly: two addresses. Raises TimeoutError."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            reply = dns.query.udp(dns.message.make_query(HOSTS[0], "A"), server.plain[0], 0.5, server.plain[1])
        except (OSError, dns.exception.Timeout):
            time.sleep(0.1)
            continue
        if server.name == FLOOR:
            return
        if reply.answer and sorted(record.to_text() for record in reply.answer[0]) == ["127.0.1.1", "127.0.2.1"]:
            return
        raise RuntimeError(f"{server.name} answered {reply}")
    raise TimeoutError(f"{server.name} does not answer")


def section(
    results: dict[Case, dict[str, Measured]], servers: list[Server], missing: list[str], seconds: float, busy: float
) -> str:
    """The Markdown of the table."""
    lines = [
        "## DNS beside gdnsd and PowerDNS",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `make bench-dns`, each figure over {seconds:g} s; {machine()}.",
        "One core for the server, one for dnsperf (8 clients, 200 outstanding; in the last case 200 clients with one each). "
        f"Load average when it began: {busy:.1f}"
        + (" (**other work shared the cores: only the ratios of this run mean something**)." if busy > 1 else "."),
        f"p99 is that at {CALM_RATE:,} questions a second. Answers per CPU second are those of the fast stretch over what it "
        "cost the server.",
        "",
        *(f"- {server.name}: {server.note}" for server in servers),
        *(f"- {why}" for why in missing),
        "",
        "| | server | answers/s | answers per CPU s | p99 ms | lost | ours to it, answers/s | ours to it, per CPU s |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for case, found in results.items():
        title = case.title
        for name, one in found.items():
            mine = found[OURS]
            ratios = "" if name == OURS else f"**{mine.per_s / one.per_s:.2f}** | {mine.per_cpu_s / one.per_cpu_s:.2f}"
            figures = f"{one.per_s:,.0f} | {one.per_cpu_s:,.0f} | {one.p99_ms:.2f} | {one.lost}"
            lines.append(f"| {title} | {name} | {figures} | {ratios or ' | '} |")
            title = ""
    lines += ["", "| goal (answers per CPU second) | wanted | reached |", "|---|---:|---:|"]
    for case, found in results.items():
        for name, wanted in GOALS.items():
            if name in found:
                got = found[OURS].per_cpu_s / found[name].per_cpu_s
                lines.append(f"| {case.title}, to {name} | {wanted:.1f} | {got:.2f} {'yes' if got >= wanted else '**no**'} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.dns")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each stretch")
    parser.add_argument("--serve", type=int, metavar="PORT", help="only our server, for the bench's own use")
    parser.add_argument("--floor", type=int, metavar="PORT", help="only the echo beside which ours is measured")
    arguments = parser.parse_args()
    if arguments.floor is not None:
        dnsfloor.serve(arguments.floor)
        return 0
    if arguments.serve is not None:
        serve(arguments.serve)
        return 0
    if program("dnsperf") is None:
        print("dnsperf is missing: run bench/install-peers", file=sys.stderr)
        return 2
    busy, missing, servers = os.getloadavg()[0], [], []
    results: dict[Case, dict[str, Measured]] = {}
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as name, ExitStack() as started:
        folder = Path(name)
        for peer, (needed, start) in PEERS.items():
            if program(needed) is None:
                missing.append(f"{peer}: not installed (`bench/install-peers`)")
                continue
            (folder / peer).mkdir()
            server = started.enter_context(start(folder / peer))
            _wait_until_answering(server)
            servers.append(server)
        for case in CASES:
            results[case] = {server.name: measure(server, case, arguments.seconds, folder) for server in servers}
            for peer, one in results[case].items():
                print(
                    f"{case.title:34} {peer:10} {one.per_s:10,.0f}/s {one.per_cpu_s:10,.0f}/CPU s  p99 {one.p99_ms:.2f} ms",
                    flush=True,
                )
    text = section(results, servers, missing, arguments.seconds, busy)
    put_into(PAGE, f"<!-- dns -->\n{text}\n<!-- /dns -->\n", "dns")
    print(text)
    return 0


def serve(port: int) -> None:
    """Our server as the DNS node runs it, for as long as the process lives."""
    import structlog
    import uvloop

    from dnssteer.responder import Responder
    from dnssteer.sockets import serve_dns
    from headwater.rules.addresses import Address
    from headwater.settings.load import load_deployment
    from headwater.settings.snapshot import Snapshot

    async def forever() -> None:
        snapshot = Snapshot(version=1, deployment=load_deployment(ROOT / "configs" / "lab.yaml"))
        async with serve_dns(Responder(snapshot, structlog.get_logger(), secrets=(os.urandom(16),)), Address("127.0.0.1", port)):
            await asyncio.Event().wait()

    uvloop.run(forever())


if __name__ == "__main__":
    sys.exit(main())
