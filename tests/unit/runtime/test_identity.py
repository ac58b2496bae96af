"""Whom a node believes by its certificate's authority. How it comes to one is under test in tests/integration/control."""

from __future__ import annotations

import contextlib
import ssl
import time
from pathlib import Path

import pytest
import structlog

from control.enrolment.authority import Authority, open_authority
from headwater.rules.nodeidentity import NodeIdentity
from headwater.runtime.enrolment.identity import Identity, new_key, write_identity

LOG = structlog.get_logger()


def enrolled(file: Path, ca: Authority, role: str, node: str) -> None:
    key, now = new_key(), time.time()
    certificate = ca.issue(NodeIdentity("lab", role, node, 1), key.public_key(), now, 3600)
    write_identity(file, key, certificate, ca.pem)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Raises ssl.SSLError when one of the two does not take the other."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)
    for end in (*ends, *ends, *ends):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()


def test_a_node_that_enrolled_at_a_new_authority_believes_the_former_one_no_more(tmp_path: Path) -> None:
    """Control was set up anew because somebody else has its former authority, say."""
    former, later = (open_authority(tmp_path / name, "lab", time.time()) for name in ("former", "later"))
    enrolled(tmp_path / "thief.pem", former, "control", "control")
    thief = Identity(tmp_path / "thief.pem", LOG)
    enrolled(tmp_path / "fra-1.pem", former, "edge", "fra-1")
    node = Identity(tmp_path / "fra-1.pem", LOG)
    orders, answers = node.server, node.client  # as a site and a client of this node hold them
    handshake(thief.client, orders, "fra-1")
    handshake(answers, thief.server, "control")

    enrolled(tmp_path / "fra-1.pem", later, "edge", "fra-1")
    node.look()
    enrolled(tmp_path / "control.pem", later, "control", "control")
    control = Identity(tmp_path / "control.pem", LOG)
    handshake(control.client, orders, "fra-1")
    handshake(answers, control.server, "control")
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    blind.load_cert_chain(tmp_path / "thief.pem")
    with pytest.raises(ssl.SSLError):
        handshake(blind, orders, "fra-1")
    with pytest.raises(ssl.SSLError):
        handshake(answers, thief.server, "control")
