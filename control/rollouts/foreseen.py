"""A plan as operators get it: what moves (headwater.rules.planning), what waits for a restart, what cannot be.

Pure: the live system's figures are arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from control.config.differences import Difference, differences, read_at_start
from control.config.wanted import Wanted
from control.rollouts.stages import Step, Unstageable, canary_of, steps
from headwater.rules.planning import Finding, Plan, Seen, plan
from headwater.rules.rendezvous import ranked
from headwater.rules.steering import World
from headwater.settings.deployment import Deployment, nodes_of
from headwater.settings.snapshot import Health, Snapshot
from headwater.settings.world import world_of

KEYS_SAMPLED: Final = 2000  # of shields' keys: the share that moves is known to about a percent


@dataclass(frozen=True, slots=True)
class Foreseen:
    """`refusals` can be forced, what is `impossible` cannot. `restart` are settings by the node that reads them as it starts."""

    plan: Plan
    changes: tuple[Difference, ...]
    restart: tuple[tuple[str, Difference], ...]
    steps: tuple[Step, ...]
    warnings: tuple[Finding, ...]
    refusals: tuple[Finding, ...]
    impossible: tuple[Finding, ...]

    @property
    def summary(self) -> str:
        """One line for the history."""
        if not self.changes:
            return "no change"
        moved = f"{self.plan.moved_share:.1%} of {'traffic' if self.plan.total_bps else 'buckets'} moves"
        return f"{len(self.changes)} settings change; {moved}"


def foresee(before: Wanted, after: Wanted, health: Mapping[str, Health], seen: Seen) -> Foreseen:
    """What going from one to the other would do."""
    old, new = before.effective, after.effective
    found = plan(steady_world(old, health), steady_world(new, health), seen)
    restart = tuple(_restarts(before.deployment, after.deployment))
    impossible = list(_impossible(before.deployment, after.deployment))
    stages: tuple[Step, ...] = ()
    try:
        staging = after.deployment.control.staging
        stages = steps(old, new, canary_of(old, new, staging.canary), staging.ramp_steps)
    except Unstageable as error:
        impossible.append(Finding("the change cannot be made in steps", str(error)))
    return Foreseen(
        plan=found,
        changes=tuple(differences(old, new)),
        restart=restart,
        steps=stages,
        warnings=(*found.warnings, *_shield_warnings(old, new, seen), *_drain_warnings(before, after)),
        refusals=found.refusals,
        impossible=tuple(impossible),
    )


def steady_world(deployment: Deployment, health: Mapping[str, Health]) -> World:
    """The world as it settles: without slow starts and without buckets that are passed on for load."""
    return world_of(Snapshot(version=0, deployment=deployment, health=dict(health)))


def _restarts(before: Deployment, after: Deployment) -> Iterable[tuple[str, Difference]]:
    old, new = read_at_start(before), read_at_start(after)
    for node in nodes_of(after):
        if node not in old:
            continue  # it is not running yet
        paths = dict.fromkeys((*old[node], *new[node]))
        for path in paths:
            change = Difference(path, old[node].get(path), new[node].get(path))
            if change.before != change.after:
                yield node, change


def _impossible(before: Deployment, after: Deployment) -> Iterable[Finding]:
    if before.name != after.name:
        yield Finding(
            f"the deployment's name would change from {before.name} to {after.name}",
            "this file is of another deployment; give --config of the one that you mean",
        )
    if before.data != after.data:
        yield Finding(
            f"the data folder would move from {before.data} to {after.data}",
            "stop all nodes, move the folder, edit the file, start them again",
        )


def _shield_warnings(before: Deployment, after: Deployment, seen: Seen) -> Iterable[Finding]:
    old = [(name, shield.weight) for name, shield in before.shields.items()]
    new = [(name, shield.weight) for name, shield in after.shields.items()]
    if sorted(old) == sorted(new):
        return
    moved = sum(_first(f"{n}", old) != _first(f"{n}", new) for n in range(KEYS_SAMPLED)) / KEYS_SAMPLED
    held = sum(one.size_bytes for name, _ in old for one in seen.holdings.get(name, {}).values())
    if moved:
        yield Finding(
            f"{moved:.0%} of all objects change their shield: of the {held / 1e6:,.0f} MB that shields hold hot, about "
            f"{held * moved / 1e6:,.0f} MB are asked of the origin again",
            "change shields when traffic is low",
        )


def _first(key: str, weights: list[tuple[str, float]]) -> str:
    names = ranked(key.encode(), weights)
    return names[0] if names else ""


def _drain_warnings(before: Wanted, after: Wanted) -> Iterable[Finding]:
    known = {*after.deployment.pops, *(name for name, _, _ in after.deployment.edges())}
    for name in sorted(after.drains & before.drains & known):
        yield Finding(f"{name} stays drained, whatever its weight in the file", f"headwater undrain {name}")


def members_of(foreseen: Foreseen) -> dict[str, Any]:
    """As JSON."""
    found = foreseen.plan
    return {
        "measured": found.measured.value,
        "total_bps": found.total_bps,
        "moved_buckets": found.moved_buckets,
        "moved_share": found.moved_share,
        "pops": [asdict(pop) for pop in found.pops],
        "edges": [asdict(edge) for edge in found.edges],
        "moves": [
            {
                "source": move.source,
                "target": move.target,
                "buckets": [f"{bucket:03x}" for bucket in move.buckets],
                "pairs": move.pairs,
                "cold_bytes": move.size_bytes,
            }
            for move in found.moves
        ],
        "shield_fills": {"objects": found.shield_fills.objects, "bytes": found.shield_fills.size_bytes},
        "origin_fills": {"objects": found.origin_fills.objects, "bytes": found.origin_fills.size_bytes},
        "changes": [asdict(change) | {"text": str(change)} for change in foreseen.changes],
        "restart": [{"node": node, **asdict(change), "text": str(change)} for node, change in foreseen.restart],
        "steps": [step.name for step in foreseen.steps],
        "summary": foreseen.summary,
        "warnings": [asdict(finding) for finding in foreseen.warnings],
        "refusals": [asdict(finding) for finding in foreseen.refusals],
        "impossible": [asdict(finding) for finding in foreseen.impossible],
    }
