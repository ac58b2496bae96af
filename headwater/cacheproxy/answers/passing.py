"""Passing a request through to an ordinary site: methods that are not cacheable, with their bodies, and what they invalidate."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urljoin, urlsplit

from aiohttp import web

from headwater.cacheproxy.answers.delivery import relay
from headwater.cacheproxy.answers.gatewayerrors import gateway_error
from headwater.cacheproxy.answers.postkeeping import PostKeeping, may_answer_gets
from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fills.fillregistry import Fills
from headwater.cacheproxy.fills.orders import client_fields, hop_fields
from headwater.cacheproxy.fills.parents import Parent, ParentAnswer, ParentClient, ParentTrouble
from headwater.cacheproxy.metrics import FILL_TROUBLES
from headwater.cacheproxy.roles import Refused
from headwater.cacheproxy.siblings import Message, Siblings
from headwater.cacheproxy.store.store import Store
from headwater.rules.cachestatus import CacheStatus, Forwarded, Outcome
from headwater.rules.fields import directives, end_to_end, field
from headwater.rules.fill import FillTrouble
from headwater.rules.requesttarget import parse_target

# RFC 9110 section 9.2.1; every other method may change something (RFC 9111 section 4.4 counts unknown ones in).
SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"))
OWN_INVALIDATION: Final = 1  # each request with effects invalidates its own URL once


@dataclass(slots=True, eq=False)
class Watch:
    """How often the object `key` was invalidated since it is watched."""

    key: str
    count: int = 0


class Invalidation:
    """Makes objects of this node unusable, in every worker that answers in time, before it returns.

    One that does not is logged and counted (`headwater_worker_messages_total`); the client's answer does not wait for it.
    """

    MESSAGE: Final = "invalidate"

    def __init__(self, store: Store, fills: Fills, siblings: Siblings | None) -> None:
        self._watches: set[Watch] = set()
        self._store = store
        self._fills = fills
        self._siblings = siblings
        if siblings is not None:
            siblings.on_message(self.MESSAGE, self._on_message)

    async def invalidate(self, keys: Iterable[str]) -> None:
        keys = sorted(keys)
        await self._invalidate_here(keys)
        if self._siblings is not None:
            await self._siblings.tell({"kind": self.MESSAGE, "keys": keys})

    @contextmanager
    def watching(self, key: str) -> Iterator[Watch]:
        """Counts the invalidations of `key` while the context lasts."""
        watch = Watch(key)
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def _on_message(self, message: Message) -> None:
        await self._invalidate_here([str(key) for key in message["keys"]])

    async def _invalidate_here(self, keys: Iterable[str]) -> None:
        for key in keys:
            for watch in self._watches:
                watch.count += watch.key == key
            self._fills.forget(key)
            _, held = await self._store.peek(key)
            await self._store.discard(key)
            if held is not None and held.is_head:
                await self._fills.leave(held)


class Passing:
    """Streams a request to the first parent and its answer back."""

    def __init__(self, client: ParentClient, invalidation: Invalidation, store: Store, token: str) -> None:
        self._client = client
        self._store = store
        self._invalidation = invalidation
        self._token = token

    async def respond(self, exchange: Exchange, key: str, parents: tuple[Parent, ...]) -> web.StreamResponse:
        """Answers the exchange with the parent's answer to this very request. Raises Refused."""
        with self._invalidation.watching(key) as watch:
            return await self._respond(exchange, key, parents, watch)

    async def _respond(self, exchange: Exchange, key: str, parents: tuple[Parent, ...], watch: Watch) -> web.StreamResponse:
        assert exchange.site is not None
        if exchange.method == "CONNECT":
            raise Refused(405, "method_not_allowed", "this is no tunnel")
        parent = parents[0]
        exchange.outcome, exchange.parent = Outcome.PASS, parent.name
        fields = (*client_fields(exchange), *hop_fields(exchange, self._token, parents))
        path = key.removeprefix(exchange.site.name)
        body = _body_of(exchange)
        asked_at, accounted = time.time(), self._store.purges.sequence
        try:
            answer = await self._client.ask(
                parent, path, fields, method=exchange.method, body=body, on_interim=exchange.forward_interim
            )
        except ParentTrouble as error:
            FILL_TROUBLES.labels(error.trouble).inc()
            raise gateway_error(error.trouble) from error
        try:
            if answer.refuses_this_node and parent.ours:
                raise gateway_error(FillTrouble.REFUSED)
            if exchange.method not in SAFE_METHODS and answer.status < 400:
                await self._invalidate(exchange, key, answer)
            forwarded = Forwarded.BYPASS if exchange.method in ("GET", "HEAD") else Forwarded.METHOD
            exchange.cache_status = CacheStatus(exchange.node, Outcome.PASS, fwd_status=answer.status, forwarded=forwarded)
            if not _may_keep(exchange, key, answer):
                return await relay(exchange, answer)
            keeping = PostKeeping(self._store, key, answer, asked_at, accounted)
            return await _relay_and_keep(exchange, answer, keeping, watch)
        finally:
            answer.close()

    async def _invalidate(self, exchange: Exchange, key: str, answer: ParentAnswer) -> None:
        """RFC 9111 section 4.4: the URL itself, and what Location and Content-Location name on the same host."""
        keys = {key, *(named for name in ("location", "content-location") if (named := _key_named(exchange, answer, name)))}
        await self._invalidation.invalidate(keys)


async def _relay_and_keep(exchange: Exchange, answer: ParentAnswer, keeping: PostKeeping, watch: Watch) -> web.StreamResponse:
    answer.tap = keeping.take
    try:
        response = await relay(exchange, answer)
        # Another request may have changed the object, perhaps after this one did.
        await keeping.keep(lambda: watch.count <= OWN_INVALIDATION)
        return response
    finally:
        keeping.close()


def _may_keep(exchange: Exchange, key: str, answer: ParentAnswer) -> bool:
    if exchange.method != "POST" or "no-store" in directives(field(exchange.fields, "cache-control")):
        return False
    of_target = _key_named(exchange, answer, "content-location") == key
    authorized = field(exchange.fields, "authorization") is not None
    fields = end_to_end(answer.fields)
    return may_answer_gets("POST", answer.status, fields, of_target=of_target, authorized=authorized, now=exchange.now)


def _key_named(exchange: Exchange, answer: ParentAnswer, name: str) -> str | None:
    """The key of the URL in the answer's field `name`, where that is one of the same host."""
    assert exchange.site is not None
    assert exchange.target is not None
    query = f"?{exchange.target.query}" if exchange.target.query else ""
    base = f"http://{exchange.request.headers.get('Host', '')}{exchange.target.path}{query}"
    value = field(answer.fields, name)
    if value is None:
        return None
    try:
        reference = urlsplit(urljoin(base, value))
        if reference.netloc != urlsplit(base).netloc:
            return None
        target = parse_target(f"{reference.path}?{reference.query}" if reference.query else reference.path)
    except ValueError:  # BadTarget among them: whatever it says, it is no object of ours
        return None
    return f"{exchange.site.name}{target.path}{'?' + target.query if target.query else ''}"


def _body_of(exchange: Exchange) -> AsyncIterator[bytes] | None:
    return _body(exchange) if exchange.request.can_read_body else None


async def _body(exchange: Exchange) -> AsyncIterator[bytes]:
    """A client may wait to be asked for it (RFC 9110 section 10.1.1); that is done when the parent takes it."""
    if (field(exchange.fields, "expect") or "").lower() == "100-continue":
        exchange.forward_interim(HTTPStatus.CONTINUE, ())
    async for chunk in exchange.request.content.iter_any():
        yield chunk
