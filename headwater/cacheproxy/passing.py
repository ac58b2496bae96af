"""Passing a request through to an ordinary site: methods that are not cacheable, with their bodies, and what they invalidate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final
from urllib.parse import urljoin, urlsplit

from aiohttp import web

from headwater.cacheproxy.delivery import relay
from headwater.cacheproxy.exchange import Exchange
from headwater.cacheproxy.fillregistry import Fills
from headwater.cacheproxy.gatewayerrors import gateway_error
from headwater.cacheproxy.metrics import FILL_TROUBLES
from headwater.cacheproxy.orders import client_fields, hop_fields
from headwater.cacheproxy.parents import Parent, ParentAnswer, ParentClient, ParentTrouble
from headwater.cacheproxy.roles import Refused
from headwater.cacheproxy.siblings import Message, Siblings
from headwater.cacheproxy.store import Store
from headwater.rules.cachestatus import CacheStatus, Outcome
from headwater.rules.fields import field
from headwater.rules.fill import FillTrouble
from headwater.rules.requesttarget import BadTarget, parse_target

# RFC 9110 section 9.2.1; every other method may change something (RFC 9111 section 4.4 counts unknown ones in).
SAFE_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"))
PASSING_PARENTS: Final = 1  # a request with effects is never sent twice


class Invalidation:
    """Makes objects of this node unusable, in every worker that answers in time, before it returns.

    One that does not is logged and counted (`headwater_worker_messages_total`); the client's answer does not wait for it.
    """

    MESSAGE: Final = "invalidate"

    def __init__(self, store: Store, fills: Fills, siblings: Siblings | None) -> None:
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

    async def _on_message(self, message: Message) -> None:
        await self._invalidate_here([str(key) for key in message["keys"]])

    async def _invalidate_here(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._fills.forget(key)
            await self._store.discard(key)


class Passing:
    """Streams a request to the first parent and its answer back."""

    def __init__(self, client: ParentClient, invalidation: Invalidation, token: str) -> None:
        self._client = client
        self._invalidation = invalidation
        self._token = token

    async def respond(self, exchange: Exchange, key: str, parents: tuple[Parent, ...]) -> web.StreamResponse:
        """Answers the exchange with the parent's answer to this very request. Raises Refused."""
        assert exchange.site is not None
        if exchange.method == "CONNECT":
            raise Refused(405, "method_not_allowed", "this is no tunnel")
        parent = parents[0]
        exchange.outcome, exchange.parent = Outcome.PASS, parent.name
        fields = (*client_fields(exchange), *hop_fields(exchange, self._token, parents))
        path = key.removeprefix(exchange.site.name)
        body = _body_of(exchange.request)
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
            exchange.cache_status = CacheStatus(exchange.node, Outcome.PASS, fwd_status=answer.status)
            return await relay(exchange, answer)
        finally:
            answer.close()

    async def _invalidate(self, exchange: Exchange, key: str, answer: ParentAnswer) -> None:
        """RFC 9111 section 4.4: the URL itself, and what Location and Content-Location name on the same host."""
        assert exchange.site is not None
        assert exchange.target is not None
        base = f"http://{exchange.request.headers.get('Host', '')}{exchange.target.path}"
        keys = {key}
        for name in ("location", "content-location"):
            reference = urlsplit(urljoin(base, field(answer.fields, name) or ""))
            if field(answer.fields, name) is not None and reference.netloc == urlsplit(base).netloc:
                try:
                    target = parse_target(f"{reference.path}?{reference.query}" if reference.query else reference.path)
                except BadTarget:
                    continue
                keys.add(f"{exchange.site.name}{target.path}{'?' + target.query if target.query else ''}")
        await self._invalidation.invalidate(keys)


def _body_of(request: web.BaseRequest) -> AsyncIterator[bytes] | None:
    return request.content.iter_any() if request.can_read_body else None
