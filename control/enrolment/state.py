"""What operators see of each node's certificate. Pure."""

from __future__ import annotations

from typing import Any

from control.enrolment.ledger import EnrolledNode, Ledger
from headwater.runtime.enrolment.joining import NEEDS_NONE
from headwater.settings.deployment import Deployment, nodes_of


def certificates_of(deployment: Deployment, ledger: Ledger, now: float) -> list[dict[str, Any]]:
    """Every node that enrols, as the config has them; then those that the config has lost and that are not revoked."""
    roles = {node: role for node, role in nodes_of(deployment).items() if role not in NEEDS_NONE}
    settings = deployment.control.enrolment
    lifetime_s = 0.0 if settings is None else settings.lifetime
    lost = {node: entry.role for node, entry in ledger.nodes.items() if node not in roles and entry.revoked_at is None}
    return [
        {"node": node, "role": role, **certificate_of(ledger.nodes.get(node), now, lifetime_s), "configured": node in roles}
        for node, role in {**roles, **lost}.items()
    ]


def certificate_of(entry: EnrolledNode | None, now: float, lifetime_s: float) -> dict[str, Any]:
    """{state: none | enrolled | expired | revoked, expires_at, revoked_at, late}

    `late`: it has less than a third of its lifetime left, and a node renews at half of it.
    """
    if entry is None:
        return {"state": "none", "expires_at": None, "revoked_at": None, "late": False}
    if entry.revoked_at is not None:
        state = "revoked"
    else:
        state = "expired" if entry.expires_at is not None and now >= entry.expires_at else "enrolled"
    late = state == "enrolled" and entry.expires_at is not None and entry.expires_at - now < lifetime_s / 3
    return {"state": state, "expires_at": entry.expires_at, "revoked_at": entry.revoked_at, "late": late}
