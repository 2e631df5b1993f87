"""The values everything else speaks in: frozen, keyword-only, all instants timezone-aware UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

MAX_ID_LENGTH = 64
"""Characters of a cycle id, a model id and a metric key; the columns are varchar(64)."""


class Role(StrEnum):
    """What a version is to its cycle."""

    PRIMARY = "PRIMARY"  # the champion: feeds models downstream, is what people act on
    SHADOW = "SHADOW"  # observed only
    CHALLENGER = "CHALLENGER"  # a shadow that is up for promotion


class Outcome(StrEnum):
    """How a version's run for one cycle ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"  # an upstream champion, or its own, has no result


class Mode(StrEnum):
    """Where the plan of a cycle comes from."""

    AS_OF = "as_of"  # the roles in force at the cycle, as known then
    AS_RUN = "as_run"  # the plan that was recorded when the cycle ran
    OVERRIDE = "override"  # named versions, as a replay


class Execution(StrEnum):
    """How a cycle's versions are run."""

    TASK = "task"  # one Airflow task each
    INLINE = "inline"  # the whole plan in one task


def require_utc(name: str, instant: datetime) -> datetime:
    """Return `instant` as a plain datetime in UTC; a naive one is a ValueError that names it.

    Subclasses (Airflow gives pendulum's) are not kept: their arithmetic may lose the time zone.
    """
    if instant.utcoffset() is None:
        raise ValueError(f"{name} has no time zone: {instant.isoformat()}")
    utc = instant.astimezone(UTC)
    return datetime.combine(utc.date(), utc.time(), tzinfo=UTC)


def require_id(name: str, value: str) -> str:
    """Return `value`; an empty or too long id is a ValueError that names it."""
    if not value or len(value) > MAX_ID_LENGTH:
        raise ValueError(f"{name} must have 1 to {MAX_ID_LENGTH} characters, not {len(value)}: {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open interval `[start, end)` of data that one cycle looks at, UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", require_utc("window start", self.start))
        object.__setattr__(self, "end", require_utc("window end", self.end))
        if self.start >= self.end:
            raise ValueError(f"window is empty: [{self.start.isoformat()}, {self.end.isoformat()})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One instance of a recurring pass: `started_at` is the run's logical date, UTC."""

    cycle_id: str
    started_at: datetime
    lookback: timedelta

    def __post_init__(self) -> None:
        require_id("cycle_id", self.cycle_id)
        object.__setattr__(self, "started_at", require_utc("cycle_started_at", self.started_at))

    @property
    def window(self) -> Window:
        """`[started_at - lookback, started_at)`."""
        return Window(self.started_at - self.lookback, self.started_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleSpec:
    """A registered cycle; `schedule` is a cron expression in UTC.

    `time_key` names the column of the input query that holds a row's time (an instant, or seconds since
    1970): with it the manifests tell how fresh the inputs were.
    """

    cycle_id: str
    schedule: str
    lookback: timedelta
    input_query: str | None = None
    time_key: str | None = None
    legacy_entrypoint: str | None = None
    execution: Execution = Execution.TASK
    start_date: datetime
    max_active_runs: int = 1
    is_enabled: bool = True
    description: str = ""

    def at(self, started_at: datetime) -> Cycle:
        """The instance of this cycle at one instant."""
        return Cycle(cycle_id=self.cycle_id, started_at=started_at, lookback=self.lookback)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSpec:
    """One immutable configuration of a model, in the role it holds (or replays).

    `version_id` is the registry's key, 0 outside a database. `entrypoint` is resolved: the version's own,
    else the model's.
    """

    model_id: str
    version: str
    role: Role
    entrypoint: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object, read at the edge
    version_id: int = 0
    is_replay: bool = False

    @property
    def label(self) -> str:
        """`model@version`, as people write it."""
        return f"{self.model_id}@{self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A registered model with the versions that are ACTIVE at the instant in question.

    `score_key` and `entity_key` name the entries of an output that become the plain columns `score` and
    `entity_id` (`entity_key` is also looked for in the input_ref).
    """

    model_id: str
    cycle_id: str = ""
    depends_on: tuple[str, ...] = ()
    versions: tuple[VersionSpec, ...] = ()
    entrypoint: str = ""
    score_key: str | None = None
    entity_key: str | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object, read at the edge
    is_enabled: bool = True

    @property
    def primary(self) -> VersionSpec | None:
        """The champion, if there is one."""
        return next((v for v in self.versions if v.role is Role.PRIMARY), None)

    @property
    def shadows(self) -> tuple[VersionSpec, ...]:
        """SHADOW and CHALLENGER versions, in order of version."""
        return tuple(
            sorted((v for v in self.versions if v.role is not Role.PRIMARY), key=lambda v: v.version)
        )


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
    """What a feature column looked like in one run."""

    name: str
    count: int
    null_count: int
    distinct_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What became of one version in one cycle. Times in milliseconds, instants in UTC.

    `projection` is the model's own (see `BaseDetectionModel.projection`).
    """

    version: VersionSpec
    outcome: Outcome
    started_at: datetime
    duration_ms: float = 0.0
    input_count: int = 0
    input_digest: str | None = None
    newest_input_at: datetime | None = None
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


@dataclass(frozen=True, slots=True)
class Inputs:
    """The cycle's input rows, by column; all columns have the same length and are read-only.

    `digest` and `newest_at` are facts of the rows that go into the manifest, where they are known.
    """

    columns: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # Any: what the input query selects
    digest: str | None = None
    newest_at: datetime | None = None

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
