"""A supervisor goes on watching whatever it meets; that it starts and stops real nodes is under test in tests/integration."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import cast

from headwater.rules.restarts import CANNOT_START
from headwater.runtime.nodeprocess import NodeProcess, log_files
from headwater.runtime.supervisor import Supervisor
from headwater.settings.deployment import Deployment


class Ended:
    """A node's process that has ended with a status."""

    alive = False
    ran_s = 0.0
    node = "dns"

    def __init__(self, deployment: Deployment, status: int) -> None:
        self.logs = log_files(deployment.data, self.node)
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.exited.set_result(status)

    def last_words(self) -> str:
        return "its last words"


class WithoutMemory(Supervisor):
    """Cannot start a process at first; then it can, and that says that it cannot start."""

    tries = 0

    def _spawn(self, node: str) -> NodeProcess:
        self.tries += 1
        if self.tries == 1:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return cast(NodeProcess, Ended(self.deployment, CANNOT_START))


async def test_a_node_that_could_not_be_started_again_is_tried_once_more(deployment: Deployment, tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = WithoutMemory(deployment, tmp_path / "lab.yaml", said.append)
    supervisor.processes["dns"] = cast(NodeProcess, Ended(deployment, 1))
    async with asyncio.timeout(10):
        await supervisor._watch("dns")
    assert supervisor.tries == 2
    assert "Cannot allocate memory" in said[1]
    assert "stays down" in said[-1]
