"""What an edit changes, setting by setting, and which of it reaches a node only when it starts again. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headwater.settings.deployment import Deployment, Role, nodes_of

# What a role reads once, at its start. All else follows the snapshot.
READ_AT_START: Final[dict[Role, tuple[str, ...]]] = {
    "control": ("signing.keys",),
    "dns": ("dns.listen", "dns.admin", "dns.http.listen", "dns.http.tls", "dns.dnssec", "dns.rollover"),
    "origin-api": (
        "origin.api", "origin.public_url", "origin.catalogue", "origin.masters", "origin.tiers", "origin.uploads",
        "origin.transcode", "origin.steer_by", "signing",
    ),
    "origin-bytes": ("origin.bytes", "origin.tiers"),
    "origin-transcoder": (
        "origin.transcoder_admin", "origin.catalogue", "origin.masters", "origin.tiers", "origin.transcode",
        "dns.http.public_url",
    ),
    "shield": ("shields.{node}.listen", "shields.{node}.admin", "shields.{node}.cache"),
    "edge": ("pops.*.edges.{node}.listen", "pops.*.edges.{node}.host", "pops.*.edges.{node}.admin", "pops.*.edges.{node}.cache"),
}  # fmt: skip
# Every node asks control where it listened when the node started, and has its data below one folder.
READ_AT_START_BY_ALL: Final = ("data", "control.listen", "control.enrolment.listen")


@dataclass(frozen=True, slots=True)
class Written:
    """What nodes that start from `at` on find in the file, until it is written again: settings by node and path."""

    at: float
    settings: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that changed. None stands for "not there"."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path} added: {self.after}"
        return f"{self.path} removed" if self.after is None else f"{self.path}: {self.before} → {self.after}"


def differences(before: Deployment, after: Deployment) -> list[Difference]:
    """All settings that differ, in the order of the file. Of what was added or removed, those that are not as by default."""
    said = {*_said(before), *_said(after)}
    found = _differences(flat(before), flat(after))
    return [one for one in found if (one.before is not None and one.after is not None) or one.path in said]


def read_at_start(deployment: Deployment) -> dict[str, dict[str, str]]:
    """By node, the settings by path that it takes from the file at its start only."""
    settings = {path: (path.split("."), value) for path, value in flat(deployment).items()}
    return {node: _matching(settings, node, role) for node, role in nodes_of(deployment).items()}


def _matching(settings: dict[str, tuple[list[str], str]], node: str, role: Role) -> dict[str, str]:
    patterns = [pattern.replace("{node}", node).split(".") for pattern in (*READ_AT_START_BY_ALL, *READ_AT_START[role])]
    return {path: value for path, (steps, value) in settings.items() if any(_below(steps, pattern) for pattern in patterns)}


def found_at_start(written: Sequence[Written], node: str, process_start: float) -> dict[str, str]:
    """What a node that began then had read; nothing, while no file names it.

    A node that the file did not name yet was started with the one that is about to be applied: so additions begin.
    """
    before = [one for one in written if one.at <= process_start] or [written[0]]
    read = before[-1].settings.get(node)
    return read if read is not None else next((one.settings[node] for one in written if node in one.settings), {})


def waiting_for_restart(started_with: dict[str, str], wanted: dict[str, str]) -> list[Difference]:
    """What a node that started with these settings does not know yet."""
    return _differences(started_with, wanted)


def listens_elsewhere(waiting: list[Difference], role: Role) -> bool:
    """Whether a cache still listens where the config no longer says, so that nobody may be sent to it."""
    return role in ("edge", "shield") and any(
        one.path.endswith(".listen") and not one.path.startswith("control.") for one in waiting
    )


def _said(deployment: Deployment) -> dict[str, str]:
    """As `flat`, without what has its default. Quantities stay: their defaults are texts with a unit (`1 Gbit/s`)."""
    return dict(_leaves("", deployment.model_dump(mode="json", exclude_defaults=True)))


def flat(deployment: Deployment) -> dict[str, str]:
    """Every setting by its path, written as in the file."""
    return dict(_leaves("", deployment.model_dump(mode="json")))


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}.{key}" if path else str(key), item)
    elif isinstance(value, list):
        yield path, "[" + ", ".join(map(str, value)) + "]"
    else:
        yield path, "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _differences(before: dict[str, str], after: dict[str, str]) -> list[Difference]:
    paths = dict.fromkeys((*before, *after))
    found = [Difference(path, before.get(path), after.get(path)) for path in paths]
    return [difference for difference in found if difference.before != difference.after]


def _below(path: list[str], pattern: list[str]) -> bool:
    return len(path) >= len(pattern) and all(step in ("*", at) for step, at in zip(pattern, path, strict=False))
