"""One viewer's HTTP: to a resolved address, with the URL's host in the Host header, and on to the next address when it fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
import time
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from loadtest.cachesteps import CacheStep, cache_steps
from loadtest.failures import Cause, RequestFailed, cause_of_status
from loadtest.measures import Measures
from loadtest.names import Names

# A segment of the highest rung has some 4 MB: more than this is no segment.
MAX_BODY_BYTES: Final = 64 * 2**20
PAUSE_BETWEEN_ROUNDS_S: Final = 0.25
_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole, checked body. `took_s` is the transfer from the request's start."""

    body: bytes
    took_s: float
    steps: tuple[CacheStep, ...]


class Fetcher:
    """What one viewer fetches with."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        names: Names,
        measures: Measures,
        *,
        network: IPv4Network | IPv6Network,
        timeout_s: float,
        attempts: int,
        allow_remote: bool,
    ) -> None:
        self._session = session
        self._names = names
        self._measures = measures
        self._network = network
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._allow_remote = allow_remote

    async def fetch(self, url: str) -> Fetched:
        """The body at `url`, from the best address that gives it. Raises RequestFailed with the last failure.

        The addresses of the answer are tried in order; when all failed, the name is asked anew: steering may have noticed.
        """
        tried: set[str] = set()
        anew = False
        for attempt in range(1, self._attempts + 1):
            try:
                addresses = await self._names.addresses(urlsplit(url).hostname or "", self._network, anew=anew)
                anew = False
                address = next((one for one in addresses if one not in tried), addresses[0])
                tried.add(address)
                anew = tried.issuperset(addresses)
                fetched = await self._fetch_from(address, url)
            except RequestFailed as failed:
                if attempt == self._attempts or not failed.again:
                    raise
                self._measures.retried(failed.cause)
                if anew or not tried:
                    tried.clear()
                    await asyncio.sleep(PAUSE_BETWEEN_ROUNDS_S)
            else:
                self._measures.fetched(url, len(fetched.body), fetched.took_s, fetched.steps)
                return fetched
        raise AssertionError("a loop over at least one attempt returns or raises")

    async def _fetch_from(self, address: str, url: str) -> Fetched:
        require_allowed(address, self._allow_remote)
        parts = urlsplit(url)
        host = f"[{address}]" if ":" in address else address
        netloc = host if parts.port is None else f"{host}:{parts.port}"
        target = URL(parts._replace(netloc=netloc).geturl(), encoded=True)
        named = parts.hostname if parts.scheme == "https" else None
        started = time.monotonic()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._session.get(target, headers={"Host": parts.netloc}, server_hostname=named, allow_redirects=False) as answer,
            ):
                self._measures.first_byte(time.monotonic() - started)
                if answer.status != 200:
                    raise RequestFailed(cause_of_status(answer.status), f"{answer.status} for {parts.path}")
                body = await _whole(answer)
        except TimeoutError as error:
            raise RequestFailed(Cause.TIMEOUT, f"{parts.path} took more than {self._timeout_s:g} s") from error
        except aiohttp.ClientConnectorError as error:
            raise RequestFailed(Cause.CONNECT, f"{address}: {error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise RequestFailed(Cause.CUT_OFF, f"{parts.path} from {address}: {error!r}") from error
        _require_intact(body, answer.headers.get("Repr-Digest"), parts.path)
        return Fetched(body, time.monotonic() - started, cache_steps(", ".join(answer.headers.getall("Cache-Status", []))))


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    """The body; aiohttp raises ClientPayloadError when it is shorter than declared."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestFailed(Cause.TOO_LARGE, f"more than {MAX_BODY_BYTES} bytes", again=False)
    return bytes(body)


def _require_intact(body: bytes, digest_field: str | None, path: str) -> None:
    """Compares with `Repr-Digest` (RFC 9530), if it is given."""
    match = _SHA256.search(digest_field or "")
    if match is not None and base64.b64encode(hashlib.sha256(body).digest()).decode() != match[1]:
        raise RequestFailed(Cause.DAMAGED, f"{path} is not what its Repr-Digest says")


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_allowed(host: str, allow_remote: bool) -> None:
    """A load test of somebody else's machines is an attack: without leave, only loopback is asked. Raises RequestFailed."""
    if not allow_remote and not is_loopback(host):
        raise RequestFailed(Cause.REMOTE, f"{host} is not on this machine; --allow-remote permits it", again=False)
