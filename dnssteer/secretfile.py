"""The file of secrets that server cookies are made with: made at the first start, shared by copying it to further servers.

One secret a line, 32 hex digits. The first one makes cookies, all are accepted: to change it, put a new first line into every
server's file, and drop the old line an hour later.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from dnssteer.cookies import SECRET_BYTES
from headwater.runtime.httpsite import CannotStart
from headwater.runtime.wholefiles import make_once


def cookie_secrets(file: Path) -> tuple[bytes, ...]:
    """The secrets in `file`, which is made with one when it is not there. Raises CannotStart."""
    make_once(file, f"{secrets.token_hex(SECRET_BYTES)}\n".encode("ascii"))
    try:
        found = tuple(bytes.fromhex(line) for line in file.read_text().split())
    except ValueError:
        found = ()
    if not found or any(len(secret) != SECRET_BYTES for secret in found):
        raise CannotStart(f"{file}: lines of {2 * SECRET_BYTES} hex digits were expected; delete the file to have a new one made")
    return found
