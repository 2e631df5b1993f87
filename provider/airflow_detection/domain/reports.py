"""Reports of what ran: one version in one cycle, its canaries and columns, and the counts of a cycle."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
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

    `mean` and `deviation` (standard) are of its finite numbers, None where there are none. Numbers of an
    interval are its seconds, those of instants and days the seconds since `since` (see `of`).
    """

    name: str
    count: int
    null_count: int
    distinct_count: int
    mean: float | None = None
    deviation: float | None = None

    @classmethod
    def of(
        cls,
        name: str,
        column: Iterable[Any],  # Any: numbers, times or text, nulls
        since: datetime | None = None,
    ) -> FeatureProfile:
        """Count values, nulls (None and NaN) and distinct values, and tell where its numbers lie.

        Instants, days and times of day that differ have a mean relative to `since`, and none without it: in a
        stream of rows they all move on from cycle to cycle.
        """
        if getattr(getattr(column, "dtype", None), "kind", "") in ("i", "u", "f"):
            return cls._of_numbers(name, column)
        values = column.tolist() if hasattr(column, "tolist") else list(column)
        known = [value for value in values if value is not None and value == value]
        try:
            distinct = len(set(known))
        except TypeError:  # lists and mappings have no hash
            distinct = len({repr(value) for value in known})
        mean, deviation = _moments(_numbers(known, since if distinct > 1 else None))
        return cls(
            name=name,
            count=len(values),
            null_count=len(values) - len(known),
            distinct_count=distinct,
            mean=mean,
            deviation=deviation,
        )

    @classmethod
    def _of_numbers(cls, name: str, column: Any) -> FeatureProfile:  # Any: an array of numpy
        """Profile an array of numbers as `of` does, without making values of them."""
        known = column[column == column].astype("float64" if column.dtype.kind == "f" else column.dtype)
        known.sort()
        finite = known[abs(known) != math.inf].astype("float64")
        mean, deviation = (float(finite.mean()), float(finite.std())) if len(finite) else (None, None)
        if mean is None or deviation is None or not (math.isfinite(mean) and math.isfinite(deviation)):
            mean = deviation = None
        return cls(
            name=name,
            count=len(column),
            null_count=len(column) - len(known),
            distinct_count=int((known[1:] != known[:-1]).sum()) + bool(len(known)),
            mean=mean,
            deviation=deviation,
        )


def _numbers(values: Sequence[Any], since: datetime | None) -> Sequence[float]:  # Any: as FeatureProfile.of
    """Return the finite numbers of a column of one kind of values; nothing for what is not a number."""
    kinds = set(map(type, values))
    try:
        if kinds <= {int, float, Decimal}:
            numbers = list(map(float, values)) if Decimal in kinds else values
        elif kinds == {timedelta}:
            numbers = [value.total_seconds() for value in values]
        elif since is None:
            return ()
        elif kinds <= {datetime, date}:
            numbers = [(_instant(value) - since).total_seconds() for value in values]
        elif kinds == {time}:
            numbers = _seconds_around(since, values)
        else:
            return ()
        return [number for number in numbers if math.isfinite(number)]
    except OverflowError:
        return ()


def _instant(value: date) -> datetime:
    """Return an instant with its zone, UTC where it has none, or the beginning of a day in UTC."""
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


def _seconds_around(since: datetime, times: Sequence[time]) -> Sequence[float]:
    """Return the seconds from the instant to each time of day, of the day on which it is nearest.

    Nothing where one is six hours away or more: a mean of times around the whole clock has no meaning.
    """
    day, half = timedelta(days=1), timedelta(hours=12)
    moves = [
        (datetime.combine(since, value, value.tzinfo or UTC) - since + half) % day - half for value in times
    ]
    return [] if max(map(abs, moves)) >= half / 2 else [move.total_seconds() for move in moves]


def _moments(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of finite numbers; None without numbers, or where they are too large."""
    if not values:
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

    `reads_since`, `history_tables` and `projection` are the model's own (see `BaseDetectionModel`).
    `peak_memory_bytes` is what its process had at once, with what it shares with the process that started it.
    `artifact_sha256` is the digest of the file that was loaded.
    `reads` says in numbers what was really read (see migration 0026). `merges` is the model's own
    `metrics_of_shards`, of a shard alone.
    """

    version: VersionSpec
    outcome: Outcome
    started_at: datetime
    duration_ms: float = 0.0
    input_count: int = 0
    input_digest: str | None = None
    newest_input_at: datetime | None = None
    reads_since: datetime | None = None
    reads: Mapping[str, float] = field(default_factory=dict)
    history_tables: tuple[str, ...] = ()
    output_count: int = 0
    stage_ms: Mapping[str, float] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    canaries: tuple[CanaryResult, ...] = ()
    features: tuple[FeatureProfile, ...] = ()
    error: str | None = None
    is_transient: bool = False
    projection: str | None = None
    artifact_sha256: str | None = None
    merges: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSummary:
    """The counts of one cycle. `executed` and `failed` are champions; shadows count apart.

    `marked_successful` has the versions (`model@version`) whose task somebody marked successful: they have no
    result. `not_replayed` has why each replay has no result, by its version.
    """

    executed: int = 0
    failed: int = 0
    skipped_missing_deps: int = 0
    shadow_ran: int = 0
    shadow_failed: int = 0
    shadow_skipped: int = 0
    without_primary: tuple[str, ...] = ()
    marked_successful: tuple[str, ...] = ()
    not_replayed: Mapping[str, str] = field(default_factory=dict)
