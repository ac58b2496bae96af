"""Header fields as plain values: pairs in order, names compared without case (RFC 9110 section 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final

Fields = tuple[tuple[str, str], ...]

# RFC 9110 section 7.6.1: meant for one connection, never passed on or stored.
HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


_NONE: Final[Mapping[str, str | None]] = MappingProxyType({})
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")


def well_formed(fields: Iterable[tuple[str, str]]) -> bool:
    """Whether every name is a token and no value has a control byte: what may be written into a header (section 5.5)."""
    return all(_TOKEN.match(name) and _VALUE.match(value) for name, value in fields)


def field(fields: Iterable[tuple[str, str]], name: str) -> str | None:
    """The combined value of all lines of `name` (section 5.3), or None."""
    return _values(fields if isinstance(fields, tuple) else tuple(fields)).get(name.lower())


@lru_cache(maxsize=1024)
def _values(fields: Fields) -> dict[str, str]:
    """The combined values by name in lower case. One header is asked for a dozen fields, and the same header comes again."""
    values: dict[str, str] = {}
    for name, value in fields:
        lowered, value = name.lower(), value.strip()
        values[lowered] = f"{values[lowered]}, {value}" if lowered in values else value
    return values


def without(fields: Iterable[tuple[str, str]], names: Iterable[str]) -> Fields:
    dropped = {name.lower() for name in names}
    return tuple((name, value) for name, value in fields if name.lower() not in dropped)


def end_to_end(fields: Iterable[tuple[str, str]]) -> Fields:
    """The fields that may be passed on: without the hop-by-hop ones and those that `Connection` names."""
    return _end_to_end(fields if isinstance(fields, tuple) else tuple(fields))


@lru_cache(maxsize=1024)
def _end_to_end(fields: Fields) -> Fields:
    named = {name.strip().lower() for name in (field(fields, "connection") or "").split(",")}
    return without(fields, HOP_BY_HOP | named)


def merged(stored: Fields, newer: Iterable[tuple[str, str]]) -> Fields:
    """`stored` with each field that `newer` holds replaced (RFC 9111 section 3.2), but for those that describe the body."""
    fresh = without(end_to_end(newer), ("content-length", "content-encoding", "content-type", "content-range"))
    return without(stored, (name for name, _ in fresh)) + fresh


def directives(value: str | None) -> Mapping[str, str | None]:
    """A list of `name[=value]` such as Cache-Control's (RFC 9111 section 5.2): names in lower case, quotes removed.

    Of a directive given twice the first counts (section 4.2.1 leaves the choice; the first is what most caches take).
    """
    return _directives(value) if value else _NONE


@lru_cache(maxsize=1024)
def _directives(value: str) -> Mapping[str, str | None]:
    found: dict[str, str | None] = {}
    for part in _split_list(value):
        name, equals, argument = part.partition("=")
        name = name.strip().lower()
        if _TOKEN.match(name) and name not in found:
            found[name] = _unquoted(argument.strip()) if equals else None
    return MappingProxyType(found)


def _split_list(value: str) -> list[str]:
    """Splits at commas outside quotes."""
    parts, start, quoted, escaped = [], 0, False, False
    for position, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            parts.append(value[start:position])
            start = position + 1
    return [*parts, value[start:]]


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text
