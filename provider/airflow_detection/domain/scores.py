"""Scores: higher is worse, from 0 to 1 unless a model declares another range; what they stand for."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal, TypeVar

from airflow_detection.errors import hint

T = TypeVar("T")

SCORE_RANGE = (0.0, 1.0)
"""The lowest and the highest score, unless a model declares another range."""


def score_reason(score_range: tuple[float, float]) -> str:
    """Say what a score must be, and how a model declares another range."""
    low, high = score_range
    return f"must be from {low:g} to {high:g}, or the model's class declares another score_range"


FLAGGED_ABOVE = 0.5
"""A score above this flags its entity, unless the model has another threshold."""

LEAST_ABOVE = 0.3
"""The lowest threshold that a model may have: outputs above it have an index by entity."""

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
SEVERITY_THRESHOLDS = tuple(zip((0.7, 0.5, 0.3, 0.0), SEVERITIES, strict=True))
"""A score above the number has the severity, unless the model has others; the highest applies."""

_DEFAULT_SEVERITY = {name: above for above, name in SEVERITY_THRESHOLDS if name != "LOW"}

GRADES = ("gt0", *(name.lower() for name in reversed(_DEFAULT_SEVERITY)))
"""Score buckets of a manifest that nest, ascending: scores above 0, and above where each severity begins."""

FLAGGED = "flagged"
"""The score bucket of outputs above the threshold of events; a model without events has none."""

_FORMER_BUCKETS = {"gt03": ("medium",), "gt05": ("high", FLAGGED), "gt07": ("critical",)}


def by_bucket(values: Mapping[str, T]) -> dict[str, T]:
    """Return what a manifest has for each score bucket, or its edges, by the present names of the buckets."""
    return {name: value for key, value in values.items() for name in _FORMER_BUCKETS.get(key, (key,))}


Events = Mapping[str, Any] | Literal[False]  # Any: a JSON object
"""`events` of a model as it is registered; False: it opens none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRule:
    """Which scores of a model are sightings, and how severe they are.

    above: a score above it is a sighting.
    severity: MEDIUM, HIGH and CRITICAL begin above these scores; below them an event is LOW.
    has_severity: whether the registration sets severities, so that those of the outputs do not count.
    """

    opens: bool = True
    above: float = FLAGGED_ABOVE
    severity: Mapping[str, float] = field(default_factory=lambda: dict(_DEFAULT_SEVERITY))
    has_severity: bool = False

    @classmethod
    def of(cls, events: Events) -> EventRule:
        """Take over what is registered and was checked then."""
        if events is False:
            return cls(opens=False)
        return cls(
            above=events.get("above", FLAGGED_ABOVE),
            severity=_DEFAULT_SEVERITY | dict(events.get("severity", {})),
            has_severity="severity" in events,
        )

    @property
    def edges(self) -> dict[str, float]:
        """The score above which each bucket of a manifest begins."""
        grades = (0.0, *(self.severity[name.upper()] for name in GRADES[1:]))
        return dict(zip(GRADES, grades, strict=True)) | ({FLAGGED: self.above} if self.opens else {})


def event_problems(events: Mapping[str, Any]) -> Iterator[tuple[str, str]]:  # Any: a JSON object
    """Iterate over the wrong keys of `events` and the reason for each."""
    for key, value in events.items():
        if key == "above":
            if not _is_number(value) or value < LEAST_ABOVE:
                yield key, f"must be a number, at least {LEAST_ABOVE:g}, not {reprlib.repr(value)}"
        elif key == "severity":
            if reason := _severity_reason(value):
                yield key, reason
        else:
            yield key, f"unknown option{hint(key, ('above', 'severity'))}"


def _severity_reason(value: object) -> str | None:
    names = ", ".join(reversed(_DEFAULT_SEVERITY))
    if not isinstance(value, Mapping) or not value.keys() <= _DEFAULT_SEVERITY.keys():
        return f"must be a mapping of {names}, not {reprlib.repr(value)}"
    if not all(map(_is_number, value.values())):
        return f"must have numbers, not {reprlib.repr(dict(value))}"
    edges = _DEFAULT_SEVERITY | dict(value)
    if not edges["MEDIUM"] <= edges["HIGH"] <= edges["CRITICAL"]:
        given = ", ".join(f"{name} {edges[name]:g}" for name in reversed(_DEFAULT_SEVERITY))
        return f"must rise from {names}: it is {given}"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
