"""How a plan is shown: what moves, what it costs, what to look out for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PLAIN_WIDTH = 150  # of a pipe or file: wide enough that no cell is cut
CHANGES_SHOWN = 20


def console_for_plans() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=PLAIN_WIDTH)


def show_plan(plan: dict[str, Any], console: Console) -> None:
    for part in rendered(plan):
        console.print(part, soft_wrap=isinstance(part, Text))


def rendered(plan: dict[str, Any]) -> Iterable[Table | Text]:
    """The plan as what rich prints."""
    changes = plan["changes"]
    if not changes:
        yield Text("Nothing changes.")
        return
    for change in changes[:CHANGES_SHOWN]:
        yield Text(f"  {change['text']}")
    if len(changes) > CHANGES_SHOWN:
        yield Text(f"  … and {len(changes) - CHANGES_SHOWN} more")
    share = f"{plan['moved_share']:.1%} of all {'traffic' if plan['total_bps'] else 'buckets'}"
    yield Text(f"\n{plan['moved_buckets']} buckets move, {share}. Traffic: {plan['measured']}, {rate(plan['total_bps'])} in all.")
    yield _moves(plan)
    yield _fills(plan)
    if plan["steps"]:
        yield Text("Steps: " + " → ".join(plan["steps"]), style="dim")
    for change in plan["restart"]:
        yield Text(f"{change['node']} takes this only when it is started again: {change['text']}", style="yellow")
    for kind, style in (("warnings", "yellow"), ("refusals", "bold red"), ("impossible", "bold red")):
        for finding in plan[kind]:
            yield Text(f"{kind.removesuffix('s')}: {finding['what']}. Cure: {finding['cure']}.", style=style)


def _moves(plan: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("POP / edge", "region"):
        table.add_column(name, no_wrap=True)
    for name in ("buckets", "gains", "loses", "load now", "load after", "capacity", "full", "cold"):
        table.add_column(name, justify="right", no_wrap=True)
    for pop in plan["pops"]:
        table.add_row(*_row(pop, pop["name"]), style="bold")
        edges = [edge for edge in plan["edges"] if edge["pop"] == pop["name"]]
        if len(edges) > 1:
            for edge in edges:
                table.add_row(*_row(edge, f"  {edge['name']}"))
    return table


def _row(change: dict[str, Any], name: str) -> list[str]:
    capacity = change["capacity_bps"]
    return [
        name,
        change["region"],
        f"{change['buckets_before']} → {change['buckets_after']}",
        f"+{change['gained']}" if change["gained"] else "",
        f"-{change['lost']}" if change["lost"] else "",
        rate(change["load_before_bps"]),
        rate(change["load_after_bps"]),
        rate(capacity) if capacity else "",
        f"{change['load_after_bps'] / capacity:.0%}" if capacity else "",
        size(change["cold_bytes"]) if change["cold_bytes"] else "",
    ]


def _fills(plan: dict[str, Any]) -> Text:
    shield, origin = plan["shield_fills"], plan["origin_fills"]
    return Text(
        f"Cold at their new edges: {shield['objects']} hot objects, {size(shield['bytes'])}, asked of the shields; of these "
        f"{origin['objects']}, {size(origin['bytes'])}, of the origin. The handoff fetches them before viewers move."
        if shield["objects"]
        else "Nothing that is hot becomes cold."
    )


def rate(bps: float) -> str:
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bps < 1000:
            return f"{bps:.3g} {unit}"
        bps /= 1000
    return f"{bps:.3g} Gbit/s" if bps < 1000 else f"{bps:.0f} Gbit/s"


def size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
