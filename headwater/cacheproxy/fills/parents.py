"""Asking a parent: one HTTP request, its failures mapped once to `FillTrouble`."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

import aiohttp
from yarl import URL

from headwater.cacheproxy.fills.interim import OnInterim, ResponseWithInterim, on_interim_response
from headwater.rules.fields import Fields, well_formed
from headwater.rules.fill import FillTrouble
from headwater.runtime.enrolment.identity import Identity
from headwater.runtime.problems import PROBLEM_JSON
from headwater.runtime.shortage import is_own_shortage
from headwater.runtime.tls import ParentCertificate
from headwater.settings.cache import CacheSettings

READ_BUFFER_BYTES = 512 * 1024
MAX_HEADER_BYTES = 32 * 1024
# Between the workers of one node: how the owner of a key came by its answer, and (of a problem) which trouble it had.
OUTCOME_FIELD = "Headwater-Outcome"
TROUBLE_FIELD = "Headwater-Trouble"
_PARENT_AT_FAULT = frozenset((FillTrouble.CONNECT, FillTrouble.NO_HEADER, FillTrouble.STALLED, FillTrouble.RESET))


@dataclass(frozen=True, slots=True)
class Parent:
    """The node to ask: its name (for logs and Cache-Status) and base URL; `ours` is a tier of this deployment, which may have
    a `secure_url` for those that hold a certificate of their own.

    A `socket` (the path of a Unix socket) leads to another worker of this very node; `adds` are fields for this parent only; with
    `tls` it is asked by that, at its `url`, and has to be `name` by its certificate.
    """

    name: str
    url: str
    ours: bool = True
    secure_url: str | None = None
    adds: Fields = ()
    socket: str | None = None
    tls: ssl.SSLContext | None = None


class ParentTrouble(Exception):
    """The parent failed this request."""

    def __init__(self, trouble: FillTrouble, detail: str) -> None:
        super().__init__(f"{trouble}: {detail}")
        self.trouble = trouble


class ParentAnswer:
    """A parent's header, and its body while it arrives."""

    def __init__(self, response: aiohttp.ClientResponse, stall_timeout_s: float) -> None:
        self._response = response
        self._stall_timeout_s = stall_timeout_s
        self.status = response.status
        self.fields: Fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers)
        # RFC 9112 section 6.3: these have no body whatever their fields say.
        self.length = 0 if response.status in (204, 304) else response.content_length
        self.reason = response.reason
        self.framed = self.length is not None or response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        self.ended = False  # the body came to its end in order
        self.tap: Callable[[bytes], None] | None = None  # sees each chunk before whoever reads the body
        # aiohttp takes any loss of the connection for the end of a body that only the connection's end delimits.
        self._lost = None if self.framed else _loss_of(response)

    def of_owner(self, name: str) -> str | None:
        """What the worker that owns the key says for the asking worker only."""
        return self._response.headers.get(name)

    @property
    def refuses_this_node(self) -> bool:
        """A parent of ours that does not serve us; no answer about the object."""
        return self.status == 403 and self._response.content_type == PROBLEM_JSON

    async def body(self) -> AsyncIterator[bytes]:
        """Chunks as they arrive. Raises ParentTrouble when they stop coming or end too early."""
        content = self._response.content
        while True:
            try:
                async with asyncio.timeout(self._stall_timeout_s):
                    chunk = await content.readany()
            except TimeoutError as error:
                raise ParentTrouble(FillTrouble.STALLED, f"no byte for {self._stall_timeout_s} s") from error
            except aiohttp.ClientPayloadError as error:
                raise ParentTrouble(FillTrouble.SHORT, str(error)) from error
            except (aiohttp.ClientError, OSError) as error:
                raise ParentTrouble(FillTrouble.RESET, repr(error)) from error
            if not chunk:
                if (loss := self._loss()) is not None:
                    raise ParentTrouble(FillTrouble.RESET, repr(loss))
                self.ended = True
                return
            if self.tap is not None:
                self.tap(chunk)
            yield chunk

    def _loss(self) -> BaseException | None:
        lost = self._lost
        return lost.exception() if lost is not None and lost.done() and not lost.cancelled() else None

    def close(self) -> None:
        """Ends the exchange; the connection is kept only when the body was read to its end."""
        self._response.release() if self._response.content.at_eof() else self._response.close()


async def _timed(body: AsyncIterable[bytes], waiting: asyncio.Timeout, timeout_s: float) -> AsyncIterator[bytes]:
    """The body on its way to a parent, which has `timeout_s` to take each piece, and again to answer when it has all. While the
    client is waited for nothing is held against the parent."""

    def begin_anew(seconds: float | None) -> None:
        with suppress(RuntimeError):  # it has answered already, before the body's end
            waiting.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)

    begin_anew(None)
    async for piece in body:
        begin_anew(timeout_s)
        yield piece
        begin_anew(None)
    begin_anew(timeout_s)


