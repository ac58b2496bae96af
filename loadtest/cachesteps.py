"""Reads the `Cache-Status` field (RFC 9211): which tier answered, and from what. Pure, and tolerant of unknown members."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Members of a list are joined by commas, which quoted strings may hold too (RFC 9651 section 3.3.3).
_MEMBERS = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^,"])+')
_PARAMETERS = re.compile(r'(?:"(?:\\.|[^"\\])*"|[^;"])+')


@dataclass(frozen=True, slots=True)
class CacheStep:
    """One tier's word on one answer. `collapsed`: it waited for a fill that another request had begun."""

    node: str
    hit: bool
    collapsed: bool


def cache_steps(field: str | None) -> tuple[CacheStep, ...]:
    """The tiers, the one nearest the viewer first."""
    steps = []
    for member in _MEMBERS.findall(field or ""):
        node, *parameters = [part.strip() for part in _PARAMETERS.findall(member)]
        if node:
            steps.append(CacheStep(node.strip('"'), "hit" in parameters, "collapsed" in parameters))
    return tuple(reversed(steps))
