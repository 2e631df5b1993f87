"""Reports of what ran: one version in one cycle, its canaries and columns, and the counts of a cycle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_detection.domain.specs import (
    Outcome,
    VersionSpec,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """One canary's expected and observed score; null stands for 'cannot be known'."""

    name: str
    expected: float | None
    observed: float | None
    is_present: bool = True  # False: the model gave no output for the canary at all

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CanaryResult:  # Any: JSON values
        """Return the result that a manifest holds."""
        names = ("name", "expected", "observed", "is_present")
        return cls(**{name: value[name] for name in names})

    @property
    def error(self) -> float | None:
        """|observed - expected|, or None where either is null."""
        if self.expected is None or self.observed is None:
            return None
        return abs(self.observed - self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureProfile:
    """Profile of a feature column in one run.

    `mean` and `deviation` (standard) are of its finite numbers, None where there are none.
    """

    name: str
    count: int
    null_count: int
    distinct_count: int
    mean: float | None = None
    deviation: float | None = None

    @classmethod
    def of(cls, name: str, column: Iterable[Any]) -> FeatureProfile:  # Any: numbers or text, nulls
        """Count values, nulls (None and NaN) and distinct values, and tell where its numbers lie."""
        values = column.tolist() if hasattr(column, "tolist") else list(column)
        known = [value for value in values if value is not None and value == value]
        try:
            distinct = len(set(known))
        except TypeError:  # lists and mappings have no hash
            distinct = len({repr(value) for value in known})
        mean, deviation = _moments(known)
        return cls(
            name=name,
            count=len(values),
            null_count=len(values) - len(known),
            distinct_count=distinct,
            mean=mean,
            deviation=deviation,
        )


def _moments(values: Sequence[Any]) -> tuple[float | None, float | None]:  # Any: numbers or text
    """Mean and standard deviation of a column of numbers, None for anything else."""
    if not values or not {int, float}.issuperset(map(type, values)):
        return None, None
    try:
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum([(value - mean) ** 2 for value in values]) / len(values))
    except OverflowError:
        return None, None
    return (mean, deviation) if math.isfinite(mean) and math.isfinite(deviation) else (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Outcome and measures of one version in one cycle. Times in milliseconds, instants in UTC.

    `reads_since` and `projection` are the model's own (see `BaseDetectionModel`).
    """

    version: VersionSpec
    outcome: Outcome
    started_at: datetime
    duration_ms: float = 0.0
    input_count: int = 0
    input_digest: str | None = None
    newest_input_at: datetime | None = None
    reads_since: datetime | None = None
    output_count: int = 0
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    canaries: tuple[CanaryResult, ...] = ()
    features: tuple[FeatureProfile, ...] = ()
    error: str | None = None
    is_transient: bool = False
    projection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSummary:
    """The counts of one cycle. `executed` and `failed` are champions; shadows count apart."""

    executed: int = 0
    failed: int = 0
    skipped_missing_deps: int = 0
    shadow_ran: int = 0
    shadow_failed: int = 0
    without_primary: tuple[str, ...] = ()
