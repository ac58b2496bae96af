"""What control knows, and the four loops that keep it so: watch the file, check health, read traffic, publish."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import aiohttp

from control.config.desired import Desired, Edit, after_look
from control.config.differences import (
    Difference,
    Written,
    differences,
    found_at_start,
    listens_elsewhere,
    read_at_start,
    waiting_for_restart,
)
from control.config.publisher import Publisher
from control.config.wanted import Wanted, with_drains
from control.enrolment.known import KnownNodes
from control.metrics import CONFIG_PROBLEMS, CONFIG_READS, KEY_READ_FAILURES, NODE_UP
from control.rollouts.stages import Views
from control.watching.balancing import Balance
from control.watching.health import Hysteresis, NodeHealth, after_check, verdict
from control.watching.passive import VANTAGE, traffic_opinions
from control.watching.probing import check_health, read_metrics
from control.watching.traffic import Counters, UnreadableMetrics, read_counters, remember
from control.watching.vantages import read_opinions
from headwater.rules.bucketload import BucketLoad
from headwater.runtime.healthcheck import CannotLook
from headwater.runtime.node import NodeContext
from headwater.runtime.spread import spread_out
from headwater.settings.deployment import Deployment, Role, admin_address, nodes_of
from headwater.settings.snapshot import Health, PublishedKey, Snapshot
from headwater.settings.steeringstate import SteeringState
from signer.keyring import KeyRing, KeyRingError

WATCH_S: Final = 1.0
TRAFFIC_S: Final = 3.0
PURGES_TOLD_S: Final = 60.0
MAX_HAPPENINGS: Final = 60
MAX_WRITTEN: Final = 20  # edits back to which it is known what a running node has read
GAUGE_OF: Final[dict[Health, int]] = {"up": 1, "down": 0, "unknown": -1}


class Kind(StrEnum):
    """What a happening is about."""

    CONFIG = "config"
    REFUSED = "refused"
    HEALTH = "health"
    KEYS = "keys"
    PURGE = "purge"
    ROLLOUT = "rollout"
    DRAIN = "drain"
    NIGHT = "night"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that operators may want to know later."""

    at: float
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Poll:
    """A node's last question for a newer snapshot: when, and which version it held."""

    at: float
    held: int


@dataclass(frozen=True, slots=True)
class Life:
    """One life of a node's process, and the settings that it read when it began."""

    process_start: float
    started_with: dict[str, str]


def written_at(config: Path | None, now: float) -> float:
    """When the file was last written, as far as the disk knows; at most `now`. Blocks."""
    try:
        return min(config.stat().st_mtime, now) if config else now
    except OSError:
        return now