def _loss_of(response: aiohttp.ClientResponse) -> asyncio.Future[None] | None:
    """How the response's connection ended, once it has: with an exception when it was not closed in order."""
    protocol = response.connection.protocol if response.connection is not None else None
    lost = protocol.closed if protocol is not None else None
    if lost is not None:
        lost.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, though nobody may ask for it
    return lost


class ParentClient:
    """Connections to all parents of a node. A parent that failed is asked last for a while."""

    def __init__(self, settings: CacheSettings, tls: ParentCertificate | None = None, identity: Identity | None = None) -> None:
        self._settings = settings
        self.identity = identity
        self._tls = tls
        self._down_until: dict[str, float] = {}
        self._unreachable_until: dict[str, float] = {}
        self._session = self._session_over(
            aiohttp.TCPConnector(limit=0, limit_per_host=settings.parent_connections, keepalive_timeout=30)
        )
        self._workers: dict[str, aiohttp.ClientSession] = {}

    def _session_over(self, connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
        settings = self._settings
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout),
            auto_decompress=False,
            response_class=ResponseWithInterim,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def __aenter__(self) -> ParentClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for session in (self._session, *self._workers.values()):
            await session.close()

    def by_readiness(self, parents: Sequence[Parent]) -> tuple[Parent, ...]:
        """The parents in their order, those that failed of late last."""
        now = time.monotonic()
        return tuple(sorted(parents, key=lambda parent: self._down_until.get(parent.name, 0.0) > now))

    def troubles(self) -> dict[str, str]:
        """The parents that real requests did not reach of late, with what to say of them. One that was late or broke off is not
        among them: whoever it asked itself may have been, and a site that is slow must not take a healthy node out."""
        now = time.monotonic()
        return {name: "requests to it did not reach it of late" for name, until in self._unreachable_until.items() if until > now}

    def failed_of_late(self, parent: Parent) -> bool:
        return self._down_until.get(parent.name, 0.0) > time.monotonic()

    async def ask(
        self,
        parent: Parent,
        path: str,
        fields: Fields,
        *,
        method: str = "GET",
        body: AsyncIterable[bytes] | None = None,
        on_interim: OnInterim | None = None,
    ) -> ParentAnswer:
        """Sends the request and waits for the header. Raises ParentTrouble. The caller closes the answer."""
        on_interim_response.set(on_interim)
        base, tls = parent.url, parent.tls
        if parent.ours and self._tls is not None and parent.secure_url is not None:
            base, tls = parent.secure_url, parent.tls or self._tls.context
        try:
            async with asyncio.timeout(self._settings.first_byte_timeout) as waiting:
                response = await self._session_to(parent).request(
                    method,
                    URL(base + path, encoded=True),
                    headers=(*parent.adds, *fields),
                    data=None if body is None else _timed(body, waiting, self._settings.first_byte_timeout),
                    allow_redirects=False,
                    # Certificates of our own tiers name nodes: addresses move, and one name serves every listener.
                    ssl=True if tls is None else tls,
                    server_hostname=None if tls is None else parent.name,
                )
        except aiohttp.ClientConnectorError as error:
            trouble = FillTrouble.NO_SOCKET if is_own_shortage(error) else FillTrouble.CONNECT
            raise self._failed(parent, trouble, error) from error
        except TimeoutError as error:  # aiohttp's connect timeout is one too
            connecting = isinstance(error, aiohttp.ServerTimeoutError)
            raise self._failed(parent, FillTrouble.CONNECT if connecting else FillTrouble.NO_HEADER, error) from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed(parent, FillTrouble.RESET, error) from error
        except ValueError as error:
            raise ParentTrouble(FillTrouble.BAD_RESPONSE, repr(error)) from error
        answer = ParentAnswer(response, self._settings.stall_timeout)
        if answer.status < 200 or not well_formed(answer.fields):  # 101: no upgrade was asked for
            response.close()
            raise ParentTrouble(FillTrouble.BAD_RESPONSE, f"{parent.name}: no answer that can be passed on")
        return answer

    def remember(self, parent: Parent, trouble: FillTrouble) -> None:
        """A trouble that shows the parent itself to be down puts it last for a while."""
        if parent.socket is not None and trouble is not FillTrouble.NO_HEADER:
            return  # a worker that restarts is back in a second, and until then refuses at no cost
        if trouble in _PARENT_AT_FAULT:
            until = self._down_until[parent.name] = time.monotonic() + self._settings.parent_down
            if trouble is FillTrouble.CONNECT:
                self._unreachable_until[parent.name] = until

    def _session_to(self, parent: Parent) -> aiohttp.ClientSession:
        if parent.socket is None:
            return self._session
        session = self._workers.get(parent.socket)
        if session is None:
            connector = aiohttp.UnixConnector(parent.socket, limit=0, keepalive_timeout=30)
            session = self._workers[parent.socket] = self._session_over(connector)
        return session

    def _failed(self, parent: Parent, trouble: FillTrouble, error: Exception) -> ParentTrouble:
        self.remember(parent, trouble)
        return ParentTrouble(trouble, f"{parent.name}: {error!r}")
