"""Messages from worker to worker: who has ended need not hear them, whoever else does not is one that failed."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import structlog

from headwater.cacheproxy import siblings
from headwater.cacheproxy.siblings import Acknowledgements, Siblings
from headwater.cacheproxy.store.shares import Share
from headwater.runtime.workerplace import process_socket
from tests.support.files import out_of_files

MESSAGE = {"kind": "invalidate", "keys": ["site/a"]}


@pytest.fixture
def others(tmp_path: Path) -> Siblings:
    return Siblings(Share(0, 2), tmp_path, process_socket(tmp_path, 0, 1), structlog.get_logger().bind())


async def test_a_process_that_has_ended_has_not_failed(others: Siblings, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(process_socket(tmp_path, 1, 2)))
    assert await others.tell(MESSAGE) == Acknowledgements(0, 0)


@pytest.mark.parametrize("free", [0, 1])
async def test_a_worker_that_is_out_of_files_does_not_take_the_others_for_ended(
    others: Siblings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    monkeypatch.setattr(siblings, "TELL_TIMEOUT_S", 0.1)
    running = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for number, one in enumerate(running, 2):
        one.bind(str(process_socket(tmp_path, 1, number)))
        one.listen()
    await asyncio.to_thread(int)  # the thread that looks for them is there
    try:
        with out_of_files(free):
            told = await others.tell(MESSAGE)
    finally:
        for one in running:
            one.close()
    assert told.heard == 0
    assert not told.complete
    assert told.failed == (2 if free else 1)
