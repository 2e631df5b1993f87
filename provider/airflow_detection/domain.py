"""The values everything else speaks in: frozen, keyword-only, all instants timezone-aware UTC."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from airflow_detection.registered import (
    MAX_ID_LENGTH,
    Cycle,
    CycleSpec,
    Execution,
    Mode,
    ModelSpec,
    Outcome,
    Role,
    VersionSpec,
    Window,
    require_id,
    require_utc,
)

__all__ = [
    "MAX_ID_LENGTH",
    "CanaryResult",
    "Cycle",
    "CycleSpec",
    "CycleSummary",
    "Execution",
    "FeatureProfile",
    "HeldOutputs",
    "Inputs",
    "JsonMapping",
    "Mode",
    "ModelSpec",
    "Outcome",
    "Role",
    "RunReport",
    "SelectedOutputs",
    "VersionSpec",
    "Window",
    "frozen",
    "require_id",
    "require_utc",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryResult:
    """One canary's expected and observed score; null stands for 'cannot be known'."""

    name: str
    expected: float | None
    observed: float | None
    is_present: bool = True  # False: the model gave no output for the canary at all

    @property
    def error(self) -> float | None:
        """|observed - expected|, or None where either is null."""
        if self.expected is None or self.observed is None:
            return None
        return abs(self.observed - self.expected)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureProfile:
    """What a feature column looked like in one run.

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
    """What became of one version in one cycle. Times in milliseconds, instants in UTC.

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


JsonMapping = Mapping[str, Any]  # Any: a JSON object whose shape is the model's own


@dataclass(frozen=True, slots=True)
class HeldOutputs:
    """Outputs that a model has computed already, in `duration_ms`: only storing them is left to do."""

    pairs: Iterable[tuple[JsonMapping, JsonMapping]]
    duration_ms: float

    def __iter__(self) -> Iterator[tuple[JsonMapping, JsonMapping]]:
        return iter(self.pairs)


@dataclass(frozen=True, slots=True)
class SelectedOutputs:
    """Outputs that one SELECT gives: a store may run it where the rows are.

    Its columns are `entity`, `score` and `outputs`. Iterated over, they are read with `query` and go through
    this process.
    """

    statement: str
    params: JsonMapping
    query: Callable[[str, JsonMapping], Inputs]

    def __iter__(self) -> Iterator[tuple[JsonMapping, JsonMapping]]:
        for row in self.query(self.statement, self.params).rows():
            score = None if row["score"] is None else float(row["score"])  # numeric is a Decimal here
            entity = None if row["entity"] is None else str(row["entity"])
            yield {"entity": entity}, {**row["outputs"], "score": score}


def frozen(value: Any) -> Any:  # Any: any JSON value
    """Return a deeply read-only copy of a JSON value: mappings as proxies, lists and sets as tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: frozen(item) for key, item in value.items()})
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(frozen(item) for item in value)
    if isinstance(value, bytearray):
        return bytes(value)
    return value


def sealed(value: Any) -> Any:  # Any: any JSON value
    """Make a JSON value deeply read-only in place, and return what stands for it.

    For values that were parsed just now and that nobody else holds: several times cheaper than `frozen`.
    """
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(item) in _CONTAINERS:
                value[key] = sealed(item)
        return MappingProxyType(value)
    if kind is list:
        return tuple([sealed(item) if type(item) in _CONTAINERS else item for item in value])
    return value


_CONTAINERS = frozenset({dict, list})


@dataclass(frozen=True, slots=True)
class Inputs:
    """The cycle's input rows, by column; all columns have the same length and are read-only.

    `digest`, `newest_at` and `newest` are facts of the rows that go into the manifest, where they are known;
    `newest` are profiles of the rows that came last.
    """

    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # Any: what the input query selects
    digest: str | None = None
    newest_at: datetime | None = None
    newest: tuple[FeatureProfile, ...] = ()

    @classmethod
    def of_rows(cls, rows: Iterable[JsonMapping], names: Sequence[str] = ()) -> Inputs:
        """Make inputs of mappings; a key that a row lacks is null. `names` sets columns and their order."""
        held = list(rows)
        wanted = tuple(names) or tuple(dict.fromkeys(key for row in held for key in row))
        return cls(MappingProxyType({n: tuple(frozen(row.get(n)) for row in held) for n in wanted}))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, name: str) -> tuple[Any, ...]:
        """One column, in row order; KeyError if the input query does not select it."""
        return self.columns[name]

    def rows(self) -> Iterator[JsonMapping]:
        """Iterate over the rows as mappings."""
        names = tuple(self.columns)
        for values in zip(*self.columns.values(), strict=True):
            yield MappingProxyType(dict(zip(names, values, strict=True)))

    def plus(self, rows: Iterable[JsonMapping]) -> Inputs:
        """These inputs with `rows` behind them; columns that a row lacks are null there."""
        extra = Inputs.of_rows(rows, tuple(self.columns))
        if not self.columns or not len(extra):
            return self if not len(extra) else Inputs.of_rows(extra.rows())
        return Inputs(MappingProxyType({n: c + extra.columns[n] for n, c in self.columns.items()}))
