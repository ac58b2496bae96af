"""The steps of a rollout: what each node sees at each of them. Pure; the same two configs always give the same steps.

    additions      nodes, shields and properties that are new are known to all, with no viewer sent to them
    canary         one edge lives by the new settings
    POP …          then the edges of one POP after the other
    shield …       then each shield
    others         then DNS, API and origin
    handoff        gaining edges fetch the hot objects of the buckets that will move
    weights n %    the weights move, in steps
    removals       what goes has no viewers any more, and goes

Caches come before steering when something is added, steering before caches when something is removed. Steps that change nothing
for any node are left out. Every view is a whole config that was checked like one read from a file: a change that has no valid
config on its way (a new edge on an old one's address) is refused with a cure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import ValidationError

from headwater.settings.deployment import Deployment, Role, nodes_of
from headwater.settings.topology import Edge, Pop, Shield

T = TypeVar("T")


class Unstageable(ValueError):
    """The change has no valid config between its ends. The message names the cure."""


class StepKind(StrEnum):
    """What a step does; also the metric's label."""

    ADDITIONS = "additions"
    SETTINGS = "settings"
    HANDOFF = "handoff"
    WEIGHTS = "weights"
    REMOVALS = "removals"


@dataclass(frozen=True, slots=True)
class Step:
    """`ahead` are the nodes that live by the new settings, `share` is how far weights have moved (0 to 1), `added` are nodes that
    must be up before the next step, `final` means that nothing of the old config is left."""

    name: str
    kind: StepKind
    ahead: frozenset[str] = frozenset()
    share: float = 0.0
    added: tuple[str, ...] = ()
    final: bool = False


@dataclass(frozen=True, slots=True)
class Views:
    """What a step shows to whom: `everyone`'s config, and of those who see another one theirs by node."""

    everyone: Deployment
    others: Mapping[str, Deployment]

    def of(self, node: str) -> Deployment:
        return self.others.get(node, self.everyone)


def steps(before: Deployment, after: Deployment, canary: str | None, ramp_steps: int) -> tuple[Step, ...]:
    """The steps from one config to the other, those without an effect left out. Raises Unstageable."""
    found: list[Step] = []
    way = _Way(before, after)
    seen = Views(before, {})
    for step in _all_steps(before, after, canary, ramp_steps):
        views = way.views_at(step)
        moves = step.kind is StepKind.HANDOFF and _weights_differ(before, after)
        if moves or views != seen:
            found.append(step)
        seen = views
    return tuple(found)


def views_at(step: Step, before: Deployment, after: Deployment) -> Views:
    """What each node sees at the step. Raises Unstageable."""
    return _Way(before, after).views_at(step)


class _Way:
    """The views between two configs, each made and checked once: there are three for each share, however many nodes and steps."""

    def __init__(self, before: Deployment, after: Deployment) -> None:
        self._before = before
        self._after = after
        self._roles: dict[str, Role] = {**nodes_of(before), **nodes_of(after)}
        self._made: dict[tuple[float, bool, bool], Deployment] = {}
        self._different: list[Deployment] = [before, after]

    def views_at(self, step: Step) -> Views:
        if step.final:
            return Views(self._after, {})
        plain = self._view(step, ahead=False, knows_additions=True)
        edges_behind = self._view(step, ahead=False, knows_additions=False)
        ahead = self._view(step, ahead=True, knows_additions=True)
        by_node = {
            node: ahead if node in step.ahead else edges_behind if role == "edge" else plain for node, role in self._roles.items()
        }
        if all(view is ahead for view in by_node.values()):
            return Views(ahead, {})
        return Views(plain, {node: view for node, view in by_node.items() if view is not plain})

    def _view(self, step: Step, *, ahead: bool, knows_additions: bool) -> Deployment:
        """Equal views are one object, so that nodes need not be compared one by one."""
        key = (step.share, ahead, knows_additions)
        if key not in self._made:
            view = _view(self._before, self._after, step, ahead=ahead, knows_additions=knows_additions)
            same = next((known for known in self._different if known == view), None)
            if same is None:
                self._different.append(_checked(view))
            self._made[key] = view if same is None else same
        return self._made[key]


def default_canary(before: Deployment, after: Deployment) -> str | None:
    """The edge with the least claim on viewers among those that stay; one that serves nobody would show nothing."""
    staying = {name for name, _, _ in after.edges()}
    claims = {
        name: edge.weight * before.pops[pop].weight for name, pop, edge in before.edges() if name in staying and edge.weight > 0
    }
    serving = {name: claim for name, claim in claims.items() if claim > 0}
    return min(serving or claims, key=lambda name: (claims[name], name), default=None)


