"""Reads one YAML file into a `Deployment`, or says everything that is wrong with it at once.

Each problem names the file and line, the path of the key, the reason, and for an unknown key the nearest right one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from headwater.settings.deployment import Deployment

KeyPath = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a config file. `line` counts from 1; 0 where the file has none to name."""

    file: Path
    line: int
    path: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{where}: {self.path}: {self.reason}" if self.path else f"{where}: {self.reason}"


class ConfigError(Exception):
    """The config cannot be used; `problems` holds every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


def load_deployment(file: Path) -> Deployment:
    """The deployment that `file` describes, its data folder made absolute. Raises ConfigError with all problems."""
    return parse_deployment(read_text(file), file)


def read_text(file: Path) -> str:
    """The file's text. Raises ConfigError."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(file, 0, "", f"cannot be read: {error}; name an existing YAML file")]) from error


def parse_deployment(text: str, file: Path) -> Deployment:
    """As `load_deployment`, for text that came from `file`."""
    deployment = parse_settings(Deployment, text, file, example="configs/lab.yaml")
    return deployment.model_copy(update={"data": (file.resolve().parent / deployment.data).resolve()})


def parse_settings(model: type[Model], text: str, file: Path, *, example: str) -> Model:
    """What the YAML `text`, which came from `file`, says as `model`. Raises ConfigError with all problems."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigError([Problem(file, line, "", f"is not YAML: {reason}")]) from error
    if not isinstance(content, dict):
        raise ConfigError([Problem(file, 0, "", f"is empty or no mapping; start from {example}")])
    problems = _duplicate_keys(root, file)
    try:
        settings = model.model_validate(content, context={"folder": file.resolve().parent})
    except ValidationError as error:
        problems += [_problem(detail, root, file, model) for detail in error.errors(include_url=False)]
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.line))
    return settings


def _problem(detail: Any, root: yaml.Node | None, file: Path, model: type[BaseModel]) -> Problem:
    path: KeyPath = tuple(detail["loc"])
    reason = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        reason = _unknown_key(path, model)
    elif detail["type"] == "missing":
        reason = "is missing"
    shown = ".".join(str(step) for step in _without_tags(path, root))
    return Problem(file, _line_of(root, path), shown, reason)


def _unknown_key(path: KeyPath, model: type[BaseModel]) -> str:
    known = _known_keys(model, path[:-1])
    nearest = difflib.get_close_matches(str(path[-1]), known, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(sorted(known))}"
    return f"unknown key; {hint}"


def _known_keys(model: Any, path: KeyPath) -> list[str]:
    """The keys allowed at `path`, found by following the annotations (through dicts, unions and tags)."""
    here = [model]
    for step in path:
        here = [after for kind in here for after in _after(kind, step)]
    return [name for kind in here for found in _models(kind) for name in found.model_fields]


def _after(kind: Any, step: str | int) -> list[Any]:
    found: list[Any] = []
    for model in _models(kind):
        if step in model.model_fields:
            found.append(model.model_fields[str(step)].annotation)
        elif any(step in get_args(field.annotation) for field in model.model_fields.values()):
            found.append(model)  # the tag of a union, not a key
    if found:
        return found
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    return arguments[-1:] or [kind]


def _models(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for argument in get_args(kind) for model in _models(argument)]


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    """(key node, value node) of one step down."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None


def _line_of(root: yaml.Node | None, path: KeyPath) -> int:
    """The line of the deepest part of `path` that the file holds."""
    node, line = root, 1 if root else 0
    for step in path:
        child = _child(node, step)
        if child is None:
            continue  # a union's tag, or a key that is missing
        line, node = child[0].start_mark.line + 1, child[1]
    return line


def _without_tags(path: KeyPath, root: yaml.Node | None) -> list[str | int]:
    """`path` without the steps that pydantic adds for the branch of a union."""
    shown: list[str | int] = []
    node = root
    for position, step in enumerate(path):
        child = _child(node, step)
        if child is not None:
            node = child[1]
        elif position < len(path) - 1:
            continue
        shown.append(step)
    return shown


def _duplicate_keys(node: yaml.Node | None, file: Path, path: tuple[str, ...] = ()) -> list[Problem]:
    """YAML's loader takes the last of two equal keys without a word; an operator would not know which one holds."""
    problems: list[Problem] = []
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                reason = f"is written twice (first in line {seen[name]}); keep one"
                problems.append(Problem(file, key.start_mark.line + 1, ".".join((*path, name)), reason))
            seen.setdefault(name, key.start_mark.line + 1)
            problems += _duplicate_keys(value, file, (*path, name))
    elif isinstance(node, yaml.SequenceNode):
        for position, value in enumerate(node.value):
            problems += _duplicate_keys(value, file, (*path, str(position)))
    return problems