class ControlPlane:
    """Readers (the API) take what is there; only the loops change it. `clock` gives Unix seconds."""

    def __init__(self, context: NodeContext, *, clock: Callable[[], float] = time.time) -> None:
        self.log = context.log
        self.clock = clock
        self.config: Path | None = context.config
        self.own_start = clock()
        self.desired = Desired(context.deployment)
        self.publisher = Publisher(context.folder, context.log, clock=clock)
        self.health: dict[str, NodeHealth] = {}
        self.polls: dict[str, Poll] = {}
        self.readings: dict[str, deque[Counters]] = {}
        self.lives: dict[str, Life] = {}
        self.happenings: deque[Happening] = deque(maxlen=MAX_HAPPENINGS)
        self.key_error: str | None = None
        self.purge_sequence = 0
        self._purges_due: asyncio.TimerHandle | None = None
        self._ring = KeyRing(context.deployment.data / context.deployment.signing.keys)
        self._keys: list[PublishedKey] = []
        self.nodes = KnownNodes(context.deployment.data)
        self._written: deque[Written] = deque(maxlen=MAX_WRITTEN)
        if self.publisher.before_start is not None:
            self._written.append(Written(0.0, read_at_start(self.publisher.before_start.deployment)))
        self._written.append(Written(written_at(self.config, self.own_start), read_at_start(context.deployment)))
        self.balance = Balance(self.publisher.before_start.steering_state if self.publisher.before_start else None)
        self._changed = asyncio.Event()
        self._publishing = asyncio.Lock()
        self.drained: frozenset[str] = frozenset()
        self.views: Views | None = None  # while a rollout is under way: what each node sees of it
        self._in_force = context.deployment
        self.on_edit: Callable[[Desired], Awaitable[bool]] | None = None
        self.on_load: Callable[[str, BucketLoad], None] | None = None
        self.on_keys: Callable[[str], Awaitable[None]] | None = None

    @property
    def deployment(self) -> Deployment:
        """The config in force, drains included; while a rollout is under way, control's own view of it."""
        return self._in_force

    @property
    def wanted(self) -> Wanted:
        """The config that was last taken, and what is drained beside it."""
        return Wanted(self.desired.text or "", self.desired.deployment, self.drained)

    async def show(self, views: Views | None) -> int:
        """Nodes live by these views from now on; None: by the config in force. The version under which they are published."""
        self.views = views
        self._live()
        await self.look_at_nodes()
        await self._publish()
        return self.publisher.version

    async def settle(self, wanted: Wanted, text: str | None) -> None:
        """A rollout has ended: `wanted` is in force. `text` is what stands in the file, and is no edit any more."""
        problems = self.desired.problems if text == self.desired.text else ()
        self.desired = Desired(wanted.deployment, text, problems)
        self.drained = wanted.drains
        self._written.append(Written(self.clock(), read_at_start(wanted.deployment)))
        await self.show(None)

    async def drain(self, names: frozenset[str], what: str) -> None:
        """Exactly these POPs and edges are drained beside the config."""
        self.drained = names
        self.tell(Kind.DRAIN, what)
        await self.show(self.views)

    def tell(self, kind: Kind, text: str) -> None:
        """Something that operators may want to know later."""
        self._happened(kind, text)

    def _live(self) -> None:
        views = self.views
        self._in_force = views.of("control") if views else with_drains(self.desired.deployment, self.drained)
        known, self.health = self.health, {}
        for node in self.checked_nodes():
            self.health[node] = known.get(node) or NodeHealth("unknown", self.clock())
        for node in known.keys() - self.health.keys():
            NODE_UP.remove(node)  # else it would stay up, or down, in everybody's alerts

    async def begin(self) -> None:
        """Everything known before the first node asks. Nodes that the last control left down stay so until they answer."""
        kept = self.publisher.before_start
        down = {node for node, state in kept.health.items() if state == "down"} if kept else set()
        now = self.clock()
        self._live()
        self.health = {node: NodeHealth("down" if node in down else "unknown", now) for node in self.checked_nodes()}
        await self._look()
        await self._publish()

    def checked_nodes(self) -> dict[str, Role]:
        """Every node but control itself, which is known to be up."""
        return {node: role for node, role in nodes_of(self.deployment).items() if role != "control"}

    def polled(self, node: str, held: int) -> None:
        """`node` asked for a snapshot newer than the one that it holds."""
        self.polls[node] = Poll(self.clock(), held)
        if self.publisher.learn_of(held):
            self._changed.set()

    def purged(self, sequence: int, what: str, *, by_all: bool) -> None:
        """A purge was told to all nodes that could be reached; the others learn of it by the next snapshot.

        When every node has acknowledged it, that snapshot is news to nobody: a stream of purges costs one a minute.
        """
        self.purge_sequence = max(self.purge_sequence, sequence)
        self._happened(Kind.PURGE, what)
        if not by_all or self.views is not None:
            self._changed.set()
        elif self._purges_due is None or self._purges_due.when() < asyncio.get_running_loop().time():
            self._purges_due = asyncio.get_running_loop().call_later(PURGES_TOLD_S, self._changed.set)

    def steering_state(self) -> SteeringState:
        """Who is coming back and who passes buckets on, as of now."""
        return self.balance.state(self.deployment, self.clock())

    def announce(self) -> None:
        """There is something to publish."""
        self._changed.set()

    def waiting_for_restart(self, node: str) -> list[Difference]:
        """Settings of `node` that it will know only when it starts again."""
        life = self.lives.get(node)
        if life is None:
            return []
        started_with = life.started_with or found_at_start(self._written, node, life.process_start)
        return waiting_for_restart(started_with, self._written[-1].settings.get(node, {}))

    async def watch(self) -> None:
        """The config file, the key ring, and the tokens of the nodes that the config names: once a second."""
        while True:
            await asyncio.sleep(WATCH_S)
            await self._look()

    async def check(self) -> None:
        """Every node's health, once an interval."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as to_vantages,
        ):
            while True:
                began = time.monotonic()
                await self._check_once(session, to_vantages)
                await asyncio.sleep(max(0.0, self.deployment.control.probe_interval - (time.monotonic() - began)))

    async def read_traffic(self) -> None:
        """Every node's counters, every few seconds. All at once at first; later one after another, because writing and reading
        them costs milliseconds each, for which everything else on the way (a purge) would have to wait."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            pause_s = 0.0
            while True:
                nodes = self.checked_nodes()
                await asyncio.gather(
                    *(self._read_traffic_of(session, node, role, n * pause_s) for n, (node, role) in enumerate(nodes.items())),
                    asyncio.sleep(TRAFFIC_S),
                )
                pause_s = TRAFFIC_S / max(1, len(nodes))

    async def _read_traffic_of(self, session: aiohttp.ClientSession, node: str, role: Role, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if node not in self.checked_nodes():
            return  # the config has lost it meanwhile
        text = await read_metrics(session, admin_address(self.deployment, node), TRAFFIC_S)
        if text is not None:
            self._learn_traffic(node, role, text)

    async def publish(self) -> None:
        """Publishes after changes; those that come together become one snapshot."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._publish()
            except BaseException:
                self._changed.set()  # what was not published is still news
                raise

    async def _publish(self) -> None:
        async with self._publishing:
            await self._publish_now()

    async def _publish_now(self) -> None:
        roles = nodes_of(self.deployment)
        revoked = self.nodes.revoked
        states: dict[str, Health] = {
            node: "down" if listens_elsewhere(self.waiting_for_restart(node), roles[node]) or node in revoked else health.state
            for node, health in self.health.items()
        }
        self.balance.learn_nodes(self.deployment, states, self.clock())
        draft = Snapshot(
            version=0,
            deployment=self.views.everyone if self.views else self.deployment,
            keys=self._keys,
            node_tokens=self.nodes.tokens,
            enrolments=self.nodes.enrolments,
            health=states,
            steering_state=self.steering_state(),
            purge_sequence=self.purge_sequence,
        )
        others = self.views.others if self.views else {}
        if await self.publisher.publish(draft, {node: view for node, view in others.items() if node in roles}):
            self.log.info("published", version=self.publisher.version)

    async def _look(self) -> None:
        if self.config is not None:
            at = await asyncio.to_thread(written_at, self.config, self.clock())
            desired, edit = await asyncio.to_thread(after_look, self.desired, self.config)
            if self.views is None and not (edit is Edit.ACCEPTED and self.on_edit is not None and await self.on_edit(desired)):
                self._take(desired, edit, at)
        keys = await asyncio.to_thread(self._read_keys)
        if keys is not None and keys != self._keys:
            told = self._take_keys(keys)
            if self.on_keys is not None:
                await self.on_keys(told)
        await self.look_at_nodes()

    async def look_at_nodes(self) -> None:
        """Who counts as a node, from now on."""
        if await self.nodes.look(nodes_of(self.deployment)):
            self._changed.set()

    def _take(self, desired: Desired, edit: Edit, at: float) -> None:
        before, self.desired = self.desired, desired
        CONFIG_PROBLEMS.set(len(desired.problems))
        if edit is Edit.UNCHANGED:
            return
        CONFIG_READS.labels(edit).inc()
        if edit is Edit.REFUSED:
            self._happened(Kind.REFUSED, "; ".join(str(problem) for problem in desired.problems))
            return
        changes = differences(before.deployment, desired.deployment)
        self._happened(Kind.CONFIG, "; ".join(map(str, changes)) or "the file is right again, as it was")
        self._written.append(Written(at, read_at_start(desired.deployment)))
        self._live()
        self._changed.set()

    def _take_keys(self, keys: list[PublishedKey]) -> str:
        states = {key.key_id: key.state for key in self._keys}
        changed = [f"{key.key_id} is {key.state}" for key in keys if states.get(key.key_id) != key.state]
        gone = [f"{key_id} is gone" for key_id in states if key_id not in {key.key_id for key in keys}]
        self._keys = keys
        told = ", ".join([*changed, *gone])
        self._happened(Kind.KEYS, told)
        self._changed.set()
        return told

    def _read_keys(self) -> list[PublishedKey] | None:
        try:
            keys = self._ring.published()
        except KeyRingError as error:
            KEY_READ_FAILURES.inc()
            if self.key_error is None:
                self.log.error("the key ring cannot be read; the keys published before stay", error=str(error))
            self.key_error = str(error)
            return None
        self.key_error = None
        return [
            PublishedKey(key_id=key.key_id, algorithm=key.algorithm.value, state=key.state.value, material=key.material)
            for key in keys
        ]

    async def _check_once(self, session: aiohttp.ClientSession, to_vantages: aiohttp.ClientSession) -> None:
        settings = self.deployment.control
        admins = {node: admin_address(self.deployment, node) for node in self.checked_nodes()}

        async def check(node: str) -> dict[str, str | None]:
            try:
                return {
                    "control": await check_health(session, node, admins[node], settings.probe_timeout, self.publisher.version)
                }
            except CannotLook:
                return {}  # who has not looked has no opinion

        checks = spread_out(check, list(admins), within_s=settings.probe_interval / 2)
        opinions, own = await asyncio.gather(read_opinions(to_vantages, self.deployment, self.nodes.identity), checks)
        edges = [name for name, _, _ in self.deployment.edges()]
        failing = traffic_opinions({edge: self.readings.get(edge, ()) for edge in edges}, self.clock())
        hysteresis = Hysteresis(settings.down_after, settings.up_after)
        for node, looked in zip(admins, own, strict=True):
            passive = {VANTAGE: failing[node]} if node in failing else {}
            told = {**looked, **opinions.get(node, {}), **passive}
            if told and node in self.health:  # else the config lost it while it was being asked
                self._learn_health(node, verdict(told), hysteresis)

    def _learn_health(self, node: str, error: str | None, hysteresis: Hysteresis) -> None:
        before = self.health[node]
        after = self.health[node] = after_check(before, error, self.clock(), hysteresis)
        NODE_UP.labels(node).set(GAUGE_OF[after.state])
        if after.state != before.state:
            self._happened(Kind.HEALTH, f"{node} is {after.state}" + (f": {after.error}" if after.error else ""))
            self._changed.set()

    def _learn_traffic(self, node: str, role: Role, text: str) -> None:
        try:
            counters = read_counters(text, role, self.clock())
        except UnreadableMetrics as error:
            self.log.warning("metrics of a node cannot be read", of=node, error=str(error))
            return
        remember(self.readings.setdefault(node, deque()), counters)
        life = self.lives.get(node)
        if life is None or life.process_start != counters.process_start:
            start = counters.process_start
            self.lives[node] = Life(start, found_at_start(self._written, node, start))
            self._changed.set()  # it may listen where the config says, now

    def _happened(self, kind: Kind, text: str) -> None:
        self.happenings.appendleft(Happening(self.clock(), kind, text))
        write = self.log.warning if kind is Kind.REFUSED else self.log.info
        write("happened", kind=kind.value, what=text)
