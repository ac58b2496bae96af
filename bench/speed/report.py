"""docs/benchmarks.md and its plot, from what was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.speed.coldpath import Added
from bench.speed.followers import Woken
from bench.speed.load import Case, Measured
from bench.speed.scaling import Scaling
from bench.speed.servers import Server

OURS = ("Headwater", "Headwater, aiohttp path alone")
FLOORS = ("Floor", "Floor, aiohttp")  # what bounds each of ours
ANY_FLOOR = "Floor, C"  # what bounds everybody
NO_PEERS = (*OURS, *FLOORS, ANY_FLOOR)
SCALING_GOAL = 1.6
GOALS = {("10k", False): 1.3, ("1024k", False): 1.5, ("10k", True): 1.0, ("1024k", True): 1.0}
ALONE_GOALS = {"10k": 0.5, "1024k": 1.5}
_BEGIN, _END = "<!-- speed -->", "<!-- /speed -->"
_COLOURS = ("#1f6feb", "#7aa7f0", "#8b949e", "#b08800", "#6e40c9", "#2da44e", "#cf222e", "#57606a", "#d0d7de", "#eaeef2")

Results = Mapping[Case, Mapping[str, Measured]]


@dataclass(frozen=True, slots=True)
class Besides:
    """What is measured of ours alone."""

    cold: Added
    scaled: Scaling
    woken: Woken


def title_of(case: Case) -> str:
    kib = int(case.name[:-1])
    size = f"{kib // 1024} MiB" if kib >= 1024 else f"{kib} KiB"
    return f"{size}, {'TLS 1.3' if case.tls else 'plaintext'}, {case.connections} connections"


def ratio(found: Mapping[str, Measured], name: str) -> tuple[float, str] | None:
    """(requests/s over those of the fastest peer, that peer), when both were measured without errors."""
    peers = {peer: one for peer, one in found.items() if peer not in NO_PEERS and not one.errors}
    if name not in found or found[name].errors or not peers:
        return None
    fastest = max(peers, key=lambda peer: peers[peer].requests_per_s)
    return found[name].requests_per_s / peers[fastest].requests_per_s, fastest


def section(
    results: Results,
    servers: Sequence[Server],
    missing: Sequence[str],
    besides: Besides,
    seconds: float,
    busy: float,
) -> str:
    """The Markdown between the marks."""
    lines = [
        _BEGIN,
        "## Speed beside other caches",
        "",
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `make bench`, each figure over {seconds:g} s; {machine()}.",
        f"One core for the server, one for the load (wrk). Load average when it began: {busy:.1f}"
        + (" (**other work shared the cores: only the ratios of this run mean something**)." if busy > 1 else "."),
        "",
        "![Requests per second relative to the fastest peer](pictures/bench-speed.svg)",
        "",
        *(f"- {server.name}: {server.note}" for server in servers),
        *(f"- {why}" for why in missing),
        "",
        "*Load busy* is the share of the time that wrk's core was at work: near 1 the load could not have asked for more,",
        "and the CPU seconds tell the servers apart.",
        "",
        "| | server | requests/s | p50 ms | p99 ms | load busy | CPU s per GB | requests/s to best peer | CPU s to best peer |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for case, found in results.items():
        title = title_of(case)
        for name, one in found.items():
            lines.append(f"| {title} | {name} | {_figures(found, name, one)} |")
            title = ""
    lines += ["", *_goals(results)]
    lines += ["", *paths(besides)]
    return "\n".join([*lines, _END]) + "\n"


def _figures(found: Mapping[str, Measured], name: str, one: Measured) -> str:
    if one.errors:
        return f"{one.errors} errors | | | | | | "
    against = ratio(found, name) if name in NO_PEERS else None
    figures = f"{one.requests_per_s:,.0f} | {one.p50_ms:.2f} | {one.p99_ms:.2f} | {one.load_busy:.2f} | {one.cpu_s_per_gb:.3f}"
    thrift = _thriftiest(found)
    cpu = f"{one.cpu_s_per_gb / thrift:.2f}" if name in NO_PEERS and thrift else ""
    return f"{figures} | {f'**{against[0]:.2f}** {against[1]}' if against else ''} | {cpu}"


def _thriftiest(found: Mapping[str, Measured]) -> float:
    """The least CPU seconds per GB of a peer; 0 when there is none."""
    peers = [one.cpu_s_per_gb for name, one in found.items() if name not in NO_PEERS and not one.errors]
    return min(peers, default=0.0)


def _goals(results: Results) -> list[str]:
    lines = [
        "*Reached* is requests/s to those of the fastest peer. Where the load's core is full with both, no server can be seen to",
        "be faster; what tells them apart is the work for a CPU second, to that of the same peer. Floors: both figures.",
        "",
        "| goal (64 connections) | wanted | reached | per CPU second | its floor | C floor | load busy |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for case, found in results.items():
        if case.connections != 64:
            continue
        wanted = (GOALS.get((case.name, case.tls)), None if case.tls else ALONE_GOALS.get(case.name))
        for name, own_floor, least in zip(OURS, FLOORS, wanted, strict=True):
            got, floors = ratio(found, name), (own_floor, ANY_FLOOR)
            if least is not None and got is not None:
                mark = "yes" if got[0] >= least else "**no**"
                peer = found[got[1]]
                bounds = [f"{floor[0]:.2f}, {_work(found, one, peer)}" if (floor := ratio(found, one)) else "" for one in floors]
                work = f"{_work(found, name, peer)} of {got[1]}"
                figures = " | ".join([f"{got[0]:.2f} {mark}", work, *bounds, f"{found[name].load_busy:.2f}"])
                lines.append(f"| {name}: {title_of(case)} | {least:.1f} | {figures} |")
    return lines


def _work(found: Mapping[str, Measured], name: str, peer: Measured) -> str:
    """Bytes for a CPU second, to the peer's."""
    return f"{peer.cpu_s_per_gb / found[name].cpu_s_per_gb:.2f}" if found[name].cpu_s_per_gb else ""


