"""The other workers of this node: the owner of a key as first parent of its fills, and messages that reach every process.

A worker that has not got an object asks the owner over its Unix socket, as it would ask a parent; the owner collapses what all
workers ask. An owner that is gone costs one refused connection: the real parents stand behind it in the same order.
The owner's answer is the node's own: it names no tier of its own, but says in OUTCOME_FIELD how it came by the object.
"""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.parents import Parent
from headwater.cacheproxy.metrics import WORKER_MESSAGES
from headwater.cacheproxy.roles import PROPERTY_HEADER, ClientAddress, Passage, Refused, Role, Site
from headwater.cacheproxy.store.shares import Share
from headwater.rules.fields import field, without
from headwater.rules.requesttarget import Target
from headwater.runtime import workerplace
from headwater.runtime.httpsite import Handler
from headwater.runtime.logs import Log
from headwater.runtime.workerplace import CALL_HEADER, CALL_TELL, place_socket, process_sockets
from headwater.settings.snapshot import Snapshot

TELL_TIMEOUT_S: Final = 5.0
_NOBODY_THERE: Final = frozenset((errno.ECONNREFUSED, errno.ENOENT))  # whatever else a connection fails by, somebody may be

Message = dict[str, Any]
OnMessage = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Acknowledgements:
    """What became of a message: `heard` processes carried it out, `failed` ones run but gave no good answer in time. Processes
    that have ended are neither: they serve nothing."""

    heard: int
    failed: int

    @property
    def complete(self) -> bool:
        return self.failed == 0


class Siblings:
    """One worker's way to the others. `own_socket` is where this process answers them."""

    def __init__(self, share: Share, folder: Path, own_socket: Path, log: Log) -> None:
        self._share = share
        self._folder = folder
        self._own_socket = own_socket
        self._log = log
        self._handlers: dict[str, OnMessage] = {}

    def owner_of(self, key: str, site: Site) -> Parent | None:
        """The worker to ask for `key`; None when it is this one."""
        owner = self._share.owner(key)
        if owner == self._share.index:
            return None
        name = f"worker-{owner}"
        adds = ((PROPERTY_HEADER, site.name),)
        return Parent(name, f"http://{name}", adds=adds, socket=str(place_socket(self._folder, owner)))

    def on_message(self, kind: str, handler: OnMessage) -> None:
        """`handler` carries out messages whose "kind" this is; the acknowledgement follows when it returns."""
        self._handlers[kind] = handler

    async def tell(self, message: Message) -> Acknowledgements:
        """Sends a message to every other process of the node, also to those that drain, and waits for their answers."""
        try:
            others = [path for path in await asyncio.to_thread(process_sockets, self._folder) if path != self._own_socket]
        except OSError as error:  # no file left to look with: whoever there is did not hear it
            self._log.warning("the other workers were not found", error=repr(error))
            WORKER_MESSAGES.labels("failed").inc()
            return Acknowledgements(0, 1)
        answers = await asyncio.gather(*(self._tell_one(path, message) for path in others))
        return Acknowledgements(answers.count("heard"), answers.count("failed"))

    async def heard(self, message: Message) -> None:
        """Carries out a message of another worker. Raises KeyError when its kind is unknown."""
        await self._handlers[message["kind"]](message)

    async def _tell_one(self, path: Path, message: Message) -> str:
        outcome = "failed"
        try:
            async with (
                aiohttp.ClientSession(
                    connector=aiohttp.UnixConnector(str(path)), timeout=aiohttp.ClientTimeout(TELL_TIMEOUT_S), trust_env=False
                ) as session,
                session.post("http://worker/", json=message, headers={CALL_HEADER: CALL_TELL}) as answer,
            ):
                outcome = "heard" if answer.status == 204 else "failed"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _NOBODY_THERE:
                outcome = "ended"
            else:
                self._log.warning("another worker did not take a message", socket=path.name, error=repr(error))
        WORKER_MESSAGES.labels(outcome).inc()
        return outcome


class SiblingRole:
    """What `role` is to clients, for requests of other workers, which have admitted and authorised their client already."""

    def __init__(self, role: Role) -> None:
        self.tier = role.tier
        self._role = role

    def admit(self, request: web.BaseRequest, target: Target, snapshot: Snapshot) -> Site:
        name = request.headers.get(PROPERTY_HEADER, "")
        settings = snapshot.deployment.properties.get(name)
        if settings is None:  # 403: the asker goes on to the real parents, as its snapshot knows the property
            raise Refused(403, "property_unknown", f"this worker's snapshot has no property {name[:40]!r}")
        return Site(name, settings)

    def authorise(
        self, request: web.BaseRequest, target: Target, site: Site, snapshot: Snapshot, client: ClientAddress, now: float
    ) -> Passage:
        return Passage(target.path, "worker")

    def parents(self, key: str, site: Site, snapshot: Snapshot) -> tuple[Parent, ...]:
        return self._role.parents(key, site, snapshot)


def as_of_this_node(exchange: Exchange) -> None:
    """Takes this node's own hop, which the asking worker wrote, out of the request: there is one hop per node."""
    fields = without(exchange.fields, ("via", "cdn-loop"))
    for name, own in (("Via", f"1.1 {exchange.node}"), ("CDN-Loop", exchange.node)):
        members = [member.strip() for member in (field(exchange.fields, name) or "").split(",")]
        if members[-1] == own:
            members.pop()
        if value := ", ".join(member for member in members if member):
            fields = (*fields, (name, value))
    exchange.fields = fields
    exchange.for_worker = True


class WorkerCalls:
    """The socket of one worker: objects for other workers, messages of theirs, and the parent's word to take over the disk."""

    def __init__(self, siblings: Siblings, serve: Handler, take_over: Callable[[], Awaitable[None]]) -> None:
        self._siblings = siblings
        self._serve = serve
        self._take_over = take_over

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.headers.get(CALL_HEADER):
            case None:
                return await self._serve(request)
            case workerplace.CALL_TAKE_OVER:
                await self._take_over()
                return web.Response(status=204)
            case workerplace.CALL_TELL:
                return await self._hear(request)
            case _:
                return web.Response(status=404)

    async def _hear(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            await self._siblings.heard(json.loads(await request.read()))
        except (ValueError, KeyError, TypeError) as error:
            return web.Response(status=400, text=repr(error))
        return web.Response(status=204)
