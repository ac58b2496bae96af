"""The desired config: what the YAML file says, as far as it is valid. A bad edit changes nothing but what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from headwater.settings.deployment import Deployment
from headwater.settings.load import ConfigError, Problem, parse_deployment


class Edit(StrEnum):
    """What became of a look at the file; also the metric's label."""

    UNCHANGED = "unchanged"
    ACCEPTED = "accepted"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Desired:
    """`deployment` is in force. `problems` are those of the file as it is now, empty when it is what is in force."""

    deployment: Deployment
    text: str | None = None
    problems: tuple[Problem, ...] = ()


def after_look(desired: Desired, file: Path) -> tuple[Desired, Edit]:
    """The desired config after looking at `file` again. Blocks on the disk; raises nothing for what the file holds."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(file, 0, "", f"cannot be read: {error}; the config read before stays in force")
        return _refused(desired, None, (problem,))
    if text == desired.text:
        return desired, Edit.UNCHANGED
    try:
        deployment = parse_deployment(text, file)
    except ConfigError as error:
        return _refused(desired, text, tuple(error.problems))
    if deployment == desired.deployment and not desired.problems:
        return Desired(deployment, text), Edit.UNCHANGED  # a comment, or the first look after the start
    return Desired(deployment, text), Edit.ACCEPTED


def _refused(desired: Desired, text: str | None, problems: tuple[Problem, ...]) -> tuple[Desired, Edit]:
    refused = Desired(desired.deployment, text, problems)
    return refused, Edit.UNCHANGED if refused == desired else Edit.REFUSED
