"""Links that can be cut as networks are: sockets stay open at both ends, new ones open too, and nothing comes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from headwater.rules.addresses import Address
from headwater.settings.deployment import admin_address, nodes_of
from headwater.settings.load import load_deployment
from tests.support.deployments import free_port
from tests.support.lab import Lab

PIECE = 65_536


class Link:
    """A relay from its own address to `target`. `there` passes bytes towards the target, `back` from it, while they are set."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.listen = Address("127.0.0.1", free_port())
        self.there = asyncio.Event()
        self.back = asyncio.Event()
        self.there.set()
        self.back.set()
        self._relays: set[asyncio.Task[None]] = set()
        self._lost: set[asyncio.Task[None]] = set()

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Nothing passes any more in these directions; nobody is told."""
        if there:
            self.there.clear()
        if back:
            self.back.clear()

    def heal(self, *, forgets: bool) -> None:
        """Bytes pass again. `forgets`: those of old connections never do, as when a firewall between has lost their state."""
        if forgets:
            self._lost |= self._relays
        self.there.set()
        self.back.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Of `asyncio.start_server`."""
        self._relays.add(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await self.there.wait()
            far_reader, far_writer = await asyncio.open_connection(self.target.host, self.target.port)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(reader, far_writer, self.there, task))
                    both.create_task(self._pass(far_reader, writer, self.back, task))
            finally:
                far_writer.transport.abort()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            self._relays.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: asyncio.Event, of: asyncio.Task[None]
    ) -> None:
        while True:
            data = await reader.read(PIECE)
            await passes.wait()
            if of in self._lost:
                await asyncio.Event().wait()
            if not data:
                break
            writer.write(data)
            await writer.drain()
        with suppress(OSError):
            writer.write_eof()

    async def end(self) -> None:
        for task in (tasks := list(self._relays)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Partition:
    """Control on one side; everybody else, the steering node included, on the other."""

    def __init__(self, to_control: Link, to_nodes: dict[str, Link]) -> None:
        self.to_control = to_control
        self.to_nodes = to_nodes

    def cut(self, *, from_control: bool = True, to_control: bool = True) -> None:
        """What control says no longer arrives anywhere, what is said to control no longer arrives there, or both."""
        self.to_control.cut(there=to_control, back=from_control)
        for link in self.to_nodes.values():
            link.cut(there=from_control, back=to_control)

    def heal(self, *, forgets: bool) -> None:
        for link in (self.to_control, *self.to_nodes.values()):
            link.heal(forgets=forgets)


@asynccontextmanager
async def behind_links(lab: Lab, nodes: Iterable[str]) -> AsyncIterator[Partition]:
    """`nodes` of a lab that does not run yet know control by a link only, and control knows them so. Health checks of nodes among
    themselves go by the links, too: they pass or hang with those of control."""
    roles = nodes_of(lab.deployment)
    to_nodes = {node: Link(admin_address(lab.deployment, node)) for node in nodes}
    to_control = Link(lab.deployment.control.listen)
    content = yaml.safe_load(lab.config.read_text())
    of_nodes = yaml.safe_load(lab.config.read_text())
    of_nodes["control"]["listen"] = str(to_control.listen)
    for node, link in to_nodes.items():
        _place_of(content, node, roles[node])["admin"] = str(link.listen)
    config = _written(lab.config.with_name("control.yaml"), content)
    lab.configs = {**dict.fromkeys(to_nodes, _written(lab.config.with_name("nodes.yaml"), of_nodes)), "control": config}
    load_deployment(config)
    links = (to_control, *to_nodes.values())
    async with AsyncExitStack() as servers:
        for link in links:
            server = await asyncio.start_server(link.accept, link.listen.host, link.listen.port)
            servers.push_async_callback(link.end)
            servers.callback(server.close)
        yield Partition(to_control, to_nodes)


def _place_of(content: dict[str, Any], node: str, role: str) -> dict[str, Any]:
    match role:
        case "shield":
            place: dict[str, Any] = content["shields"][node]
        case "dns":
            place = content["dns"]
        case _:
            place = next(pop["edges"][node] for pop in content["pops"].values() if node in pop["edges"])
    return place


def _written(file: Path, content: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file
