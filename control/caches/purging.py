"""Purging everywhere: an order becomes records in the log, then the shields are told, then the edges.

Shields first, so that no edge that has purged can fill itself with an old copy from a shield that has not.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import aiohttp

from control.caches.purgelog import PurgeLog
from control.metrics import PURGE_SECONDS, PURGES
from control.plane import ControlPlane
from headwater.rules.names import InvalidName, parse_video_id
from headwater.rules.purging import PurgeKind, PurgeRecord
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.enrolment.links import Site, admin_site
from headwater.runtime.logs import Log
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.runtime.problems import Problem
from headwater.runtime.purgelines import members_of
from headwater.settings.deployment import Deployment, Role, nodes_of
from headwater.settings.sites import NotServed, object_of, prefixes_of

TELL_TIMEOUT_S: Final = 3.0
KEPT_OPEN_S: Final = 60.0  # less than a node keeps an idle connection: the next purge finds all of them open
TIERS: Final[tuple[Role, ...]] = ("shield", "edge")
WAYS: Final = ("url", "prefix", "tag", "video")
MAX_TAG_CHARS: Final = 1024
RECORDS_AT_ONCE: Final = 500  # a tag's record has 1,200 bytes at most, and a request's body 1 MiB
ROUNDS_AT_MOST: Final = 50


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator wants purged."""

    targets: tuple[tuple[PurgeKind, str], ...]
    soft: bool
    text: str
    of_a_video: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a node answered: `missing` says why it did not acknowledge, None when it did."""

    node: str
    role: Role
    took_s: float
    missing: str | None


def order_from(members: object, deployment: Deployment) -> Order:
    """The order from its JSON. Raises Problem with what would mend it."""
    if not isinstance(members, dict):
        raise _invalid("an object was expected")
    ways = [way for way in WAYS if way in members]
    if len(ways) != 1 or not isinstance(members[ways[0]], str) or not members[ways[0]]:
        raise _invalid(f"exactly one of {', '.join(WAYS)} was expected, with a text")
    unknown = sorted(members.keys() - {*WAYS, "soft"})
    if unknown or not isinstance(members.get("soft", False), bool):
        raise _invalid(f"unknown member {unknown[0]!r}" if unknown else "soft: true or false was expected")
    way, value = ways[0], str(members[ways[0]])
    soft = bool(members.get("soft", False))
    text = f"{way} {value[:200]}{', softly' if soft else ''}"
    return Order(_targets(way, value, deployment), soft, text, of_a_video=way == "video")


def _targets(way: str, value: str, deployment: Deployment) -> tuple[tuple[PurgeKind, str], ...]:
    try:
        if way == "url":
            return ((PurgeKind.OBJECT, object_of(value, deployment).key),)
        if way == "prefix":
            return tuple((PurgeKind.PREFIX, key) for key in prefixes_of(value, deployment))
        if way == "video":
            return ((PurgeKind.TAG, parse_video_id(value)),)
    except (NotServed, InvalidName) as error:
        raise _invalid(str(error)) from error
    if not value.isprintable() or len(value) > MAX_TAG_CHARS or "," in value or " " in value:
        raise _invalid("a tag has no space, comma or control character, and at most 1024 characters")
    return ((PurgeKind.TAG, value),)


def _invalid(detail: str) -> Problem:
    return Problem(400, "purge-invalid", "Purge invalid", detail)


def _order_body(after: int, records: list[PurgeRecord]) -> bytes:
    """What a node is sent; made once, not once a node."""
    return json.dumps({"after": after, "records": [members_of(record) for record in records[:RECORDS_AT_ONCE]]}).encode()


def _sequence_in(said: Any) -> int:
    """Up to which purge a node says that it is. Raises ValueError."""
    try:
        return int(said["sequence"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("it does not answer as a cache does; see who listens at its admin address") from error


class Purger:
    """Held open while control serves. `told` is the latest record that every edge was told of or was missing for."""

    def __init__(self, folder: Path, token: str, plane: ControlPlane, log: Log, identity: Identity | None = None) -> None:
        self.log = PurgeLog(folder, log)
        self._token = token
        self._identity = identity
        self._plane = plane
        self._writing = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Purger:
        self._session = aiohttp.ClientSession(
            headers={NODE_HEADER: self._token, "Content-Type": "application/json"},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_OPEN_S),
            timeout=aiohttp.ClientTimeout(TELL_TIMEOUT_S),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def purge(self, order: Order) -> dict[str, Any]:
        """Carries the order out; the answer says which nodes acknowledged and which are missing, and why."""
        began = time.monotonic()
        async with self._writing:
            try:
                records = await asyncio.to_thread(self.log.append, order.targets, soft=order.soft)
            except OSError as error:
                detail = f"control's folder does not take the purge ({error}); free the disk and repeat. Nothing was purged."
                raise Problem(507, "purge-not-kept", "Purge not kept", detail) from error
        told: list[Told] = []
        body = _order_body(self.log.before(records[0]), records)
        for tier in TIERS:
            nodes = [node for node, role in nodes_of(self._plane.deployment).items() if role == tier]
            told += await asyncio.gather(*(self._tell(node, tier, body, records[-1].sequence) for node in nodes))
        missing = [one for one in told if one.missing is not None]
        PURGES.labels("missing" if missing else "complete").inc()
        PURGE_SECONDS.observe(time.monotonic() - began)
        text = f"{order.text}: {len(told) - len(missing)} of {len(told)} nodes acknowledged"
        self._plane.purged(
            records[-1].sequence,
            text + (f"; missing: {', '.join(one.node for one in missing)}" if missing else ""),
            by_all=not missing,
        )
        return {
            "sequence": records[-1].sequence,
            "targets": [{"kind": kind, "target": target} for kind, target in order.targets],
            "soft": order.soft,
            "acknowledged": [
                {"node": one.node, "role": one.role, "took_ms": round(one.took_s * 1000, 1)}
                for one in told
                if one.missing is None
            ],
            "missing": [{"node": one.node, "role": one.role, "reason": one.missing} for one in missing],
        }

    def missed_by(self, node: str, after: int) -> list[PurgeRecord]:
        """What a node asks for. An edge hears only of what the shields were told before."""
        is_shield = nodes_of(self._plane.deployment).get(node) == "shield"
        return self.log.after(after, None if is_shield else self._plane.purge_sequence)

    async def _tell(self, node: str, role: Role, body: bytes, wanted: int) -> Told:
        began = time.monotonic()
        site = admin_site(self._identity, self._plane.deployment, node)
        try:
            missing = await self._send(site, body, wanted)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            missing = f"no answer: {error!r}" if str(error) == "" else str(error)
        return Told(node, role, time.monotonic() - began, missing)

    async def _send(self, site: Site, body: bytes, wanted: int) -> str | None:
        """None when the node acknowledged, else why not. A node that missed earlier ones is sent those too."""
        assert self._session is not None
        for _ in range(ROUNDS_AT_MOST):
            async with self._session.post(f"{site.url}/purge", data=body, **site.tls) as answer:
                said = await answer.json(content_type=None)
                if answer.status not in (200, 409):
                    detail = said.get("detail", "") if isinstance(said, dict) else ""
                    return f"status {answer.status}: {detail}"
            after = _sequence_in(said)
            if answer.status == 200 and after >= wanted:
                return None
            body = _order_body(after, self.log.after(after))
        return f"it stays at purge {after}"
