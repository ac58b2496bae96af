"""Variants (RFC 9111 section 4.1): under the key of a URL whose responses vary lies a marker that names the fields and the
generation; the variants lie under keys made from both. Discarding the marker makes every variant unreachable at once."""

from __future__ import annotations

import secrets
from dataclasses import replace

from headwater.cacheproxy.store.metadata import Metadata
from headwater.cacheproxy.store.store import Store, Stored
from headwater.rules.fields import Fields, field
from headwater.rules.varying import MAX_VARIANTS, variant_key, vary_names

MARKER_STATUS = 0


class Variants:
    """Looks up and places responses by URL key and the request's fields."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def find(self, key: str, asked: Fields) -> Stored | None:
        """The stored response that a request with these fields selects. The caller closes it."""
        stored = await self._store.look_up(key)
        if stored is None or stored.metadata.status != MARKER_STATUS:
            return stored
        stored.close()
        return await self._store.look_up(_variant(key, stored.metadata, asked))

    async def key_for(self, key: str, answer: Fields, asked: Fields) -> str:
        """Where a response is to be stored; writes the marker that leads there when the response varies."""
        names = vary_names(answer)
        if not names:
            return key
        marker = await self._marker(key)
        if marker is None or vary_names(marker.fields) != names or _count(marker) >= MAX_VARIANTS:
            marker = _new_marker(key, names, secrets.token_hex(8), 1)
        else:
            marker = _new_marker(key, names, field(marker.fields, "generation") or "", _count(marker) + 1)
        await self._store.put_bytes(replace(marker, accounted=self._store.purges.sequence), b"")
        return _variant(key, marker, asked)

    async def _marker(self, key: str) -> Metadata | None:
        stored = await self._store.look_up(key)
        if stored is None:
            return None
        stored.close()
        return stored.metadata if stored.metadata.status == MARKER_STATUS else None


def _new_marker(key: str, names: tuple[str, ...], generation: str, count: int) -> Metadata:
    fields = (("vary", ", ".join(names)), ("generation", generation), ("variants", str(count)))
    return Metadata(key, MARKER_STATUS, fields, 0, 0.0, 0.0)


def _variant(key: str, marker: Metadata, asked: Fields) -> str:
    return variant_key(f"{key}@{field(marker.fields, 'generation')}", vary_names(marker.fields), asked)


def _count(marker: Metadata) -> int:
    """Stored so far; a variant that is stored again counts again, which only makes the cap come earlier."""
    return int(field(marker.fields, "variants") or "0")
