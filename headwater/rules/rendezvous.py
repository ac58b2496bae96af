"""Weighted rendezvous hashing: every asker ranks the same nodes for the same key, and a change moves only its share.

Thaler and Ravishankar 1998 (highest random weight), with the logarithmic weights of Schindelhauer and Schomaker 2005:
score = -weight / ln(u), where u is uniform in (0, 1) from SHA-256(key, 0x00, node name). No list order matters.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable


def score(key: bytes, node: str, weight: float) -> float:
    """The node's claim on the key; larger wins. A weight of 0 claims nothing."""
    if weight <= 0:
        return 0.0
    drawn = int.from_bytes(hashlib.sha256(key + b"\x00" + node.encode()).digest()[:8], "big")
    return -weight / math.log((drawn + 0.5) / 2.0**64)


def ranked(key: bytes, weights: Iterable[tuple[str, float]]) -> list[str]:
    """Node names by falling claim on `key`; nodes of weight 0 are left out. Equal claims are ordered by name."""
    scored = [(-score(key, node, weight), node) for node, weight in weights if weight > 0]
    return [node for _, node in sorted(scored)]
