"""A lab's own enrolment: `headwater up` puts a token into the folder of each node that has no certificate that holds."""

from __future__ import annotations

import time
from typing import Final

from control.enrolment.office import EnrolmentOffice
from headwater.runtime.enrolment.identity import FILE, IdentityUnusable, read_identity
from headwater.runtime.enrolment.joining import NEEDS_NONE, TOKEN_FILE
from headwater.runtime.wholefiles import replace_secret
from headwater.settings.deployment import Deployment, nodes_of

LASTS_S: Final = 3600.0


def ensure_enrolled(deployment: Deployment) -> None:
    """Before control runs. A node that was revoked stays so. Blocks. Raises CannotStart, BookUnusable or OSError."""
    if deployment.control.enrolment is None:
        return
    office = EnrolmentOffice(deployment.data / "nodes" / "control", lambda: deployment)
    known, now = office.ledger().nodes, time.time()
    for node, role in nodes_of(deployment).items():
        if role in NEEDS_NONE or (node in known and known[node].revoked_at is not None):
            continue
        folder = deployment.data / "nodes" / node
        try:
            held = read_identity(folder / FILE)
            if held.authority == office.authority.pem and now < held.expires:
                continue
        except IdentityUnusable:
            pass
        replace_secret(folder / TOKEN_FILE, office.make_token(node, LASTS_S).text.encode("ascii") + b"\n")
