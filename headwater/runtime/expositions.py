"""The metrics of a node that is several processes, as if it were one: Prometheus texts in, one text out. Pure.

Counters and histograms are summed, those of workers that have ended included, so that a restart never looks like a reset.
Gauges are summed too (bytes, requests in flight), but for versions, of which the oldest counts, as it is still in use, and for
when something expires, of which the earliest does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

# Of the parent's own metrics: the process that is the node to others, and what it knows of the workers.
_OF_PARENT: Final = ("process_", "python_", "headwater_node_")
_PARENT_ONLY: Final = ("process_start_time_seconds", "process_max_fds", "python_info")
_LEAST: Final = ("_created", "_version", "_sequence", "_expires_timestamp_seconds")
_MOST: Final = ("_records",)
_LASTING: Final = ("counter", "histogram", "summary")

_Series = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Family:
    kind: str
    documentation: str
    samples: dict[_Series, float] = field(default_factory=dict)


@dataclass(slots=True)
class Exposition:
    """Families by name; `add` combines."""

    _families: dict[str, _Family] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> Exposition:
        """Raises ValueError on anything else than Prometheus' text format."""
        read = cls()
        for family in text_string_to_metric_families(text):
            samples = {(sample.name, tuple(sorted(sample.labels.items()))): float(sample.value) for sample in family.samples}
            read._families[family.name] = _Family(family.type, family.documentation, samples)
        return read

    def only(self, prefixes: tuple[str, ...]) -> Exposition:
        return Exposition({name: family for name, family in self._families.items() if name.startswith(prefixes)})

    def lasting(self) -> Exposition:
        """What stays counted when the process has ended."""
        return Exposition({name: family for name, family in self._families.items() if family.kind in _LASTING})

    def add(self, other: Exposition) -> None:
        """Takes `other` in, as one more process of the same node."""
        for name, theirs in other._families.items():
            if name in _PARENT_ONLY and name in self._families:
                continue
            ours = self._families.setdefault(name, _Family(theirs.kind, theirs.documentation))
            for series, value in theirs.samples.items():
                ours.samples[series] = _combined(series[0], ours.samples.get(series), value)

    def text(self) -> str:
        return "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for name, family in self._families.items():
            shown = f"{name}_total" if family.kind == "counter" else name
            yield f"# HELP {shown} {_escaped(family.documentation, quotes=False)}\n# TYPE {shown} {family.kind}\n"
            for (sample, labels), value in family.samples.items():
                listed = ",".join(f'{label}="{_escaped(text, quotes=True)}"' for label, text in labels)
                yield f"{sample}{{{listed}}} {value!r}\n" if listed else f"{sample} {value!r}\n"


def of_node(parent: str, workers: Iterable[Exposition], ended: Exposition) -> str:
    """The node's text: `parent` is the parent process's own text, `ended` what workers counted that have ended."""
    whole = Exposition.read(parent).only(_OF_PARENT)
    for worker in (*workers, ended):
        whole.add(worker)
    return whole.text()


def _combined(name: str, ours: float | None, theirs: float) -> float:
    if ours is None:
        return theirs
    if name.endswith(_LEAST):
        return min(ours, theirs)
    return max(ours, theirs) if name.endswith(_MOST) else ours + theirs


def _escaped(text: str, *, quotes: bool) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quotes else text
