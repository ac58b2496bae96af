"""Large objects in slices and whole, in one run: how fast a cold one is read from end to end, and what a part of one costs.

python -m bench.slices [--quick]: rounds of cold reads through edges that differ in `cache.slices` only, before a site next door
and one that is 20 ms away; then 1 MiB out of the middle of a cold GiB. The result goes into docs/benchmarks.md.
"""

from __future__ import annotations

import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.slicesite import MIB, part_of
from bench.speed.peers.headwater import LANED, ORDINARY, ROOT, Lab, lab, node
from bench.speed.report import machine, put_into
from bench.speed.servers import LOAD_CORE, Site, fetch, free_port, running, wait_until_serving

HOST: Final = "one.cold.test"
PAGE: Final = ROOT / "docs" / "benchmarks.md"
CACHE: Final[dict[str, Any]] = {"disk": "6 GiB", "max_object": "4 GiB"}
PART_FIRST: Final = 700 * MIB + 12_345
GOAL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Read:
    """Body bytes per second, and CPU seconds per GB at the edge."""

    bytes_per_s: float
    cpu_s_per_gb: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Medians of the rounds by way of keeping; each ratio is that of one round to the whole object read in the same round."""

    reads: dict[str, Read]
    ratios: dict[str, float]


def read_cold(address: tuple[str, int], path: str, size: int) -> float:
    """Seconds for all of the body. Raises RuntimeError when it is not the object."""
    began = time.perf_counter()
    with socket.create_connection(address, 10) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        stream = connection.makefile("rb", buffering=MIB)
        status = stream.readline().split()[1]
        while stream.readline() != b"\r\n":
            pass
        got = 0
        for start in range(0, size, MIB):
            chunk = stream.read(min(MIB, size - start))
            got += len(chunk)
            if chunk != part_of(start, size - 1)[: len(chunk)]:
                raise RuntimeError(f"{path}: other bytes in MiB {start // MIB}")
        if status != b"200" or got != size or stream.read(1):
            raise RuntimeError(f"{path}: status {status!r}, {got} of {size} bytes")
    return time.perf_counter() - began


@contextmanager
def site_at(folder: Path, delay_ms: int) -> Iterator[tuple[Site, Path]]:
    folder.mkdir()
    port, pem = free_port(), folder / "server.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        [*make, "-subj", "/CN=bench.test", "-keyout", str(pem), "-out", str(folder / "own.pem")], check=True, capture_output=True
    )
    pem.write_bytes((folder / "own.pem").read_bytes() + pem.read_bytes())
    command = [sys.executable, "-m", "bench.slicesite", str(port), str(delay_ms)]
    with running(command, folder, core=LOAD_CORE, PYTHONPATH=str(ROOT)):
        wait_until_serving(("127.0.0.1", port))
        yield Site(port, folder, pem), folder


def compare(delay_ms: int, rounds: int, size: int) -> Compared:
    """Whole, in slices one after another, and in slices fetched ahead, in turn."""
    seconds: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as made, site_at(Path(made) / "site", delay_ms) as (site, folder), ExitStack() as nodes:
        sliced, whole = {**CACHE, "slices": {"ahead": 0}}, {**CACHE, "slices": None}
        ways: list[tuple[str, Lab, str, int]] = []
        for title, name, caches in (
            ("whole", ORDINARY, {ORDINARY: whole}),
            ("in slices, one after another", LANED, {LANED: sliced}),
            ("in slices, fetched ahead", LANED, {LANED: CACHE}),
        ):
            own = folder / title.replace(" ", "-").replace(",", "")
            own.mkdir()
            one = lab(Site(site.upstream, own, site.pem), caches)
            ways.append((title, one, name, nodes.enter_context(node(one, name, own / "edge"))))
        for number in range(-1, rounds):  # the first opens connections and files
            turn = number % len(ways)
            for title, one, name, pid in (*ways[turn:], *ways[:turn]):
                before = _cpu_s(pid)
                taken_s = read_cold(one.plain[name], f"/{number}/{size // MIB}m-{number}", size)
                if number >= 0:
                    seconds.setdefault(title, []).append(taken_s)
                    cpu[title] = cpu.get(title, 0.0) + _cpu_s(pid) - before
                    print(f"{delay_ms:3} ms away  {title:30} {size / taken_s / 1e6:8,.0f} MB/s", flush=True)
    reads = {title: Read(size / statistics.median(taken), cpu[title] / (rounds * size / 1e9)) for title, taken in seconds.items()}
    ratios = {
        title: statistics.median(w / t for w, t in zip(seconds["whole"], taken, strict=True)) for title, taken in seconds.items()
    }
    return Compared(reads, ratios)


def part_cost() -> int:
    """Bytes that the site sends for 1 MiB out of the middle of a cold GiB."""
    with tempfile.TemporaryDirectory() as made, site_at(Path(made) / "site", 0) as (site, folder):
        one = lab(site, {LANED: CACHE})
        with node(one, LANED, folder / "edge"):
            before = _sent(site)
            address = one.plain[LANED]
            asked = f"bytes={PART_FIRST}-{PART_FIRST + MIB - 1}"
            status, body = fetch(address, "/part/1024m-0", host=HOST, asked=asked)
            expected = bytes(part_of(PART_FIRST, PART_FIRST + MIB - 1))
            if status != 206 or hashlib.sha256(body).digest() != hashlib.sha256(expected).digest():
                raise RuntimeError(f"status {status}, {len(body)} bytes, not those asked for")
            time.sleep(0.5)  # what is still on its way counts too
            return _sent(site) - before


def _sent(site: Site) -> int:
    return int(fetch(("127.0.0.1", site.upstream), "/sent")[1])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def section(found: dict[int, Compared], cost: int, rounds: int, size: int) -> str:
    lines = [
        "## Large objects in slices",
        "",
        f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC by `python -m bench.slices`, {machine()}.",
        f"Load average when it ended: {os.getloadavg()[0]:.1f}. {rounds} rounds, in turn, of a cold read of",
        f"{size // MIB} MiB from end to end over one connection. Medians;",
        "a ratio is that of each round, to the same object kept whole.",
        "",
        "| the site is | kept | MB/s | to whole | CPU s per GB at the edge |",
        "|---|---|---:|---:|---:|",
    ]
    for delay_ms, compared in found.items():
        where = f"{delay_ms} ms away" if delay_ms else "next door"
        for title, read in compared.reads.items():
            ratio = "" if title == "whole" else f"**{compared.ratios[title]:.2f}**"
            lines.append(f"| {where} | {title} | {read.bytes_per_s / 1e6:,.0f} | {ratio} | {read.cpu_s_per_gb:.2f} |")
            where = ""
    worst = min(compared.ratios["in slices, fetched ahead"] for compared in found.values())
    lines += [
        "",
        f"Goal: at least {GOAL} of the speed of a whole object. {'Held' if worst >= GOAL else 'Not held'}: {worst:.2f}.",
        "",
        f"1 MiB out of the middle of a cold object of 1 GiB made the site send {cost / MIB:.2f} MiB (slices of 4 MiB).",
    ]
    return "\n".join(lines)


def main(*, quick: bool) -> None:
    rounds, size = (5, 128 * MIB) if quick else (15, 128 * MIB)
    found = {delay_ms: compare(delay_ms, rounds, size) for delay_ms in (0, 20)}
    text = section(found, part_cost(), rounds, size)
    put_into(PAGE, f"<!-- slices -->\n{text}\n<!-- /slices -->\n", "slices")
    print(text)


if __name__ == "__main__":
    main(quick="--quick" in sys.argv)
