"""What operators may do to a deployment: plan, apply, roll back, drain. Each is planned, then refused with a cure, or done."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from control.audit import FILE_EDITOR, KEY_RING, Asker, AuditLog, What
from control.config.configfile import ConfigFile
from control.config.desired import Desired
from control.config.differences import differences
from control.config.draining import Drains
from control.config.history import History, Outcome, Version
from control.config.wanted import Wanted, drainable
from control.metrics import PLANS
from control.plane import ControlPlane, Kind
from control.rollouts.foreseen import Foreseen, foresee, members_of
from control.rollouts.rollouts import Rollouts
from control.rollouts.rolloutstate import End
from control.rollouts.seeing import Seeing
from headwater.rules.planning import Finding
from headwater.runtime.problems import Problem
from headwater.settings.load import ConfigError


class Operations:
    """Orders of operators. Methods raise Problem with what would mend the order."""

    def __init__(
        self,
        plane: ControlPlane,
        seeing: Seeing,
        rollouts: Rollouts,
        file: ConfigFile,
        history: History,
        drains: Drains,
        audit: AuditLog,
    ) -> None:
        self._plane = plane
        self._seeing = seeing
        self._rollouts = rollouts
        self._file = file
        self._history = history
        self._drains = drains
        self._audit = audit
        self._keys_known = False

    async def start(self) -> None:
        """What was in force before the start is in force again. A file that says something else by now is an edit where edits are
        staged, unless it was rolled back; else it is a version that came by a start."""
        plane, in_force = self._plane, self._history.in_force
        plane.drained = self._drains.names
        text = await asyncio.to_thread(lambda: self._file.text)
        if text is None or (in_force is not None and in_force.text == text):
            return
        kept = None if in_force is None else self._kept(in_force)
        if kept is not None and kept.deployment.control.rollout == "staged":
            latest = self._history.latest
            refused = latest is not None and latest.text == text and latest.outcome is Outcome.ROLLED_BACK
            plane.desired = Desired(kept.deployment, text if refused else kept.text)
        elif not self._rollouts.active:
            await self._note_version("start", text, "as found at the start of control")

    def _kept(self, version: Version) -> Wanted | None:
        try:
            return self._file.wanted(End(version.text))
        except ConfigError as error:
            self._plane.log.error("the version in force cannot be read any more; the file is taken", error=str(error))
            return None

    async def edited(self, desired: Desired) -> bool:
        """The file was edited. True when a rollout makes of it what it can; False: it is to be taken at once."""
        plane = self._plane
        if desired.text is None or desired.deployment == plane.desired.deployment:
            return False
        if plane.desired.deployment.control.rollout == "immediate":
            changes = "; ".join(map(str, differences(plane.desired.deployment, desired.deployment)))
            await self._note_version("edit", desired.text, changes[:500])
            await asyncio.to_thread(self._audit.note, FILE_EDITOR, What.EDIT, changes[:500], "live")
            return False
        if self._rollouts.active:
            return True  # one begins or ends just now: the next look at the file sees the edit again
        before = plane.wanted
        plane.desired = Desired(plane.desired.deployment, desired.text)  # seen: it is not looked at again
        try:
            after = Wanted(desired.text, desired.deployment, before.drains)
            await self._roll(before, after, "the edit of the config file", FILE_EDITOR, "edit", force=False)
        except Problem as problem:
            plane.tell(Kind.REFUSED, f"the edit of the file is not applied: {problem.detail}")
        return True

    async def keys_changed(self, what: str) -> None:
        """Signing keys were made, activated, retired or removed in the key ring's folder."""
        if self._keys_known:
            await asyncio.to_thread(self._audit.note, KEY_RING, What.KEYS, what, "published")
        self._keys_known = True  # what a start finds there is no change

    async def plan(self, text: str, shown: str) -> dict[str, Any]:
        """The plan for a file, as JSON members. `shown` is what the operator calls the file."""
        before = self._before()
        return members_of(await self._foresee(before, self._wanted(text, shown, before.drains)))

    async def plan_of_drains(self, names: Sequence[str], *, drained: bool) -> dict[str, Any]:
        before = self._before()
        return members_of(await self._foresee(before, self._drained(before, names, drained=drained)))

    async def apply(self, text: str, shown: str, asker: Asker, *, force: bool) -> dict[str, Any]:
        """Begins to roll the file out; the plan, and the rollout's id."""
        before = self._before()
        after = self._wanted(text, shown, before.drains)
        return await self._roll(before, after, f"apply {shown}", asker, "apply", force=force)

    async def rollback(self, number: int | None, asker: Asker, *, force: bool) -> dict[str, Any]:
        """Stops the rollout that is under way; else begins to roll a former version out, by default the one before the one in
        force."""
        if self._rollouts.active and number is None:
            assert self._rollouts.state is not None
            what = self._rollouts.state.what
            if not self._rollouts.stop(asker):
                raise Problem(409, "rollout-ending", "Rollout is ending", f"{what} is decided already; wait a moment")
            await asyncio.to_thread(self._audit.note, asker, What.STOP, what, "rolling back")
            return {"stopped": what}
        version = self.version(number)
        before = self._before()
        after = self._wanted(version.text, f"version {version.number}", before.drains)
        return await self._roll(before, after, f"back to version {version.number}", asker, "rollback", force=force)

    async def drain(self, names: Sequence[str], asker: Asker, *, drained: bool, force: bool, gently: bool) -> dict[str, Any]:
        """Drains or undrains POPs and edges: at once, or gently, as a rollout with handoff and ramp."""
        before = self._before()
        after = self._drained(before, names, drained=drained)
        word = "drain" if drained else "undrain"
        what = f"{word} {', '.join(names)}"
        if gently and after.effective != before.effective:
            return await self._roll(before, after, what, asker, None, force=force)
        self._rollouts.refuse_if_active()
        foreseen = await self._foresee(before, after)
        self._refuse(foreseen, force=force)
        async with self._rollouts.turn:
            self._rollouts.refuse_if_active()  # one that began meanwhile would end without this drain
            self._rollouts.refuse_if_moved(before, what)  # another drain, say, which this one would undo
            await asyncio.to_thread(self._drains.put, after.drains, asker)
            await self._plane.drain(after.drains, f"{what} by {asker.login or asker.who}")
        await asyncio.to_thread(self._audit.note, asker, What.DRAIN if drained else What.UNDRAIN, ", ".join(names), "done")
        return {"plan": members_of(foreseen), "rollout": None, "drained": sorted(after.drains)}

    def version(self, number: int | None) -> Version:
        """A version of the history; None: the one before the one in force."""
        in_force = self._history.in_force
        found = self._history.versions.get(number) if number is not None else None
        if number is None and in_force is not None:
            found = self._history.before(in_force.number)
        if found is None:
            known = f"1 to {max(self._history.versions)}" if self._history.versions else "none"
            raise Problem(404, "version-unknown", "Version unknown", f"there is no such version (known: {known})")
        return found

    def _before(self) -> Wanted:
        wanted = self._plane.wanted
        in_force = self._history.in_force
        return replace(wanted, text=in_force.text) if in_force is not None else wanted

    def _wanted(self, text: str, shown: str, drains: frozenset[str]) -> Wanted:
        try:
            return self._file.wanted(End(text, tuple(drains)), shown)
        except ConfigError as error:
            problems = [{"line": one.line, "path": one.path, "reason": one.reason, "text": str(one)} for one in error.problems]
            raise Problem(422, "config-invalid", "Config invalid", str(error), problems=problems) from error

    def _drained(self, before: Wanted, names: Sequence[str], *, drained: bool) -> Wanted:
        known = drainable(before.deployment)
        unknown = [name for name in names if name not in known and not (name in before.drains and not drained)]
        if unknown or not names:
            detail = f"{', '.join(unknown) or 'nothing'} is no POP or edge; there are {', '.join(known)}"
            raise Problem(404, "node-unknown", "Node unknown", detail)
        return replace(before, drains=before.drains | set(names) if drained else before.drains - set(names))

    async def _foresee(self, before: Wanted, after: Wanted) -> Foreseen:
        foreseen = await self._seeing.foresee(before, after)
        PLANS.labels("refused" if foreseen.refusals or foreseen.impossible else "holds").inc()
        return foreseen

    def _refuse(self, foreseen: Foreseen, *, force: bool) -> None:
        """Raises Problem when the plan does not hold."""
        if foreseen.impossible:
            raise Problem(409, "plan-impossible", "Cannot be done", _told(foreseen.impossible), plan=members_of(foreseen))
        if foreseen.refusals and not force:
            detail = f"{_told(foreseen.refusals)}. --force does it anyway."
            raise Problem(409, "plan-refused", "Would not hold", detail, plan=members_of(foreseen))

    async def _roll(
        self, before: Wanted, after: Wanted, what: str, asker: Asker, source: str | None, *, force: bool
    ) -> dict[str, Any]:
        foreseen = await self._foresee(before, after)
        try:
            self._refuse(foreseen, force=force)
            forced = ", forced" if foreseen.refusals else ""
            state = await self._rollouts.begin(what, asker, before, after, source, foreseen.summary + forced)
        except Problem as problem:
            await asyncio.to_thread(self._audit.note, asker, What.REFUSED, what, problem.detail)
            raise
        await asyncio.to_thread(self._audit.note, asker, What.APPLY if source else What.DRAIN, what, f"begun: {foreseen.summary}")
        return {"plan": members_of(foreseen), "rollout": state.id, "version": state.version}

    async def _note_version(self, source: str, text: str, summary: str) -> None:
        try:
            await asyncio.to_thread(self._history.add, FILE_EDITOR, source, text, summary, Outcome.APPLIED)
        except OSError as error:
            self._plane.log.error("the history does not take a version", error=str(error))


def offline(before: Wanted, after: Wanted, seen: Any) -> dict[str, Any]:
    """A plan without a live system: weights and capacities only."""
    return members_of(foresee(before, after, {}, seen))


def _told(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{finding.what} ({finding.cure})" for finding in findings)
