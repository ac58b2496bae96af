"""Rollouts: one at a time, step by step, each step watched, back to the beginning by itself when one does not hold.

The state is on disk before each step is shown to anybody, and a step may be shown twice: a control that is killed at any moment
goes on where it was. What the steps are is told by `stages`, whether one holds by `gate`; here is the order of doing it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp

from control.audit import Asker, AuditLog, What
from control.config.configfile import ConfigFile
from control.config.desired import Desired
from control.config.draining import Drains
from control.config.history import History, Outcome
from control.config.wanted import Wanted
from control.metrics import ROLLOUT_STEP, ROLLOUTS
from control.plane import ControlPlane, Kind
from control.rollouts.foreseen import steady_world
from control.rollouts.gate import failing_share, fails_too_often, not_taken, not_up, went_down
from control.rollouts.handoff import hand_over
from control.rollouts.rolloutstate import End, RolloutState, Status, keep_state, kept_state
from control.rollouts.seeing import Seeing
from control.rollouts.stages import Step, StepKind, Views, canary_of, steps, views_at
from control.watching.fleet import Fleet
from control.watching.probing import read_metrics
from control.watching.traffic import Counters, UnreadableMetrics, read_counters
from headwater.rules.planning import plan
from headwater.runtime.logs import Log
from headwater.runtime.problems import Problem
from headwater.settings.deployment import Role, admin_address, nodes_of
from headwater.settings.load import ConfigError

LOOK_S: Final = 0.25
COUNT_S: Final = 1.0  # between two readings of what nodes fail
READ_TIMEOUT_S: Final = 3.0
SERVING: Final[tuple[Role, ...]] = ("edge", "shield")
WITHOUT_SNAPSHOTS: Final[tuple[Role, ...]] = ("control", "origin-transcoder")


class Rollouts:
    """`run` runs for ever. `state` is the rollout under way, or the last one."""

    def __init__(
        self,
        folder: Path,
        plane: ControlPlane,
        fleet: Fleet,
        seeing: Seeing,
        file: ConfigFile,
        history: History,
        drains: Drains,
        audit: AuditLog,
        log: Log,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kept = folder / "rollout.json"
        self._plane = plane
        self._fleet = fleet
        self._seeing = seeing
        self._file = file
        self._history = history
        self._drains = drains
        self._audit = audit
        self._log = log
        self._clock = clock
        self.state: RolloutState | None = None
        self.turn = asyncio.Lock()  # of whoever begins to change what is in force: a look at it holds no longer than this
        self._before: Wanted | None = None
        self._after: Wanted | None = None
        self._steps: tuple[Step, ...] = ()
        self._begun = asyncio.Event()
        self._stopped_by: str | None = None
        self._decided = False
        self._seen: Desired | None = None  # what had been looked at of the file when it began
        self._news = asyncio.Event()

    @property
    def active(self) -> bool:
        return self.state is not None and self.state.active

    def restore(self) -> Views | None:
        """What nodes are to see after a start of control: that of the rollout that was under way, or None. Blocks."""
        try:
            self.state = kept_state(self._kept)
            self._history.end_orphans(self.state.version if self.state is not None and self.state.active else None)
            if self.state is None or not self.state.active:
                return None
            self._open(self.state)
        except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
            self._log.error("the rollout that was under way cannot be read; the config in force stays", error=repr(error))
            self.state = None
            return None
        self._begun.set()
        return self._views()

    async def begin(
        self, what: str, asker: Asker, before: Wanted, after: Wanted, source: str | None, summary: str
    ) -> RolloutState:
        """Starts a rollout; with a `source` it is a new version of the config. Raises Problem."""
        async with self.turn:
            self.refuse_if_active()
            self.refuse_if_moved(before, what)
            return await self._begin(what, asker, before, after, source, summary)

    def refuse_if_active(self) -> None:
        """Raises Problem while a rollout is under way."""
        if self.active:
            assert self.state is not None
            detail = f"{self.state.what} is under way; wait for it, or stop it with `headwater rollback`"
            raise Problem(409, "rollout-running", "A rollout is running", detail)

    def refuse_if_moved(self, before: Wanted, what: str) -> None:
        """Raises Problem when what an order was planned for is not in force any more."""
        if (before.deployment, before.drains) != (self._plane.desired.deployment, self._plane.drained):
            detail = f"{what} was planned for what is not in force any more: give the order again"
            raise Problem(409, "config-moved", "Config moved", detail)

    async def _begin(
        self, what: str, asker: Asker, before: Wanted, after: Wanted, source: str | None, summary: str
    ) -> RolloutState:
        now, seen = self._clock(), self._plane.desired
        version = None
        if source is not None:
            version = (await asyncio.to_thread(self._history.add, asker, source, after.text, summary, Outcome.RUNNING)).number
        state = RolloutState(
            id=f"{int(now * 1000):x}",
            what=what,
            asker=asker,
            began=now,
            before=End(before.text, tuple(sorted(before.drains))),
            after=End(after.text, tuple(sorted(after.drains))),
            version=version,
        )
        await asyncio.to_thread(self._open, state)
        state = replace(state, steps=tuple(step.name for step in self._steps)).said(now, f"{what}: {summary}")
        await asyncio.to_thread(keep_state, self._kept, state)
        self.state, self._stopped_by, self._decided, self._seen = state, None, False, seen
        self._wake()
        self._begun.set()
        return state

    def stop(self, asker: Asker) -> bool:
        """Rolls back what is under way. False when nothing is, or its end is decided already."""
        if self.state is None or self.state.status is not Status.RUNNING or self._decided:
            return False
        self._stopped_by = asker.who
        return True

    async def run(self) -> None:
        """Carries out whatever begins."""
        while True:
            await self._begun.wait()
            if self.active:
                await self._carry_on()
            self._begun.clear()

    async def news(self, after: int, wait_s: float) -> RolloutState | None:
        """The state as soon as it has more lines than `after`, or has ended; at the latest after `wait_s`."""
        try:
            async with asyncio.timeout(wait_s):
                while self.active and self.state is not None and self.state.dropped + len(self.state.lines) <= after:
                    await self._news.wait()
        except TimeoutError:
            pass
        return self.state

    def _open(self, state: RolloutState) -> None:
        """Both ends and the steps between them. Raises ConfigError or Unstageable."""
        self._before, self._after = self._file.wanted(state.before), self._file.wanted(state.after)
        old, new = self._before.effective, self._after.effective
        staging = new.control.staging
        self._steps = steps(old, new, canary_of(old, new, staging.canary), staging.ramp_steps)

    def _views(self) -> Views:
        state = self.state
        assert state is not None
        assert self._before is not None
        assert self._after is not None
        if state.status is Status.BACK:
            return Views(self._before.effective, {})
        if state.status is Status.ENDING or not self._steps:
            return Views(self._after.effective, {})
        return views_at(self._steps[min(state.step, len(self._steps) - 1)], self._before.effective, self._after.effective)

    async def _carry_on(self) -> None:
        await self._know_who_is_up()
        state = self.state
        assert state is not None
        try:
            while state.status is Status.RUNNING and state.step < len(self._steps):
                reason = await self._step(self._steps[state.step]) or self._stopped()
                if reason is not None:
                    await self._decide(reason)
                elif state.step + 1 < len(self._steps):
                    await self._turn(step=state.step + 1)
                else:
                    await self._decide(None)
                state = self.state
                assert state is not None
            if state.status is Status.RUNNING:  # nothing that any node would see
                await self._decide(self._stopped())
            await (self._back() if self.state is not None and self.state.status is Status.BACK else self._end())
        finally:
            ROLLOUT_STEP.set(0)

    async def _decide(self, reason: str | None) -> None:
        """Back for a reason, or to the end. From now on nobody is told that they stopped it."""
        self._decided = True
        await (self._turn(status=Status.ENDING) if reason is None else self._turn(status=Status.BACK, reason=reason))

    async def _know_who_is_up(self) -> None:
        """Notes once how the nodes were before; a control that has just started looks at them first."""
        assert self.state is not None
        plane, deadline = self._plane, time.monotonic() + self._patience_s
        if self.state.up:
            return
        while time.monotonic() < deadline:
            if all(health.state != "unknown" for health in plane.health.values()):
                break
            await asyncio.sleep(LOOK_S)
        await self._turn(
            up=tuple(node for node, health in plane.health.items() if health.state == "up"),
            failing={node: failing_share(seen[0], seen[-1])[0] for node, seen in plane.readings.items() if len(seen) > 1},
        )

    async def _step(self, step: Step) -> str | None:
        """Shows the step and watches it. Why it does not hold, or None."""
        assert self.state is not None
        ROLLOUT_STEP.set(self.state.step + 1)
        self._say(f"step {self.state.step + 1} of {len(self._steps)}: {step.name}")
        began = time.monotonic()
        version = await self._plane.show(self._views())
        reason = await self._until_taken(step, version)
        if reason is None and step.kind is StepKind.HANDOFF:
            reason = await self._hand_over()
        elif reason is None:
            reason = await self._watched(step)
        if reason is None:
            self._say(f"step {self.state.step + 1} holds after {time.monotonic() - began:.1f} s")
        return reason

    async def _until_taken(self, step: Step, version: int) -> str | None:
        """Waits until every node that was up lives by the step, and the new ones are up."""
        assert self.state is not None
        roles = nodes_of(self._plane.deployment)
        waited_for = [node for node in self.state.up if node in roles and roles[node] not in WITHOUT_SNAPSHOTS]
        deadline = time.monotonic() + self._patience_s
        while True:
            held = {node: poll.held for node, poll in self._plane.polls.items()}
            missing, away = not_taken(waited_for, held, version), not_up(step.added, self._plane.health)
            if not missing and not away:
                return None
            if reason := self._why_stop():
                return reason
            if time.monotonic() >= deadline:
                return self._late(missing, away)
            await asyncio.sleep(LOOK_S)

    def _late(self, missing: list[str], away: list[str]) -> str:
        told = [f"{', '.join(missing)} did not take the step over within {self._patience_s:g} s"] if missing else []
        if away:
            told.append(f"{', '.join(away)} did not come up within {self._patience_s:g} s: start them, then apply again")
        return "; ".join(told)

    async def _watched(self, step: Step) -> str | None:
        """Watches health and failures for as long as the step is to last."""
        assert self._after is not None
        staging = self._after.deployment.control.staging
        lasts_s = max(staging.settle, staging.ramp / staging.ramp_steps if step.kind is StepKind.WEIGHTS else 0.0)
        if step.share == 1.0 and not step.final and self._steps[-1].final:
            lasts_s = max(lasts_s, self._after.deployment.dns.ttl)  # viewers leave what goes as their DNS answers run out
        ends = time.monotonic() + lasts_s
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            first = await self._counted(session)
            while True:
                left_s = ends - time.monotonic()
                await asyncio.sleep(min(COUNT_S, max(left_s, 0.0)))
                reason = self._why_stop() or self._why_failing(first, await self._counted(session), staging.max_errors)
                if reason is not None or time.monotonic() >= ends:
                    return reason

    async def _hand_over(self) -> str | None:
        """Fetches ahead; ends early when the rollout stops."""
        assert self._before is not None
        assert self._after is not None
        plane = self._plane
        health = {node: health.state for node, health in plane.health.items()}
        worlds = [steady_world(one.effective, health) for one in (self._before, self._after)]
        moves = (await asyncio.to_thread(plan, worlds[0], worlds[1], self._seeing.without_holdings())).moves
        settings = self._after.deployment.control.staging.handoff
        work = asyncio.create_task(hand_over(self._fleet, plane.deployment, moves, health, settings, self._say))
        try:
            while not work.done():
                await asyncio.wait([work], timeout=LOOK_S)
                if reason := self._why_stop():
                    return reason
            work.result()
            return None
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def _why_stop(self) -> str | None:
        assert self.state is not None
        return self._stopped() or went_down(self.state.up, nodes_of(self._plane.deployment), self._plane.health)

    def _stopped(self) -> str | None:
        return None if self._stopped_by is None else f"stopped by {self._stopped_by}"

    def _why_failing(self, first: dict[str, Counters], last: dict[str, Counters], max_errors: float) -> str | None:
        assert self.state is not None
        before = self.state.failing
        reasons = (
            fails_too_often(node, first.get(node), last.get(node), before.get(node, 0.0), max_errors) for node in self.state.up
        )
        return "; ".join(reason for reason in reasons if reason) or None

    async def _counted(self, session: aiohttp.ClientSession) -> dict[str, Counters]:
        """What the nodes that serve have counted by now."""
        roles = {node: role for node, role in nodes_of(self._plane.deployment).items() if role in SERVING}
        asked = (read_metrics(session, admin_address(self._plane.deployment, node), READ_TIMEOUT_S) for node in roles)
        found: dict[str, Counters] = {}
        for (node, role), text in zip(roles.items(), await asyncio.gather(*asked), strict=True):
            try:
                if text is not None:
                    found[node] = read_counters(text, role, self._clock())
            except UnreadableMetrics:
                continue
        return found

    async def _end(self) -> None:
        """Makes the new config the one in force: drains, the file, the history. Every part may be done twice."""
        state, after = self.state, self._after
        assert state is not None
        assert after is not None
        await asyncio.to_thread(self._drains.put, after.drains, state.asker)
        told = await asyncio.to_thread(self._file.become, after.text, state.before.text) if state.version is not None else None
        if state.version is not None:
            await asyncio.to_thread(self._history.end, state.version, Outcome.APPLIED)
        await self._plane.settle(after, self._file.text if state.version is not None else self._seen_before())
        if told is not None:
            self._say(told)
        await self._finish(Status.DONE, f"{state.what}: done")

    async def _back(self) -> None:
        state, before = self.state, self._before
        assert state is not None
        assert before is not None
        self._say(f"rolling back: {state.reason}")
        version = await self._plane.show(Views(before.effective, {}))
        if state.version is not None:
            await asyncio.to_thread(self._history.end, state.version, Outcome.ROLLED_BACK, state.reason)
        deadline = time.monotonic() + self._patience_s
        waited_for = [node for node in state.up if nodes_of(before.deployment).get(node) not in (None, *WITHOUT_SNAPSHOTS)]
        while time.monotonic() < deadline:
            held = {node: poll.held for node, poll in self._plane.polls.items()}
            waiting = [node for node in not_taken(waited_for, held, version) if self._plane.health[node].state == "up"]
            if not waiting:
                break
            await asyncio.sleep(LOOK_S)
        seen = self._file.text_after_rollback(state) if state.version is not None else self._seen_before()
        await self._plane.settle(before, seen)
        await self._finish(Status.ROLLED_BACK, f"{state.what}: rolled back: {state.reason}")

    def _seen_before(self) -> str | None:
        """The file's text that counts as seen after a drain, which leaves the file alone: what was written since is an edit."""
        return (self._seen or self._plane.desired).text

    async def _finish(self, status: Status, text: str) -> None:
        assert self.state is not None
        self._say(text)
        ROLLOUTS.labels(status.value).inc()
        what = What.APPLY if self.state.version is not None else What.DRAIN
        outcome = f"{status.value}: {self.state.reason}" if self.state.reason else status.value
        await asyncio.to_thread(self._audit.note, self.state.asker, what, self.state.what, outcome)
        await self._turn(status=status, ended=self._clock())
        self._plane.tell(Kind.ROLLOUT if status is Status.DONE else Kind.REFUSED, text)

    async def _turn(self, **changes: object) -> None:
        """The next state, on disk before anything is done about it."""
        assert self.state is not None
        state = replace(self.state, **changes)  # type: ignore[arg-type]
        await asyncio.to_thread(keep_state, self._kept, state)
        self.state = state
        self._wake()

    def _say(self, text: str) -> None:
        assert self.state is not None
        self.state = self.state.said(self._clock(), text)
        self._log.info("rollout", what=self.state.what, said=text)
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    @property
    def _patience_s(self) -> float:
        assert self._after is not None
        return self._after.deployment.control.staging.patience
