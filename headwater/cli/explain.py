"""`headwater explain URL`: where one object is between origin and viewers, how fresh, and who would be asked for it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from structlog import get_logger

from headwater.cli.controlapi import EXIT_NOT_DONE, fail
from headwater.cli.node import ConfigOption, deployment_or_exit
from headwater.rules.names import bucket_of, logical_host
from headwater.rules.nodeidentity import CONTROL
from headwater.rules.steering import steer
from headwater.runtime.enrolment.identity import FILE, Identity, IdentityUnusable
from headwater.runtime.enrolment.links import control_client, named, node_client
from headwater.runtime.nodetoken import NODE_HEADER, token_file
from headwater.settings.deployment import Deployment, admin_address
from headwater.settings.sites import NotServed, ObjectUrl, object_of
from headwater.settings.snapshot import Snapshot
from headwater.settings.topology import NodeName
from headwater.settings.world import world_of

TIMEOUT_S = 5.0
PLAIN_WIDTH = 180
PROPERTY_HEADER = "Headwater-Property"
JsonObject = dict[str, Any]


def explain(
    url: Annotated[str, typer.Argument(help="The URL, signed or plain, or its path.")],
    config: ConfigOption,
    region: Annotated[str | None, typer.Option(help="Steer as for viewers of this region.")] = None,
    all_edges: Annotated[bool, typer.Option("--all", help="Every edge, not only those that steering gives.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known as JSON, for scripts.")] = False,
) -> None:
    """Say for one URL: property, key, edges, and for each cache on its way what it holds and whom it would ask, and why."""
    deployment = deployment_or_exit(config)
    try:
        wanted = object_of(url, deployment)
    except NotServed as error:
        print(error, file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE) from error
    if region is not None and region not in deployment.regions:
        print(f"{region!r} is no region; there are {', '.join(deployment.regions)}.", file=sys.stderr)
        raise typer.Exit(EXIT_NOT_DONE)
    told = asyncio.run(_explained(wanted, deployment, _as_control(deployment), region, all_edges))
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        _show(told)


@dataclass(frozen=True, slots=True)
class _Control:
    """What shows caches that control asks."""

    token: str
    identity: Identity | None


def _as_control(deployment: Deployment) -> _Control:
    """Control's own token and certificate. Exits with one sentence when they cannot be read."""
    file, identity = token_file(deployment.data, CONTROL), None
    try:
        if deployment.control.enrolment is not None:
            identity = Identity(deployment.data / "nodes" / CONTROL / FILE, get_logger())
        return _Control(file.read_text(encoding="ascii").strip(), identity)
    except IdentityUnusable as error:
        fail(f"{error}: run this where control runs, as the user who runs it.")
    except OSError as error:
        fail(f"{file} cannot be read ({error.strerror}): run this where control runs, as the user who runs it.")


async def _explained(
    wanted: ObjectUrl, deployment: Deployment, control: _Control, region: str | None, all_edges: bool
) -> JsonObject:
    async with node_client(control.identity, control.token, httpx.Timeout(TIMEOUT_S)) as client:
        snapshot = await _snapshot(control, deployment)
        edges, why = _edges(wanted, snapshot or Snapshot(version=0, deployment=deployment), region, all_edges)
        at_edges = await asyncio.gather(*(_asked(client, deployment, edge, wanted.key) for edge in edges))
        shields = list(
            dict.fromkeys(
                node["parents"][0]["name"]
                for node in at_edges
                if node.get("parents") and node["parents"][0]["name"] in deployment.shields
            )
        )
        at_shields = await asyncio.gather(*(_asked(client, deployment, shield, wanted.key) for shield in shields))
    video = wanted.video_id
    return {
        "property": wanted.site,
        "key": wanted.key,
        "video_id": video,
        "bucket": None if video is None else f"{bucket_of(video):03x}",
        "logical_host": None if video is None else logical_host(bucket_of(video), deployment.zone),
        "steering": {"edges": edges, "why": why, "by": "control" if snapshot else "the config file: control does not answer"},
        "nodes": [*at_edges, *at_shields, await _origin(wanted, deployment)],
    }


def _edges(wanted: ObjectUrl, snapshot: Snapshot, region: str | None, all_edges: bool) -> tuple[list[NodeName], str]:
    deployment = snapshot.deployment
    everyone = [name for name, _, _ in deployment.edges()]
    if wanted.video_id is None:
        return everyone, "no video's path, so steering does not choose: every edge serves it"
    region = region or deployment.steering.default_region
    steered = [edge.name for edge in steer(bucket_of(wanted.video_id), region, world_of(snapshot))]
    given = steered[: deployment.steering.answers]
    why = f"steering gives {', '.join(given)} to viewers of {region}"
    return ([*given, *(name for name in everyone if name not in given)] if all_edges else given), why