def paths(besides: Besides) -> list[str]:
    """What is measured without other caches."""
    return [*_scaling(besides.scaled), "", *_cold(besides.cold), "", *_followers(besides.woken)]


def _scaling(scaled: Scaling) -> list[str]:
    mark = "yes" if scaled.work >= SCALING_GOAL else "**no**"
    return [
        "### Two workers beside one",
        "",
        "10 KiB, plaintext, 64 connections, the load on the same two cores; CPU per request, the least of four rounds each.",
        "",
        "| | |",
        "|---|---:|",
        f"| one worker | {scaled.one_us:.1f} us |",
        f"| two workers, one store | {scaled.two_us:.1f} us |",
        f"| the lesser worker's share | {scaled.lesser_share:.2f} |",
        f"| **work of two to that of one** (goal at least {SCALING_GOAL}) | {scaled.work:.2f} {mark} |",
    ]


def _cold(cold: Added) -> list[str]:
    rows = (("the site itself", cold.direct), ("through an edge", cold.one_tier), ("through edge and shield", cold.two_tiers))
    added = cold.per_tier_ms
    return [
        "### Cold path",
        "",
        f"Milliseconds until the first byte of a 10 KiB object that no cache has; {cold.requests} by each way, one by one.",
        "",
        "| | p50 | p99 |",
        "|---|---:|---:|",
        *(f"| {name} | {p50:.2f} | {p99:.2f} |" for name, (p50, p99) in rows),
        f"| **added by a tier** (the worse of the two; goal at most 2) | {added[0]:.2f} | {added[1]:.2f} |",
    ]


def _followers(woken: Woken) -> list[str]:
    return [
        "### A thousand followers of one fill",
        "",
        "All have the header and wait; milliseconds from the site's sending of the body's first half until it is there, with the",
        "clients and the site in other processes. Medians of the rounds.",
        "",
        f"- the median follower: {woken.median_ms:.1f} ms",
        f"- **the last** (goal at most 20): {woken.last_ms:.1f} ms; a follower costs the edge {woken.cpu_us:.1f} us of CPU",
        f"- the last where nobody had the header before: {woken.withheld_last_ms:.1f} ms; {woken.withheld_cpu_us:.1f} us of CPU",
    ]


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of {model}, Linux {platform.release()}, Python {platform.python_version()}"


def put_into(file: Path, text: str, name: str = "speed") -> None:
    """Replaces what stands between the marks of `name`, which are part of the text, or adds it at the end; the rest of the page
    is others'."""
    page = file.read_text() if file.exists() else "# Benchmarks\n"
    before, begin, rest = page.partition(f"<!-- {name} -->")
    after = rest.partition(f"<!-- /{name} -->")[2].lstrip("\n") if begin else ""
    file.write_text(f"{before.rstrip()}\n\n{text.rstrip()}\n" + (f"\n{after}" if after else ""))


def plot(results: Results) -> str:
    """An SVG: for each case with 64 connections one bar a server, as a multiple of the fastest peer."""
    cases = [case for case in results if case.connections == 64]
    names = list(dict.fromkeys(name for case in cases for name in results[case]))
    bar, gap, left, scale = 13, 16, 190, 190
    rows, y = [], 34
    for case in cases:
        peers = [one.requests_per_s for name, one in results[case].items() if name not in NO_PEERS and not one.errors]
        rows.append(f'<text x="{left - 8}" y="{y + 11}" text-anchor="end">{title_of(case).rpartition(",")[0]}</text>')
        for name, one in results[case].items():
            share = 0.0 if one.errors or not peers else one.requests_per_s / max(peers)
            colour = _COLOURS[names.index(name) % len(_COLOURS)]
            rows.append(f'<rect x="{left}" y="{y}" width="{share * scale:.0f}" height="{bar - 2}" fill="{colour}"/>')
            rows.append(f'<text x="{left + share * scale + 4:.0f}" y="{y + 10}">{share:.2f} {name}</text>')
            y += bar
        y += gap
    line = f'<line x1="{left + scale}" y1="24" x2="{left + scale}" y2="{y - gap}" stroke="#8b949e" stroke-dasharray="3 3"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{y}" font-family="sans-serif" font-size="11">'
    caption = f'<text x="{left}" y="16" font-weight="bold">Requests per second; 1.0 is the fastest peer, 64 connections</text>'
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    return "\n".join([head, ground, caption, line, *rows, "</svg>", ""])
