"""How a node shows another one who it is: a random token of 256 bits, known to the others only as its SHA-256.

    Headwater-Node: {token}

The tier that receives the header looks its digest up in the snapshot and never passes it on.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

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
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{node}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="ascii").strip()


def token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
