"""Runs all nodes of a deployment on this machine: starts them in order, watches them, restarts the dead, stops them in reverse.

What to do with a node that ended is decided in `headwater.rules.restarts`; this file does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import httpx

from headwater.rules.restarts import CANNOT_START, History, StayDown, after_exit, describe_exit
from headwater.runtime.nodeprocess import NodeProcess, keep_bounded, log_files
from headwater.settings.deployment import Deployment, Role, admin_address, nodes_of
from headwater.settings.topology import NodeName

START_S = 90.0  # a slow machine imports everything in a few seconds; a node silent for this long will not come
STOP_S = 15.0  # a node drains for ten seconds at most
ASK_AGAIN_S = 0.05
LOG_CHECK_S = 10.0
SPAWN_AGAIN_S = 5.0

# Stopped one group after the other: whoever asks stops before whoever is asked.
STOP_ORDER: tuple[tuple[Role, ...], ...] = (
    ("dns", "edge", "origin-transcoder"),
    ("shield",),
    ("origin-api", "origin-bytes"),
    ("control",),
)

SIGNAL_NAMES = {int(number): number.name for number in signal.Signals}
Say = Callable[[str], None]


class NodeFailed(Exception):
    """A node did not come up. The message says which and why; `cannot_start` when trying again is of no use."""

    def __init__(self, message: str, *, cannot_start: bool) -> None:
        super().__init__(message)
        self.cannot_start = cannot_start


class Supervisor:
    """The nodes of one deployment as child processes. `say` shows one line to the operator."""

    def __init__(self, deployment: Deployment, config: Path, say: Say) -> None:
        self.deployment = deployment
        self.roles = nodes_of(deployment)
        self.processes: dict[NodeName, NodeProcess] = {}
        self._config = config
        self._say = say
        self._watchers: dict[NodeName, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Starts control and waits for it, then all others at once. Raises NodeFailed; the caller stops the rest."""
        names = list(self.roles)
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            for group in (names[:1], names[1:]):
                for node in group:
                    self.processes[node] = self._spawn(node)
                await _all_or_first_error(self._until_healthy(client, node) for node in group)
        for node in names:
            self._watchers[node] = asyncio.create_task(self._watch(node), name=f"watch {node}")
        self._watchers["logs"] = asyncio.create_task(self._bound_logs(), name="bound logs")

    async def stop(self) -> None:
        """Stops all nodes, in reverse order; each has STOP_S to drain."""
        for watcher in self._watchers.values():
            watcher.cancel()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)
        for roles in STOP_ORDER:
            await asyncio.gather(*(process.stop(STOP_S) for process in self._running(roles)))

    def kill(self) -> None:
        """Kills all nodes at once; `stop` then returns soon."""
        for process in self.processes.values():
            if process.alive:
                process.kill_group()

    def _running(self, roles: Iterable[Role]) -> list[NodeProcess]:
        return [process for node, process in self.processes.items() if self.roles[node] in roles and process.alive]

    def _spawn(self, node: NodeName) -> NodeProcess:
        return NodeProcess.start(node, self._config, self.deployment.data)

    async def _until_healthy(self, client: httpx.AsyncClient, node: NodeName) -> None:
        began = time.monotonic()
        await wait_until_healthy(client, self.deployment, self.processes[node], began + START_S)
        self._say(f"{node:<18} up at {admin_address(self.deployment, node)} after {time.monotonic() - began:.1f} s")

    async def _watch(self, node: NodeName) -> None:
        """Starts the node again whenever it ends, as the restart rule says."""
        history = History()
        while True:
            process = self.processes[node]
            status = await asyncio.shield(process.exited)
            step = after_exit(history, status, process.ran_s)
            ended = f"{node} ended with {describe_exit(status, SIGNAL_NAMES)}"
            if isinstance(step, StayDown):
                self._say(f"{ended} and stays down: {process.last_words()}")
                return
            told = f": {process.last_words()}" if status > 0 else ""
            self._say(f"{ended}; it starts again in {step.pause_s:g} s (log: {process.logs.service}){told}")
            await asyncio.sleep(step.pause_s)
            history = step.history
            self.processes[node] = await self._spawned_again(node)
            await self._say_when_back(node)

    async def _spawned_again(self, node: NodeName) -> NodeProcess:
        """The node's new process, however often the machine has no memory, disk or process left for it."""
        while True:
            try:
                return self._spawn(node)
            except OSError as error:
                self._say(f"{node} cannot be started ({error}); it is tried again in {SPAWN_AGAIN_S:g} s")
                await asyncio.sleep(SPAWN_AGAIN_S)

    async def _say_when_back(self, node: NodeName) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            with contextlib.suppress(NodeFailed):  # the watcher's next round says how it ended
                await wait_until_healthy(client, self.deployment, self.processes[node], time.monotonic() + START_S)
                self._say(f"{node} is up again")

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_S)
            for node in self.roles:
                for path in log_files(self.deployment.data, node):
                    with contextlib.suppress(OSError):  # a disk that fails now may not at the next look
                        await asyncio.to_thread(keep_bounded, path)


async def _all_or_first_error(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def wait_until_healthy(client: httpx.AsyncClient, deployment: Deployment, process: NodeProcess, deadline: float) -> None:
    """Returns when the node's /healthz says up. Raises NodeFailed when it ends first, or at `deadline` (monotonic)."""
    url = f"{admin_address(deployment, process.node).url}/healthz"
    reason = "no answer"
    while process.alive and time.monotonic() < deadline:
        try:
            answer = await client.get(url)
        except httpx.HTTPError:
            pass
        else:
            if answer.status_code == 200:
                return
            reason = answer.text[:200]
        await asyncio.wait([process.exited], timeout=ASK_AGAIN_S)
    if not process.alive:
        status = process.exited.result()
        told = process.last_words() or f"see {process.logs.service}"
        if status == CANNOT_START:
            raise NodeFailed(told, cannot_start=True)
        ended = describe_exit(status, SIGNAL_NAMES)
        raise NodeFailed(f"{process.node} ended with {ended} while it started: {told}", cannot_start=False)
    raise NodeFailed(f"{process.node} is not healthy ({reason}); see {process.logs.service}", cannot_start=False)
