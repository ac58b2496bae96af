"""Answers to POST that later GETs may have (RFC 9110 section 9.3.3): they tell how long, and that they are the target itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from headwater.cacheproxy.fills.parents import ParentAnswer
from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store
from headwater.rules.fields import Fields, end_to_end
from headwater.rules.fields import field as value_of
from headwater.rules.freshness import Storability, dated, has_explicit_lifetime, storability, stored_fields
from headwater.rules.purging import Coverage


@dataclass(slots=True)
class PostKeeping:
    """Collects the body of one answer on its way to the client, within the memory that the store sets aside for it; `keep` then
    stores it under the key of the URL. `accounted` are the purges before the request."""

    store: Store
    key: str
    answer: ParentAnswer
    request_time: float
    accounted: int
    _chunks: list[bytes] = field(default_factory=list)
    _reserved: int = 0
    _given_up: bool = False

    def take(self, chunk: bytes) -> None:
        """Of an answer that is larger than a fill may hold in memory nothing is kept."""
        if self._given_up:
            return
        if self._reserved + len(chunk) > self.store.in_ram_bytes or not self.store.reserve_ram(len(chunk)):
            self._given_up = True
            self.close()
            return
        self._reserved += len(chunk)
        self._chunks.append(chunk)

    def close(self) -> None:
        self.store.release_ram(self._reserved)
        self._reserved = 0
        self._chunks.clear()

    async def keep(self, still_holds: Callable[[], bool]) -> None:
        """Stores what the client got, if that was everything and `still_holds`, and nothing that was asked for later is here
        already. Only the worker that owns the key can tell: all others' fills of it go through that one."""
        if self._given_up or not self.answer.ended or not self.answer.framed or not self.store.share.owns(self.key):
            return
        now, body = time.time(), b"".join(self._chunks)
        fields = dated(end_to_end(self.answer.fields), now)
        if self.store.purges.of_fill(self.key, fields, self.accounted) is Coverage.GONE:
            return
        fields = stored_fields(fields)
        _, held = await self.store.peek(self.key)
        in_ram = self.store.in_ram(self.key)  # whatever came while the disk was looked at
        for newer in (held, in_ram.metadata if in_ram else None):
            if newer is not None and newer.request_time >= self.request_time:
                return
        if not still_holds():
            return
        self.close()
        await self.store.put_bytes(
            Metadata(self.key, self.answer.status, fields, len(body), self.request_time, now, accounted=self.accounted), body
        )


def may_answer_gets(method: str, status: int, answer: Fields, *, of_target: bool, authorized: bool, now: float) -> bool:
    """`of_target`: its Content-Location is the URL that was asked. Answers that vary are left alone: a GET selects otherwise."""
    if method != "POST" or status != 200 or not of_target or value_of(answer, "vary") is not None:
        return False
    return has_explicit_lifetime(answer) and storability(status, answer, 0.0, now, authorized=authorized) is Storability.STORABLE
