"""The ledger as metrics."""

from __future__ import annotations

from control.enrolment.ledger import Ledger
from control.metrics import CERTIFICATE_EXPIRES


def tell_expiries(ledger: Ledger) -> None:
    """Call it after each change."""
    for node in ledger.nodes.values():
        CERTIFICATE_EXPIRES.labels(node.node).set(node.expires_at or 0)
