"""Vary (RFC 9111 section 4.1): which stored variant a request selects."""

from __future__ import annotations

import hashlib
from typing import Final

from headwater.rules.fields import Fields, field

MAX_VARIANTS: Final = 32  # per URL; more would let a client's free choice of header values fill the store

NEGOTIATION_FIELDS: Final = frozenset(("accept", "accept-charset", "accept-encoding", "accept-language"))


def vary_names(fields: Fields) -> tuple[str, ...]:
    """The request fields that select the variant: lower case, sorted, each once."""
    listed = (name.strip().lower() for name in (field(fields, "vary") or "").split(","))
    return tuple(sorted({name for name in listed if name}))


def variant_key(key: str, names: tuple[str, ...], asked: Fields) -> str:
    """The secondary key: `key` with a digest of the values that the request gives to `names`.

    White space around list members means nothing and is dropped; of the negotiation fields (RFC 9110 section 12.5) neither do
    case and order, as weights tell the preference. Nothing else is assumed about a field's syntax.
    """
    if not names:
        return key
    digest = hashlib.sha256()
    for name in names:
        normal = _normal(name, field(asked, name))
        digest.update(f"{name}:{'-' if normal is None else '=' + normal}\n".encode())
    return f"{key}#{digest.hexdigest()[:32]}"


def _normal(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if name in NEGOTIATION_FIELDS:
        parts = sorted(part.lower().replace(" ", "") for part in parts)
    return ",".join(parts)
