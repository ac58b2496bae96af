"""Names to addresses as a viewer's resolver finds them: our DNS, asked with the client subnet; answers are kept for their TTL."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Final

import dns.asyncquery
import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from headwater.settings.units import Address
from loadtest.failures import Cause, RequestFailed

ASK_TIMEOUT_S: Final = 1.5
ASKS: Final = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses, best first."""

    addresses: tuple[str, ...]
    expires_at: float


class Names:
    """The resolver of all viewers. `clock` gives monotonic seconds."""

    def __init__(self, server: Address, clock: Callable[[], float], took: Callable[[float], None]) -> None:
        self._server = server
        self._clock = clock
        self._took = took
        self._answers: dict[tuple[str, str], Answer] = {}

    async def addresses(self, host: str, client: IPv4Network | IPv6Network, *, anew: bool = False) -> tuple[str, ...]:
        """Addresses of `host` for viewers of `client`, from memory unless `anew`. Raises RequestFailed."""
        try:
            return (str(ipaddress.ip_address(host)),)  # the playback API was asked by address
        except ValueError:
            pass
        place = (host, str(client))
        kept = self._answers.get(place)
        if kept is not None and not anew and self._clock() < kept.expires_at:
            return kept.addresses
        answer = await self._ask(host, client)
        self._answers[place] = answer
        return answer.addresses

    async def _ask(self, host: str, client: IPv4Network | IPv6Network) -> Answer:
        subnet = dns.edns.ECSOption(str(client.network_address), client.prefixlen)
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            reply = await self._reply(dns.message.make_query(host, kind, use_edns=0, options=[subnet]))
            addresses: list[str] = []
            ttl_s = 0
            for rrset in reply.answer:
                if rrset.rdtype == kind:
                    addresses += [record.address for record in rrset]
                    ttl_s = rrset.ttl
            if addresses:
                return Answer(tuple(addresses), self._clock() + ttl_s)
        raise RequestFailed(Cause.NAME_EMPTY, f"{host} has no address for {client}")

    async def _reply(self, question: dns.message.Message) -> dns.message.Message:
        reply: dns.message.Message | None = None
        for _ in range(ASKS):
            started = self._clock()
            try:
                reply, _used_tcp = await dns.asyncquery.udp_with_fallback(
                    question, self._server.host, timeout=ASK_TIMEOUT_S, port=self._server.port
                )
            except (dns.exception.DNSException, OSError, EOFError, asyncio.IncompleteReadError):
                continue
            self._took(self._clock() - started)
            break
        if reply is None:
            raise RequestFailed(Cause.NAME_TIMEOUT, f"no answer from the DNS at {self._server}")
        if reply.rcode() != dns.rcode.NOERROR:
            name = question.question[0].name
            raise RequestFailed(Cause.NAME_REFUSED, f"the DNS answers {dns.rcode.to_text(reply.rcode())} for {name}")
        return reply
