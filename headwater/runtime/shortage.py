"""What this process itself lacks when it asks somebody: no fault of who is asked."""

from __future__ import annotations

import errno
from typing import Final

# No file or memory for a socket, or no port left to ask from.
_OWN: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL))


def is_own_shortage(error: OSError) -> bool:
    """Whether a connection could not be tried for want of something on this side."""
    return error.errno in _OWN
