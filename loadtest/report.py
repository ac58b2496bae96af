"""The report of a run: tables for people, one JSON document for machines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtest.measures import Latencies
from loadtest.run import Outcome


def document(outcome: Outcome) -> dict[str, Any]:
    """The whole result as JSON. Seconds end in `_s`, ratios are 0 to 1 or null when there was nothing to measure."""
    measures = outcome.measures
    return {
        "scenario": outcome.scenario.name,
        "seed": outcome.scenario.seed,
        "started_at": datetime.fromtimestamp(outcome.started_at, UTC).isoformat(timespec="seconds"),
        "took_s": round(outcome.took_s, 3),
        "met": outcome.met,
        "viewers": {
            "planned": outcome.scenario.viewers,
            "finished": measures.finished,
            "failed": measures.failures.total(),
        },
        "videos": outcome.videos,
        "startup": measures.startup.summary(),
        "played_s": round(measures.played_s, 3),
        "stalled_s": round(measures.stalled_s, 3),
        "seeking_s": round(measures.seeking_s, 3),
        "stalls": measures.stalls,
        "rebuffer_ratio": measures.rebuffer_ratio,
        "rungs_s": dict(measures.rung_s),
        "requests": measures.requests,
        "received_bytes": measures.received_bytes,
        "objects": len(measures.objects),
        "names": measures.names.summary(),
        "api": measures.api.summary(),
        "first_bytes": measures.first_bytes.summary(),
        "transfers": measures.transfers.summary(),
        "cache_status": {
            tier: {"hits": hits.hits, "collapsed": hits.collapsed, "misses": hits.misses, "hit_ratio": hits.ratio}
            for tier, hits in measures.tiers.items()
        },
        "edges": dict(measures.edges),
        "nodes": None
        if outcome.tiers is None
        else {
            tier: {"requests": counts.requests, "by_outcome": counts.by_outcome, "silent": list(counts.silent)}
            for tier, counts in outcome.tiers.items()
        },
        "retries": dict(measures.retries),
        "failures": {
            cause: {"count": count, "example": measures.failure_details[cause]} for cause, count in measures.failures.items()
        },
        "objectives": [
            {"name": one.name, "bound": one.bound, "limit": one.limit, "measured": one.measured, "met": one.met}
            for one in outcome.judged
        ],
    }


def show(outcome: Outcome, console: Console) -> None:
    """Prints the tables."""
    for table in (_viewers(outcome), _latencies(outcome), _tiers(outcome)):
        console.print(table)
    if outcome.measures.failures or outcome.measures.retries:
        console.print(_failures(outcome))
    if outcome.judged:
        console.print(_objectives(outcome))
    verdict = "[green]every objective is met[/green]" if outcome.met else "[red]an objective is not met[/red]"
    console.print(f"{outcome.scenario.name}: {outcome.took_s:.1f} s, {verdict}")


def _viewers(outcome: Outcome) -> Table:
    measures = outcome.measures
    table = Table("viewers", "", title=f"Load test {outcome.scenario.name}", title_justify="left")
    table.add_row("finished / planned", f"{measures.finished} / {outcome.scenario.viewers}")
    table.add_row("gave up", str(measures.failures.total()))
    table.add_row("played", f"{measures.played_s:.1f} s")
    table.add_row("rebuffering", f"{measures.stalls} stalls, {measures.stalled_s:.2f} s, ratio {_ratio(measures.rebuffer_ratio)}")
    table.add_row("rungs", ", ".join(f"{rung} {seconds:.0f} s" for rung, seconds in sorted(measures.rung_s.items())) or "-")
    table.add_row("received", f"{measures.received_bytes / 1e6:.1f} MB in {measures.requests} requests")
    return table


def _latencies(outcome: Outcome) -> Table:
    measures = outcome.measures
    table = Table("times", "count", "p50", "p95", "p99", "worst")
    rows: Mapping[str, Latencies] = {
        "startup": measures.startup,
        "DNS": measures.names,
        "API": measures.api,
        "first byte": measures.first_bytes,
        "whole object": measures.transfers,
    }
    for name, latencies in rows.items():
        table.add_row(name, str(latencies.count), *(_milliseconds(latencies.percentile_s(p)) for p in (50, 95, 99, 100)))
    return table


def _tiers(outcome: Outcome) -> Table:
    """Viewers' Cache-Status beside the nodes' own counters: they differ by what else asked the nodes."""
    table = Table("tier", "answers seen", "hit ratio seen", "requests counted", "hit ratio counted")
    for tier, seen in outcome.measures.tiers.items():
        counted = outcome.tiers.get("edge" if tier == "edge" else "shield") if outcome.tiers is not None else None
        table.add_row(
            tier,
            str(seen.hits + seen.collapsed + seen.misses),
            _ratio(seen.ratio),
            "-" if counted is None else f"{counted.requests:.0f}{_silent(counted.silent)}",
            "-" if counted is None else _ratio(counted.hit_ratio),
        )
    origin = outcome.tiers["origin-bytes"] if outcome.tiers is not None else None
    counted_text = "-" if origin is None else f"{origin.requests:.0f}{_silent(origin.silent)}"
    table.add_row("origin", "-", "-", f"{counted_text} for {len(outcome.measures.objects)} objects", "-")
    return table


def _failures(outcome: Outcome) -> Table:
    measures = outcome.measures
    table = Table("cause", "gave up", "tried again", "example")
    for cause in sorted({*measures.failures, *measures.retries}):
        count, again = measures.failures.get(cause, 0), measures.retries.get(cause, 0)
        table.add_row(cause, str(count), str(again), measures.failure_details.get(cause, ""))
    return table


def _objectives(outcome: Outcome) -> Table:
    table = Table("objective", "limit", "measured", "")
    for one in outcome.judged:
        measured = f"not measured: {one.why_not}" if one.measured is None else f"{one.measured:.4g}"
        table.add_row(one.name, f"{one.bound} {one.limit:g}", measured, "[green]met[/green]" if one.met else "[red]not met[/red]")
    return table


def _silent(nodes: tuple[str, ...]) -> str:
    return f" (no metrics from {', '.join(nodes)})" if nodes else ""


def _ratio(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.4f}"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"
