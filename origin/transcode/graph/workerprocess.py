"""Loaded by each worker process of the embedded cluster as it starts (Dask calls it a preload)."""

from __future__ import annotations

import signal
from typing import Any

import origin.transcode.graph.tasks  # noqa: F401  # imported before the first task rather than in it


def dask_setup(worker: Any) -> None:
    """A terminal's Ctrl-C reaches every process; the coordinator alone decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
