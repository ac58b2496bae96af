"""Whom a node's certificate names: a URI of the deployment, the role, the node and the enrolment it comes from. Pure.

    headwater://lab/edge/fra-1/1795212000

Enrolments are numbered by the Unix second of the enrolment, or one more than the last: they only grow, also when control's
records were lost, so that "no enrolment before this one" ends every older certificate of a node, whichever they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

CONTROL: Final = "control"  # the node that may order; also its role
LONGEST_NAME: Final = 63  # of a DNS label, as certificates name nodes
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z")
_URI = re.compile(r"headwater://([a-z0-9-]{1,32})/([a-z-]{1,20})/([A-Za-z0-9_.-]{1,63})/([0-9]{1,15})\Z")


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who a certificate says its owner is."""

    deployment: str
    role: str
    node: str
    enrolment: int

    @property
    def uri(self) -> str:
        return f"headwater://{self.deployment}/{self.role}/{self.node}/{self.enrolment}"


def can_be_named(node: str) -> bool:
    """Whether a certificate can name the node."""
    return bool(_NAME.match(node))


def identity_of_uri(uri: str) -> NodeIdentity | None:
    match = _URI.match(uri)
    return None if match is None else NodeIdentity(match[1], match[2], match[3], int(match[4]))


def identity_of_peer(certificate: Any) -> NodeIdentity | None:
    """The identity in what Python's `ssl` tells of a verified peer's certificate; None when there is none, or not exactly one."""
    names: Iterable[tuple[str, str]] = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    return identity_of_uri(uris[0]) if len(uris) == 1 else None
