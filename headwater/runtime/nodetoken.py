"""How a node shows another one who it is: a random token of 256 bits, known to the others only as its SHA-256.

    Headwater-Node: {token}

The tier that receives the header looks its digest up in the snapshot and never passes it on.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from headwater.runtime.wholefiles import make_once

NODE_HEADER = "Headwater-Node"


def token_file(data: Path, node: str) -> Path:
    return data / "secrets" / "nodes" / f"{node}.token"


def read_token(data: Path, node: str) -> str:
    """The node's own token, made on first use (mode 0600, atomically: two starters agree on one)."""
    path = token_file(data, node)
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pass
    make_once(path, secrets.token_urlsafe(32).encode("ascii"))
    return path.read_text(encoding="ascii").strip()


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
