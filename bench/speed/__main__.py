"""`make bench`: starts everything, measures, prints ratios, writes docs/benchmarks.md and its plot."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.speed import coldpath, followers, report, scaling
from bench.speed.load import Case, Measured, measure
from bench.speed.peers import floor, floor_aiohttp, floor_c, h2o, haproxy, headwater, nginx, trafficserver, varnish
from bench.speed.servers import LOAD_CORE, Server, Site, fetch, free_port, program, running, wait_until_serving
from bench.speed.upstream import body_of

ROOT = Path(__file__).resolve().parents[2]
NAMES = {name: f"/videos/abcdefghijA/h264/{name}" for name in ("10k", "256k", "1024k", "4096k")}
PEERS = (nginx, varnish, trafficserver, haproxy, h2o, floor_c, floor, floor_aiohttp)


def cases(quick: bool) -> list[Case]:
    small = ["10k", "1024k"] if quick else list(NAMES)
    return [
        *(Case(name, 64, tls=False) for name in NAMES),
        *(Case(name, 64, tls=True) for name in small),
        *(Case(name, 1000, tls=tls) for tls in (False, True) for name in small if not (quick and tls)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.speed")
    parser.add_argument("--quick", action="store_true", help="about 3 minutes, for a first look")
    parser.add_argument("--seconds", type=int, help="whole ones, for each figure; 5 by default, 1 with --quick")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where benchmarks.md and pictures/ are")
    arguments = parser.parse_args()
    for needed in ("wrk", "taskset", "setpriv", "openssl"):
        if program(needed) is None:
            print(f"{needed} is missing: run bench/install-peers", file=sys.stderr)
            return 2
    busy = os.getloadavg()[0]
    seconds = float(arguments.seconds or (1 if arguments.quick else 5))
    with tempfile.TemporaryDirectory(prefix="headwater-bench-") as folder, _site(Path(folder)) as site:
        lab = headwater.lab(site)
        print("cold path …", flush=True)
        cold = coldpath.measure(lab, site, 300 if arguments.quick else 2000)
        print("two workers …", flush=True)
        scaled = scaling.measure(lab, site, NAMES, 1.0 if arguments.quick else 3.0)
        print("a thousand followers …", flush=True)
        woken = followers.measure(lab, site)
        results, servers, missing = _hits(site, lab, cases(arguments.quick), seconds)
    text = report.section(results, servers, missing, report.Besides(cold, scaled, woken), seconds, busy)
    report.put_into(arguments.docs / "benchmarks.md", text)
    (arguments.docs / "pictures").mkdir(exist_ok=True)
    (arguments.docs / "pictures" / "bench-speed.svg").write_text(report.plot(results))
    print(text)
    return 0


def _hits(
    site: Site, lab: headwater.Lab, wanted: list[Case], seconds: float
) -> tuple[dict[Case, dict[str, Measured]], list[Server], list[str]]:
    """All servers stand side by side, idle but for the one that is asked, so that each case is one short stretch of time."""
    servers: list[Server] = []
    missing: list[str] = []
    with ExitStack() as started:
        ours = (headwater.LANED, headwater.ORDINARY)
        servers.extend(started.enter_context(headwater.edge(lab, name, site.folder / name, NAMES)) for name in ours)
        for peer in PEERS:
            own = site.folder / peer.NAME.replace(" ", "-").lower()
            own.mkdir()
            try:
                server = started.enter_context(peer.server(Site(site.upstream, own, site.pem), NAMES))
            except TimeoutError:
                missing.append(f"{peer.NAME}: did not start ({(own / 'output.log').read_text()[-200:].strip()!r})")
                continue
            if server is None:
                missing.append(f"{peer.NAME}: not installed (`bench/install-peers`)")
            else:
                servers.append(server)
        for server in servers:
            _warm(server)
        results: dict[Case, dict[str, Measured]] = {}
        for case in wanted:
            results[case] = {}
            for server in servers:
                if case.tls and server.tls is None:
                    continue
                one = results[case][server.name] = measure(server, case, seconds)
                print(
                    f"{report.title_of(case):42} {server.name:32} {one.requests_per_s:10,.0f}/s  {one.errors or ''}", flush=True
                )
            for name in report.OURS:
                got = report.ratio(results[case], name)
                if got is not None:
                    print(f"{'':42} {name:32} {got[0]:.2f} x {got[1]}", flush=True)
    return results, servers, missing


def _warm(server: Server) -> None:
    """Each object twice: the second answer is a hit. Whoever gives other bytes than the site is not compared."""
    for name, target in server.targets.items():
        for tls in (False, *((True,) if server.tls else ())):
            for _ in range(3):
                status, body = fetch(server.tls if tls and server.tls else server.plain, target, tls=tls)
                if status != 200 or body != body_of(NAMES[name]):
                    raise RuntimeError(f"{server.name} answered {status} and {len(body)} bytes for {name}")


@contextmanager
def _site(folder: Path) -> Iterator[Site]:
    """The site behind the caches, on the load's core, and a certificate for all of them."""
    pem, port = folder / "server.pem", free_port()
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=bench.test", "-addext", "subjectAltName=DNS:bench.test"]
    subprocess.run([*make, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    pem.write_bytes(certificate.read_bytes() + key.read_bytes())
    folder.chmod(0o755)
    command = [sys.executable, "-m", "bench.speed.upstream", str(port)]
    with running(command, folder, core=LOAD_CORE, PYTHONPATH=str(ROOT)):
        wait_until_serving(("127.0.0.1", port))
        yield Site(port, folder, pem)


if __name__ == "__main__":
    sys.exit(main())
