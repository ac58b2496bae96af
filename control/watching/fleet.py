"""What control asks caches beside health and metrics: what they hold, what is hottest, and orders to fetch. Every failure becomes
a sentence or nothing: an answer that is missing makes a plan less exact, never impossible."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Final

import aiohttp

from headwater.rules.planning import Holding
from headwater.rules.warmorder import WarmOrder, WarmReport, report_from
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.enrolment.links import admin_site
from headwater.runtime.logs import Log
from headwater.runtime.nodetoken import NODE_HEADER
from headwater.settings.deployment import Deployment

LIST_TIMEOUT_S: Final = 10.0
ORDER_TIMEOUT_S: Final = 300.0


class NoAnswer(Exception):
    """A cache did not carry an order out. The message says why."""


class Fleet:
    """Held open while control serves."""

    def __init__(self, token: str, log: Log, identity: Identity | None = None) -> None:
        self._token = token
        self._identity = identity
        self._log = log
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Fleet:
        self._session = aiohttp.ClientSession(headers={NODE_HEADER: self._token}, connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()

    async def holdings(self, deployment: Deployment, nodes: Iterable[str]) -> dict[str, Mapping[int, Holding]]:
        """By cache and bucket, what is hot there; caches that do not say it are left out."""
        names = list(nodes)
        answers = await asyncio.gather(*(self._holdings_of(deployment, node) for node in names))
        return {node: held for node, held in zip(names, answers, strict=True) if held is not None}

    async def hottest(self, deployment: Deployment, node: str, buckets: Iterable[int], at_most: int) -> list[tuple[str, int]]:
        """(key, bytes) of the hottest objects of these buckets, hottest first. Raises NoAnswer."""
        body = {"buckets": [f"{bucket:03x}" for bucket in buckets], "at_most": at_most}
        try:
            parts = await self._ask(deployment, node, "/hottest", LIST_TIMEOUT_S, body)
            lists = [[(str(key), int(size)) for key, size in part["objects"]] for part in parts]
        except (KeyError, TypeError, ValueError) as error:
            raise NoAnswer(f"{node} gives no list of its hottest objects: {error!r}") from error
        found: dict[str, int] = {}
        for place in range(max(map(len, lists), default=0)):  # the workers of a node each have a list; all are equally hot
            found.update(entries[place] for entries in lists if place < len(entries))
        return list(found.items())

    async def warm(self, deployment: Deployment, node: str, order: WarmOrder) -> WarmReport:
        """Has the node carry the order out; returns when it has. Raises NoAnswer."""
        report = WarmReport()
        try:
            for part in await self._ask(deployment, node, "/warm", ORDER_TIMEOUT_S, order.members()):
                report.add(report_from(part))
        except ValueError as error:
            raise NoAnswer(f"{node} says nothing sensible of its order: {error}") from error
        return report

    async def _holdings_of(self, deployment: Deployment, node: str) -> Mapping[int, Holding] | None:
        try:
            parts = await self._ask(deployment, node, "/holdings", LIST_TIMEOUT_S)
            held: dict[int, Holding] = {}
            for part in parts:
                for name, (objects, size_bytes) in part["buckets"].items():
                    bucket = int(name, 16)
                    known = held.get(bucket, Holding())
                    # Workers of a node may each have a copy in memory; the largest count is nearest to what the node holds.
                    held[bucket] = max(known, Holding(int(objects), int(size_bytes)), key=lambda one: one.size_bytes)
        except (NoAnswer, AttributeError, KeyError, TypeError, ValueError) as error:
            self._log.info("a cache does not say what it holds", of=node, error=repr(error))
            return None
        return held

    async def _ask(self, deployment: Deployment, node: str, path: str, timeout_s: float, body: Any = None) -> list[Any]:
        assert self._session is not None
        site = admin_site(self._identity, deployment, node)
        try:
            async with self._session.request(
                "GET" if body is None else "POST",
                f"{site.url}{path}",
                json=body,
                timeout=aiohttp.ClientTimeout(timeout_s),
                allow_redirects=False,
                **site.tls,
            ) as answer:
                content = await answer.read()
                if answer.status != 200:
                    raise NoAnswer(f"{node} answers {answer.status}: {content[:200].decode('utf-8', 'replace')}")
                parts = json.loads(content)["parts"]
        except TimeoutError as error:
            raise NoAnswer(f"{node} did not answer within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError) as error:
            raise NoAnswer(f"{node}: {error or type(error).__name__}") from error
        if not isinstance(parts, list):
            raise NoAnswer(f"{node}: an answer of another form")
        return parts
