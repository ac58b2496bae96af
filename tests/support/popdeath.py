"""Kills a POP under simulated viewers and counts the plays that fail: how long they may, and that none does afterwards.

A play here is harsher than a player: it asks the first address of its DNS answer, keeps that for the whole TTL, and has failed at
the first refused connection, though players would try the next address or pathway.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import dns.asyncquery
import dns.edns
import dns.message
import dns.rdatatype

from tests.support.lab import Lab

PLAY_TIMEOUT_S = 2.0
LOOK_S = 0.02


@dataclass(slots=True)
class Death:
    """What one death cost. Times are seconds after the kill; `ttl_s` is that of the answers before it."""

    edge: str
    ttl_s: float
    health_delay_s: float = 0.0
    plays: int = 0
    failed_at: list[float] = field(default_factory=list)  # when the plays that failed began

    @property
    def bound_s(self) -> float:
        """From here on nobody is sent to the dead POP: control knew, and the last answer before that has run out."""
        return self.health_delay_s + self.ttl_s

    @property
    def failed_after_bound(self) -> list[float]:
        return [at for at in self.failed_at if at > self.bound_s]

    def line(self) -> str:
        last = f"{max(self.failed_at):.1f} s" if self.failed_at else "none"
        return (
            f"{self.edge}: health delay {self.health_delay_s:.1f} s + TTL {self.ttl_s:.0f} s; {self.plays} plays, "
            f"{len(self.failed_at)} failed within it (the last began at {last}), {len(self.failed_after_bound)} after it"
        )


async def answer(lab: Lab, name: str, subnet: str) -> tuple[list[str], float]:
    """(addresses, TTL) that the DNS gives to viewers of a network."""
    query = dns.message.make_query(name, "A", use_edns=0, options=[dns.edns.ECSOption.from_text(subnet)])
    listen = lab.deployment.dns.listen
    reply = await dns.asyncquery.udp(query, listen.host, port=listen.port, timeout=5)
    records = [rrset for rrset in reply.answer if rrset.rdtype == dns.rdatatype.A]
    return [str(record) for rrset in records for record in rrset], float(records[0].ttl)


async def kill_pop(lab: Lab, edge: str, subnet: str, video_id: str, *, viewers: int, after_s: float) -> Death:
    """Kills `edge`, the only one of its POP, while `viewers` play, and watches until `after_s` beyond the bound."""
    playback = await lab.ask(f"/api/v1/videos/{video_id}/playback", params={"via": "dns"})
    url = urlsplit(playback["hls"])
    host = str(url.hostname)
    addresses, ttl_s = await answer(lab, host, subnet)
    dead = lab.edges[edge].host
    assert addresses[0] == dead, f"viewers of {subnet} are sent to {addresses}"
    death = Death(edge, ttl_s)
    over = asyncio.Event()
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    timeout = aiohttp.ClientTimeout(PLAY_TIMEOUT_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        killed: list[float] = []

        async def view(number: int) -> None:
            kept, until = "", 0.0
            while not over.is_set():
                if time.monotonic() >= until:
                    found, ttl = await answer(lab, host, subnet)
                    kept, until = found[0], time.monotonic() + ttl
                began = time.monotonic()
                failed = not await _plays(http, kept, url.port or 80, url.path, f"{host}:{url.port}")
                if killed:
                    death.plays += 1
                    if failed:
                        death.failed_at.append(began - killed[0])
                assert killed or not failed, "a play failed before anything died"
                await asyncio.sleep(0.1 + number % 7 / 50)

        watching = [asyncio.create_task(view(number)) for number in range(viewers)]
        try:
            await asyncio.sleep(1.0)  # every viewer holds an answer of its own moment
            killed.append(time.monotonic())
            await lab.kill(edge)
            async with asyncio.timeout(60):
                while (await answer(lab, host, subnet))[0][0] == dead:  # noqa: ASYNC110 - another process's answer
                    await asyncio.sleep(LOOK_S)
            death.health_delay_s = time.monotonic() - killed[0]
            await asyncio.sleep(ttl_s + after_s)
        finally:
            over.set()
            results = await asyncio.gather(*watching, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return death


async def _plays(http: aiohttp.ClientSession, address: str, port: int, path: str, host: str) -> bool:
    """Whether the master playlist and what it names first can be fetched."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with http.get(f"http://{address}:{port}{path}", headers={"Host": host}) as answered:
            if answered.status != 200:
                return False
            text = await answered.text()
        rung = next(line for line in text.splitlines() if line and not line.startswith("#"))
        below = path.rpartition("/")[0]
        async with http.get(f"http://{address}:{port}{below}/{rung}", headers={"Host": host}) as answered:
            return answered.status == 200
    return False
