"""`headwater worker --scheduler tcp://…`: lends this machine's processors to a transcoder elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from headwater.settings.origin import SchedulerTls

TlsOption = typer.Option(exists=True, dir_okay=False)


def worker(
    scheduler: Annotated[str, typer.Option(help="Address of the Dask scheduler, tcp://host:port or tls://host:port.")],
    places: Annotated[int, typer.Option(min=1, help="Tasks at once. Default: half the processors.")] = max(
        1, (os.cpu_count() or 2) // 2
    ),
    ffmpeg: Annotated[str, typer.Option(help="Path of ffmpeg; must be the same build on all workers.")] = "auto",
    tls_authority: Annotated[Path | None, TlsOption] = None,
    tls_certificate: Annotated[Path | None, TlsOption] = None,
    tls_key: Annotated[Path | None, TlsOption] = None,
) -> None:
    """Join a cluster and encode for it until stopped. The transcoder's data folder must be there under the same path."""
    # Imported here: every command of `headwater` would wait for Dask otherwise.
    from origin.transcode.graph.joining import CannotJoin, join
    from origin.transcode.programs.tools import NoFfmpeg

    tls = None
    if tls_authority and tls_certificate and tls_key:
        tls = SchedulerTls(authority=tls_authority, certificate=tls_certificate, key=tls_key)
    elif tls_authority or tls_certificate or tls_key:
        print("--tls-authority, --tls-certificate and --tls-key go together.", file=sys.stderr)
        raise typer.Exit(2)
    with tempfile.TemporaryDirectory(prefix="headwater-worker-") as folder:
        try:
            asyncio.run(join(scheduler, places, Path(folder), ffmpeg, tls))
        except (CannotJoin, NoFfmpeg) as error:
            print(error, file=sys.stderr)
            raise typer.Exit(1) from error


def register(app: typer.Typer) -> None:
    app.command()(worker)
