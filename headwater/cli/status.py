"""`headwater status`: the deployment as control sees it, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from headwater.cli.controlapi import Control, NoControl, Refusal, fail
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption

TIMEOUT_S = 5.0
EXIT_NO_ANSWER = 1
PLAIN_WIDTH = 150  # of a pipe or file: wide enough that no cell is cut
CACHE_ROLES = ("edge", "shield")
SENDING_ROLES = (*CACHE_ROLES, "origin-bytes")
HEALTH_STYLES = {"up": "green", "down": "bold red", "unknown": "yellow"}


def status(
    config: ConfigOption,
    as_json: Annotated[bool, typer.Option("--json", help="The whole status as JSON, for scripts.")] = False,
    token: TokenOption = None,
) -> None:
    """Show nodes, health, traffic and config problems as control sees them. Exit status 1: there is no answer."""
    try:
        tree = Control(config, token).get("status", TIMEOUT_S)
    except (NoControl, Refusal) as error:
        fail(str(error), EXIT_NO_ANSWER)
    if as_json:
        print(json.dumps(tree, indent=2, ensure_ascii=False))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    for part in rendered(tree):
        console.print(part)


def rendered(tree: dict[str, Any]) -> Iterable[Table | Text]:
    """The tree as what rich prints, from what matters most at the top."""
    nodes = tree["nodes"]
    up = sum(node["health"] == "up" for node in nodes)
    yield Text(f"{tree['deployment']} ({tree['zone']}): {up} of {len(nodes)} nodes up, snapshot {tree['version']}")
    for problem in tree["config"]["problems"]:
        yield Text(f"Config refused, the one before stays in force: {problem['text']}", style="red")
    if tree["key_error"]:
        yield Text(f"Keys cannot be read: {tree['key_error']}", style="red")
    if tree["rollout"]:
        rollout = tree["rollout"]
        yield Text(
            f"Rolling out: {rollout['what']}, step {rollout['step']} of {len(rollout['steps'])}: {rollout['said']}",
            style="yellow",
        )
    if tree["drained"]:
        yield Text(f"Drained beside the config: {', '.join(tree['drained'])} (`headwater undrain` ends it)", style="yellow")
    yield _tiers(tree["tiers"])
    yield _nodes(tree)
    for share in tree["ahead"]:
        told = f"{share['fetched_bytes'] / 1e6:,.1f} MB, {_percent(share['use_ratio'])} of it used"
        yield Text(f"Fetched ahead in {share['region']} ({share['why']}): {told}")
    for node in nodes:
        if node["error"]:
            yield Text(f"{node['name']}: last failed check: {node['error']}", style="red")
        if (trouble := _certificate(node["certificate"], tree["now"])) is not None:
            yield Text(f"{node['name']}: {trouble}", style="red")
        for change in node["restart"]:
            told = f"{change['path']}: {change['before'] or 'absent'} → {change['after'] or 'absent'}"
            yield Text(f"{node['name']} takes this only when it is started again: {told}", style="yellow")


def _tiers(tiers: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("tier")
    for name in ("requests/s", "egress", "hit ratio"):
        table.add_column(name, justify="right")
    for tier in tiers:
        table.add_row(tier["tier"], _number(tier["requests_per_s"]), _rate(tier["egress_bps"]), _percent(tier["hit_ratio"]))
    return table


def _nodes(tree: dict[str, Any]) -> Table:
    """Regions, their POPs, these's edges; then the other nodes."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("node", "role", "address", "health", "for"):
        table.add_column(name, no_wrap=True)
    for name in ("weight", "requests/s", "egress", "hit ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    enrols = any(node["certificate"] for node in tree["nodes"])
    for name in ("version", "lag", *(["certificate"] if enrols else [])):
        table.add_column(name, no_wrap=True)
    nodes = {node["name"]: node for node in tree["nodes"]}
    for region in tree["regions"]:
        table.add_row(region["name"], "region", style="bold")
        for pop in region["pops"]:
            drained = "drained" if pop["name"] in tree["drained"] or pop["weight"] == 0 else f"{pop['weight']:g}"
            edges = [nodes.pop(edge) for edge in pop["edges"] if edge in nodes]
            egress = sum((edge["traffic"] or {}).get("egress_bps", 0.0) for edge in edges)
            table.add_row(f"  {pop['name']}", "POP", "", "", "", drained, "", _rate(egress), "", "", "", style="bold")
            for edge in edges:
                table.add_row(*_row(edge, f"    {edge['name']}", tree["now"], enrols=enrols))
    for name, node in nodes.items():
        table.add_row(*_row(node, name, tree["now"], enrols=enrols))
    return table


def _certificate(certificate: dict[str, Any] | None, now: float) -> str | None:
    """What is wrong with a node's certificate; None when nothing is, or it needs none."""
    if certificate is None or (certificate["state"] == "enrolled" and not certificate["late"]):
        return None
    cure = f"`headwater enrol token {certificate['node']}` lets it enrol"
    match certificate["state"]:
        case "none":
            return f"not enrolled: {cure}"
        case "enrolled":
            return f"its certificate expires in {_duration(certificate['expires_at'] - now)} and was not renewed: {cure} anew"
        case "revoked":
            return f"revoked, so that no viewer is sent to it and no parent fills it: {cure} again"
        case state:
            return f"its certificate has {state}; it serves on by its last snapshot: {cure} anew"


def _row(node: dict[str, Any], name: str, now: float, *, enrols: bool) -> list[str | Text]:
    traffic = node["traffic"] or {}
    drained = node["drained"] or node["weight"] == 0
    return [
        name,
        node["role"],
        node["address"],
        Text(node["health"], style=HEALTH_STYLES[node["health"]]),
        _duration(now - node["since"]),
        "drained" if drained else "" if node["weight"] is None else f"{node['weight']:g}",
        _number(traffic["requests_per_s"]) if traffic else "",
        _rate(traffic["egress_bps"]) if traffic and node["role"] in SENDING_ROLES else "",
        _percent(traffic["hit_ratio"]) if traffic and node["role"] in CACHE_ROLES else "",
        "" if node["version"] is None and node["current"] else "none yet" if node["version"] is None else str(node["version"]),
        "" if node["current"] else _duration(node["lag_s"]),
        *([_certificate_cell(node["certificate"], now)] if enrols else []),
    ]


def _certificate_cell(certificate: dict[str, Any] | None, now: float) -> str:
    if certificate is None:
        return ""
    if certificate["state"] == "enrolled" and certificate["expires_at"]:
        return f"for {_duration(certificate['expires_at'] - now)}"
    return str(certificate["state"])


def _number(value: float) -> str:
    return f"{value:,.1f}".replace(",", " ")


def _rate(bps: float) -> str:
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bps < 1000:
            return f"{bps:.3g} {unit}"
        bps /= 1000
    return f"{bps:.3g} Gbit/s" if bps < 1000 else f"{bps:.0f} Gbit/s"


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio * 100:.1f} %"


def _duration(seconds: float) -> str:
    for size_s, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size_s:
            return f"{int(seconds / size_s)} {unit}"
    return f"{max(0, int(seconds))} s"


def register(app: typer.Typer) -> None:
    app.command()(status)