async def _snapshot(control: _Control, deployment: Deployment) -> Snapshot | None:
    """Control's present view, for health; None when it cannot be had."""
    try:
        async with control_client(control.identity, deployment, control.token, httpx.Timeout(TIMEOUT_S)) as client:
            answer = await client.get("/api/v1/snapshot")
        return Snapshot.model_validate_json(answer.raise_for_status().content)
    except (httpx.HTTPError, ValidationError):
        return None


async def _asked(client: httpx.AsyncClient, deployment: Deployment, node: NodeName, key: str) -> JsonObject:
    secured = deployment.control.enrolment is not None
    try:
        site = f"https://{admin_address(deployment, node)}" if secured else admin_address(deployment, node).url
        answer = await client.get(f"{site}/explain", params={"key": key}, extensions=named(node))
        members = answer.json()
        if answer.status_code != 200:
            return {"node": node, "error": str(members.get("detail", answer.text))}
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        return {"node": node, "error": str(error) or repr(error)}
    return {"node": node, **members}


async def _origin(wanted: ObjectUrl, deployment: Deployment) -> JsonObject:
    """What the originals' server says of the object: asked as a shield of ours would, or as any client where it is not ours."""
    ours = wanted.settings.parent == "origin"
    base = deployment.origin.bytes.listen.url if ours else wanted.settings.parent.rstrip("/")
    headers = {"Accept-Encoding": "identity"}
    if ours:
        try:
            shield = token_file(deployment.data, next(iter(deployment.shields))).read_text(encoding="ascii").strip()
        except OSError as error:
            return {"node": "origin-bytes", "tier": "origin", "error": f"no shield's token: {error.strerror}"}
        headers |= {NODE_HEADER: shield, PROPERTY_HEADER: wanted.site}
    path = wanted.key.removeprefix(wanted.site)
    node: JsonObject = {"node": "origin-bytes" if ours else base, "tier": "origin"}
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = await client.head(f"{base}{path}", headers=headers)
    except httpx.HTTPError as error:
        return {**node, "error": str(error) or repr(error)}
    size = answer.headers.get("content-length")
    return {
        **node,
        "place": "origin" if answer.status_code == 200 else "nowhere",
        "stored": {
            "status": answer.status_code,
            "size_bytes": int(size) if size is not None and size.isdigit() else None,
            "validator": answer.headers.get("etag") or answer.headers.get("last-modified"),
            "freshness": answer.headers.get("cache-control"),
        },
        "next": "answer",
        "why": "",
    }


def _show(told: JsonObject) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(f"property {told['property']}, key {told['key']}", soft_wrap=True, highlight=False)
    if told["video_id"]:
        console.print(f"video {told['video_id']}, bucket {told['bucket']} ({told['logical_host']})", highlight=False)
    console.print(f"{told['steering']['why']} (by {told['steering']['by']})", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("node", "tier", "where", "status", "size", "age", "ttl", "freshness", "validator", "next"):
        table.add_column(name, overflow="fold")
    for node in told["nodes"]:
        table.add_row(*_row(node))
    console.print(table)
    for node in told["nodes"]:
        if node.get("error"):
            console.print(f"{node['node']}: {node['error']}", style="red", soft_wrap=True)
        elif node.get("why"):
            console.print(
                f"{node['node']} asks {node['parents'][0]['name'] if node['parents'] else 'nobody'}: {node['why']}",
                soft_wrap=True,
            )


def _row(node: JsonObject) -> list[str]:
    stored = node.get("stored") or {}
    fill = node.get("fill")
    where = node.get("place", "no answer")
    if fill:
        where += f" ({fill['received_bytes']} of {fill['size_bytes'] or '?'} bytes, {fill['followers']} followers)"
    if slices := stored.get("slices"):
        where += f" ({slices['stored']} of {slices['count']} slices)"
    freshness = stored.get("freshness") or ""
    if stored.get("softly_purged"):
        freshness += ", softly purged"
    return [
        node["node"],
        node.get("tier", ""),
        where,
        _text(stored.get("status")),
        _text(stored.get("size_bytes")),
        _seconds(stored.get("age_s")),
        _seconds(stored.get("ttl_s")),
        freshness,
        _text(stored.get("validator")),
        node.get("next", ""),
    ]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} s"


def register(app: typer.Typer) -> None:
    app.command()(explain)