def _all_steps(before: Deployment, after: Deployment, canary: str | None, ramp_steps: int) -> Iterable[Step]:
    roles: dict[str, Role] = {**nodes_of(before), **nodes_of(after)}
    added = tuple(node for node in nodes_of(after) if node not in nodes_of(before))
    yield Step("additions: known to all, used by none", StepKind.ADDITIONS, added=added)
    ahead: set[str] = set()

    def settings(name: str, nodes: Iterable[str]) -> Step:
        ahead.update(nodes)
        return Step(name, StepKind.SETTINGS, frozenset(ahead))

    if canary is not None:
        yield settings(f"new settings: canary {canary}", [canary])
    for pop in dict.fromkeys((*before.pops, *after.pops)):
        edges = {edge for one in (before, after) if pop in one.pops for edge in one.pops[pop].edges}
        yield settings(f"new settings: POP {pop}", edges)
    for shield in dict.fromkeys((*before.shields, *after.shields)):
        yield settings(f"new settings: {shield}", [shield])
    yield settings("new settings: DNS, API, origin", roles)
    everyone = frozenset(ahead)
    yield Step("handoff: hot objects go ahead of their viewers", StepKind.HANDOFF, everyone)
    for number in range(1, ramp_steps + 1):
        share = number / ramp_steps
        yield Step(f"weights: {share:.0%} of the way", StepKind.WEIGHTS, everyone, share)
    yield Step("removals", StepKind.REMOVALS, everyone, 1.0, final=True)


def _weights_differ(before: Deployment, after: Deployment) -> bool:
    return _claims(before) != _claims(after)


def _claims(deployment: Deployment) -> set[tuple[str, str, float]]:
    pops = {(name, pop.region, pop.weight) for name, pop in deployment.pops.items()}
    return pops | {(edge, name, one.weight) for name, pop in deployment.pops.items() for edge, one in pop.edges.items()}


def _view(before: Deployment, after: Deployment, step: Step, *, ahead: bool, knows_additions: bool) -> Deployment:
    base = after if ahead else before
    moving = step.share > 0
    steering = after if moving else before
    properties = _union(after.properties, before.properties) if ahead else dict(before.properties)
    if not ahead and knows_additions:
        properties = _union(before.properties, after.properties)
    return base.model_copy(
        update={
            "regions": _union(after.regions, before.regions) if moving else _union(before.regions, after.regions),
            "steering": steering.steering,
            "pops": _pops(before, after, step.share, ahead=ahead),
            "shields": _shields(before.shields, after.shields, step.share, ahead=ahead),
            "properties": properties,
        }
    )


def _union(first: Mapping[str, T], second: Mapping[str, T]) -> dict[str, T]:
    """`first` in its order, then what only `second` has."""
    return {**first, **{name: one for name, one in second.items() if name not in first}}


def _between(old: float | None, new: float | None, share: float) -> float:
    """A weight on its way; that of what is not there is 0."""
    if old == new:
        return old or 0.0
    return (old or 0.0) + ((new or 0.0) - (old or 0.0)) * share


def _pops(before: Deployment, after: Deployment, share: float, *, ahead: bool) -> dict[str, Pop]:
    pops: dict[str, Pop] = {}
    for name, either in _union(after.pops, before.pops).items():
        old, new = before.pops.get(name), after.pops.get(name)
        both = old is not None and new is not None
        edges = _edges(old.edges if old else {}, new.edges if new else {}, share, ahead=ahead, same_pop=both)
        if not edges:
            continue
        region = either.region if old is None or new is None else (new if share > 0 else old).region
        weight = _between(old.weight if old else None, new.weight if new else None, share)
        pops[name] = either.model_copy(update={"region": region, "weight": weight, "edges": edges})
    return pops


def _edges(old: Mapping[str, Edge], new: Mapping[str, Edge], share: float, *, ahead: bool, same_pop: bool) -> dict[str, Edge]:
    """Of a POP that is all new or all old, only the POP's weight is on its way."""
    edges: dict[str, Edge] = {}
    for name, either in _union(new, old).items():
        was, will = old.get(name), new.get(name)
        chosen = (will or either) if ahead else (was or either)
        weight = _between(was.weight if was else None, will.weight if will else None, share) if same_pop else either.weight
        edges[name] = chosen.model_copy(update={"weight": weight})
    return edges


def _shields(old: Mapping[str, Shield], new: Mapping[str, Shield], share: float, *, ahead: bool) -> dict[str, Shield]:
    shields: dict[str, Shield] = {}
    for name, either in _union(new, old).items():
        was, will = old.get(name), new.get(name)
        chosen = (will or either) if ahead else (was or either)
        weight = _between(was.weight if was else None, will.weight if will else None, share)
        shields[name] = chosen.model_copy(update={"weight": weight})
    return shields


def _checked(view: Deployment) -> Deployment:
    """The view as a node would read it. Raises Unstageable."""
    try:
        Deployment.model_validate(view.model_dump(mode="json"))
    except ValidationError as error:
        reasons = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors(include_url=False))
        raise Unstageable(
            f"old and new nodes cannot be known at the same time ({reasons}); apply the removals first, then the additions"
        ) from error
    return view


def canary_of(before: Deployment, after: Deployment, chosen: str | None) -> str | None:
    """The canary that the settings choose, where both configs have it, else the default one."""
    names: set[Any] = {name for name, _, _ in before.edges()} & {name for name, _, _ in after.edges()}
    return chosen if chosen in names else default_canary(before, after)
