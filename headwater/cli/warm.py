"""`headwater warm`: objects into the edges that would serve them, before anybody asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from headwater.cli.controlapi import Control, fail, ordered
from headwater.cli.credentials import TokenOption
from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.cli.videoobjects import NoObjects, objects_of_video
from headwater.settings.units import parse_rate_bps

WARM_TIMEOUT_S = 3600.0
AT_ONCE = 2000
EXIT_INCOMPLETE = 1


def warm(
    config: ConfigOption,
    urls: Annotated[list[str] | None, typer.Argument(help="URLs, signed or plain, or paths.")] = None,
    video: Annotated[str | None, typer.Option(help="All objects of this video.")] = None,
    listed: Annotated[Path | None, typer.Option("--list", help="A file with a URL or path in each line.")] = None,
    edges: Annotated[
        str | None, typer.Option("--edges", help="POPs or edges, with commas; default: those that would serve.")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Objects that an edge fetches at once.", min=1, max=64)] = 4,
    bandwidth: Annotated[str, typer.Option(help="Rate at which an edge fetches.")] = "200 Mbit/s",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for scripts.")] = False,
    token: TokenOption = None,
) -> None:
    """Fetch objects into caches ahead of their viewers. Exit status 0: all are there; 1: some are not; 2: nothing was done."""
    try:
        rate_bps = parse_rate_bps(bandwidth)
    except ValueError as error:
        fail(f"--bandwidth: {error}")
    wanted = _wanted(config, urls or [], video, listed)
    control, total = Control(config, token), _Total()
    for start in range(0, len(wanted), AT_ONCE):
        order: dict[str, Any] = {"urls": wanted[start : start + AT_ONCE], "concurrency": concurrency, "bandwidth_bps": rate_bps}
        if edges:
            order["edges"] = edges.split(",")
        total.add(ordered(control, "warm", order, WARM_TIMEOUT_S))
    total.show(len(wanted), as_json=as_json)
    raise typer.Exit(0 if total.complete else EXIT_INCOMPLETE)


def _wanted(config: Path, urls: list[str], video: str | None, listed: Path | None) -> list[str]:
    if sum((bool(urls), video is not None, listed is not None)) != 1:
        fail("Say what to fetch: URLs, or one of --video and --list.")
    if listed is not None:
        try:
            urls = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            fail(f"{listed} cannot be read: {error}")
    if video is not None:
        try:
            urls = objects_of_video(deployment_or_exit(config).origin.api.listen.url, video)
        except (NoObjects, httpx.HTTPError) as error:
            fail(f"The objects of {video} are not known: {error}")
    if not urls:
        fail("There is nothing to fetch in it.")
    return urls


class _Total:
    """What became of all orders, by edge."""

    def __init__(self) -> None:
        self.edges: dict[str, dict[str, Any]] = {}

    @property
    def complete(self) -> bool:
        return all(not edge["failed"] and not edge["error"] for edge in self.edges.values())

    def add(self, answer: dict[str, Any]) -> None:
        for one in answer["edges"]:
            known = self.edges.setdefault(one["edge"], dict(one) | {"fetched": 0, "present": 0, "failed": 0, "bytes": 0})
            for name in ("fetched", "present", "failed", "bytes"):
                known[name] += one[name]
            known["error"] = known["error"] or one["error"]

    def show(self, objects: int, *, as_json: bool) -> None:
        if as_json:
            print(json.dumps({"objects": objects, "edges": list(self.edges.values())}, indent=2))
            return
        for name, edge in self.edges.items():
            got = f"{edge['fetched']} fetched ({edge['bytes'] / 1e6:,.1f} MB)"
            told = f"{got}, {edge['present']} were there, {edge['failed']} failed"
            print(f"{name:<16} {told}{'; ' + edge['error'] if edge['error'] else ''}")
            for failure in edge["failures"]:
                print(f"{'':<16} {failure['key']}: {failure['reason']}")


def register(app: typer.Typer) -> None:
    app.command()(warm)
