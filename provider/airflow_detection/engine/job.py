"""One version of one cycle: its run, its times, and the report of it."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count, repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from airflow_detection.domain.inputs import Columns, Inputs, MaterializedOutputs, SelectedOutputs
from airflow_detection.domain.json_values import frozen
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.scores import score_reason
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, VersionSpec, require_utc
from airflow_detection.domain.sqlstates import may_pass
from airflow_detection.engine.canary import CanaryWatch, Pair, SharedOutputs, entity_of
from airflow_detection.engine.metrics import clean_metrics, finite, profile
from airflow_detection.engine.model import (
    BaseDetectionModel,
    ModelContext,
    ModelResult,
    ReadOnlyDatabase,
    Upstream,
)
from airflow_detection.engine.reads import ReadRecorder, newer_rows, shared_scores
from airflow_detection.engine.run_log import LogContext, run_facts, run_logger, with_own_frames
from airflow_detection.errors import (
    NotAnUpstream,
    RegistryUnavailable,
    StaleAttempt,
    TerminalModelError,
    TransientModelError,
)

MERGES = ("max", "min", "mean")
"""What `metrics_of_shards` may say; metrics that it does not name are added up."""

_MAX_ERROR_LENGTH = 2000
_ATOMS = frozenset({type(None), bool, int, float, str, bytes, datetime, date, timedelta, Decimal, UUID})

_log = run_logger("airflow_detection.engine")
T = TypeVar("T")
Finish = Callable[[int], tuple[RunReport, Mapping[str, float]]]


class FailureStore(Protocol):
    """Store of failures."""

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Write the manifest of a version that failed; an earlier success stays in force."""


class Store(FailureStore, Protocol):
    """Store of results; each call is one transaction."""

    def save(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, outputs: Iterable[Pair], finish: Finish
    ) -> RunReport:
        """Write the outputs as they come, then what `finish(output_count)` gives: manifest and metrics."""

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Upstream:
        """Return the stored outputs of a champion."""


@dataclass(frozen=True, slots=True)
class StageResult(Generic[T]):
    """Result of a stage and its milliseconds; `error` is None where it succeeded."""

    value: T | None
    elapsed_ms: float
    error: Exception | None = None


def run_stage(
    name: str,
    function: Callable[[], T],
    *,
    required: bool = True,
    timings: MutableMapping[str, float] | None = None,
) -> StageResult[T]:
    """Run one stage, isolated and timed; `timings[name]` gets its milliseconds, failed or not.

    Raises:
        Exception: what `function` raised, where the stage is required; otherwise it is logged and returned.
    """
    began = time.perf_counter()
    value: T | None = None
    stage_error: Exception | None = None
    try:
        value = function()
    except Exception as error:
        if required:
            raise
        stage_error = error
        _log.warning(
            "stage %s failed and is left out: %s", name, describe(error), exc_info=with_own_frames(error)
        )
    finally:
        elapsed_ms = ms_since(began)
        if timings is not None:
            timings[name] = timings.get(name, 0.0) + elapsed_ms
    return StageResult(value, elapsed_ms, stage_error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Version that is to run for one cycle; nothing of it has begun.

    `upstreams` maps each model id that it reads to the champion whose outputs are to be read. `artifact`
    gives the file of the version's artefact, which is fetched if need be. `is_shard`: the inputs are those of
    some entities.
    """

    model: ModelSpec
    version: VersionSpec
    cycle: Cycle
    instantiate: Callable[[VersionSpec], BaseDetectionModel]
    inputs: Callable[[], Inputs]
    upstreams: Mapping[str, VersionSpec]
    artifact: Callable[[], Path | None] = lambda: None
    is_shard: bool = False


def run_job(
    job: Job, store: Store, database: ReadOnlyDatabase | None = None, log_context: LogContext | None = None
) -> RunReport:
    """Make the model, get its inputs and upstreams, and run it; a failure to start is a report too.

    `log_context` makes another logging system's lines carry the facts of the run.
    """
    with run_facts(job.version, job.cycle, log_context):
        return _run_job(job, store, database)


def run_version(
    model: ModelSpec,
    version: VersionSpec,
    cycle: Cycle,
    *,
    detector: BaseDetectionModel,
    inputs: Inputs,
    shared: Mapping[str, Upstream],
    store: Store,
    database: ReadOnlyDatabase | None = None,
    is_shard: bool = False,
) -> RunReport:
    """Run one version for one cycle and store its result; its failure is a report, not an exception.

    The context that the model gets is read-only. A `SystemExit` of the model is a failure of the model. With
    `is_shard` the inputs are those of some entities, and outputs about others fail it.
    """
    run = _VersionRun(model, version, cycle, inputs, is_shard=is_shard)
    if version.artifact is not None and detector.artifact is not None:
        run.artifact_sha256 = version.artifact.sha256
    try:
        return run.execute(detector, _frozen_inputs(inputs), shared, store, database)
    except (Exception, SystemExit) as error:
        return record_failure(store, model, run.report(Outcome.FAILED), cycle, error)


def describe(error: BaseException) -> str:
    """Return an error as text that a database can store: class and message, cut to 2000 characters."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # an error whose own __str__ fails
        text = f"{type(error).__name__} (its message cannot be read)"
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:_MAX_ERROR_LENGTH]


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again may help: the model said so, or something outside did not answer."""
    if isinstance(error, (TransientModelError, RegistryUnavailable, OSError)):
        return True
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        return may_pass(sqlstate)
    # A lost connection; by name, because the engine does not import the driver.
    return any(c.__name__ == "OperationalError" for c in type(error).__mro__)


def record_failure(
    store: FailureStore, model: ModelSpec, report: RunReport, cycle: Cycle, error: BaseException
) -> RunReport:
    """Log a failure, store its manifest if possible, and return the report with the reason.

    An attempt that a newer one has overtaken is skipped, not failed: the cycle has its result.
    """
    if isinstance(error, StaleAttempt):
        _log.warning("%s is left out: %s", report.version.label, error)
        return replace(report, outcome=Outcome.SKIPPED, error=describe(error))
    _log.error("%s failed: %s", report.version.label, describe(error), exc_info=with_own_frames(error))
    report = replace(report, error=describe(error), is_transient=is_transient(error))
    save_failure(store, model, report, cycle)
    return report


def save_failure(store: FailureStore, model: ModelSpec, report: RunReport, cycle: Cycle) -> None:
    """Store the manifest of a failure; where that fails too, it is logged and not raised."""
    try:
        store.save_failure(model, report.version, cycle, report)
    except Exception:
        _log.exception("the failure of %s could not be stored", report.version.label)


def not_run_report(version: VersionSpec, outcome: Outcome, reason: str) -> RunReport:
    """Return the report of a version that did not run."""
    return RunReport(version=version, outcome=outcome, started_at=datetime.now(UTC), error=reason)


def ms_since(began: float) -> float:
    """Return the milliseconds since `began`, an instant of `time.perf_counter`."""
    return (time.perf_counter() - began) * 1000


def _run_job(job: Job, store: Store, database: ReadOnlyDatabase | None) -> RunReport:
    run = _VersionRun(job.model, job.version, job.cycle, Inputs())
    try:
        detector = job.instantiate(job.version)
        if job.is_shard:
            require_shards(detector, job.version.label)
        detector.artifact = job.artifact()
        run.inputs = job.inputs()
        shared = {
            model_id: store.upstream(champion, job.cycle) for model_id, champion in job.upstreams.items()
        }
    except (Exception, SystemExit) as error:
        return record_failure(store, job.model, run.report(Outcome.FAILED), job.cycle, error)
    return run_version(
        job.model, job.version, job.cycle,
        detector=detector, inputs=run.inputs, shared=shared, store=store, database=database,
        is_shard=job.is_shard,
    )  # fmt: skip


def shards_problem(detector: type[BaseDetectionModel]) -> str | None:
    """Return why a class cannot run in shards; None if it can."""
    if detector.shard_by != "entity":
        return f"its class {detector.__qualname__} has shard_by {detector.shard_by!r}: must be 'entity'"
    wrong = {key: merge for key, merge in detector.metrics_of_shards.items() if merge not in MERGES}
    if wrong:
        return f"{detector.__qualname__}.metrics_of_shards is {wrong!r}: must be {', '.join(MERGES)}"
    return None


def require_shards(detector: BaseDetectionModel, label: str) -> None:
    """Refuse to run a model in shards whose class does not declare that it can.

    Raises:
        TerminalModelError: it does not.
    """
    if reason := shards_problem(type(detector)):
        raise TerminalModelError(f"{label} cannot run in shards: {reason}")


class _VersionRun:
    """Run of one version: its times so far, and the report at any moment."""

    def __init__(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, inputs: Inputs, *, is_shard: bool = False
    ) -> None:
        self.model, self.version, self.cycle, self.inputs = model, version, cycle, inputs
        self.is_shard = is_shard
        self.started_at = datetime.now(UTC)
        self.stage_ms: dict[str, float] = {}
        self.artifact_sha256: str | None = None

    def execute(
        self,
        detector: BaseDetectionModel,
        inputs: Inputs,
        shared: Mapping[str, Upstream],
        store: Store,
        database: ReadOnlyDatabase | None,
    ) -> RunReport:
        watch = run_stage(
            "canaries",
            lambda: CanaryWatch.choose(self.model, detector, self.cycle, inputs, shared),
            required=False,
            timings=self.stage_ms,
        ).value or CanaryWatch(self.model)
        upstreams = {m: SharedOutputs(u, watch.upstream(m)) for m, u in shared.items()}
        recorder = None
        if database is not None:
            recorder = ReadRecorder(
                database, self.inputs.time_key, watch.identity_columns, self.cycle.window.start
            )
        context = ModelContext(
            cycle=self.cycle,
            params=frozen(self.version.params),
            inputs=inputs.with_rows(watch.rows()),
            shared=MappingProxyType(_Shared(self.model.model_id, upstreams)),
            database=recorder,
            role=self.version.role,
            log=run_logger("airflow_detection.model"),
        )
        result = run_stage("run", lambda: detector.run(context), timings=self.stage_ms).value
        if not isinstance(result, ModelResult):
            raise TerminalModelError(
                f"{self.version.label} returned {type(result).__name__}, not ModelResult"
            )
        began = time.perf_counter()

        def finish(output_count: int) -> tuple[RunReport, Mapping[str, float]]:
            self.stage_ms["store"] = ms_since(began) - self.stage_ms.get("outputs", 0.0)
            columns = _feature_columns(detector, result, inputs)
            used = result.features.get(self.inputs.time_key or "")
            columns.pop(self.inputs.time_key or "", None)
            features = run_stage(
                "profile",
                lambda: profile({**columns, **shared_scores(columns, upstreams)}, self.cycle.started_at),
                required=False,
                timings=self.stage_ms,
            ).value
            newer = None if used is None else newer_rows(self.inputs, used)
            reads = {
                **(recorder.facts() if recorder else {}),
                **({} if newer is None else {"newer_rows": newer}),
                "params_differ": float(detector.params != frozen(self.version.params)),
                "counts_need_past": float(detector.counts_need_past),
            }
            since = run_stage("reads_since", lambda: _reads_since(detector, self.cycle), required=False).value
            report = replace(
                self.report(Outcome.SUCCEEDED, result.duration_ms),
                output_count=output_count,
                reads_since=since,
                reads=reads,
                history_tables=() if since is None else detector.history_tables,
                canaries=watch.results(),
                features=(*(features or ()), *watch.entity_profiles(), *self.inputs.newest),
                projection=detector.projection,
                merges=detector.metrics_of_shards if self.is_shard else {},
            )
            return report, clean_metrics(
                result.metrics,
                label=self.version.label,
                duration_ms=report.duration_ms,
                output_count=output_count,
            )

        outputs = result.outputs_per_input
        pairs: Iterable[Pair] = watch.without_canaries(self.checked_pairs(outputs, detector.score_range))
        if self.is_shard:
            pairs = self._of_own_entities(pairs, inputs)
        if isinstance(outputs, SelectedOutputs):
            pairs = outputs
        elif type(outputs) in (list, tuple):  # all computed: rows can be stored while others are encoded
            duration_ms = self.report(Outcome.SUCCEEDED, result.duration_ms).duration_ms
            pairs = MaterializedOutputs(pairs, duration_ms)
        return store.save(self.model, self.version, self.cycle, pairs, finish)

    def checked_pairs(self, outputs: Iterable[Pair], score_range: tuple[float, float]) -> Iterator[Pair]:
        """Iterate over the outputs, each checked for its form; timed where they may be computed only now."""
        self.stage_ms["outputs"], score_key = 0.0, self.model.score_key
        if type(outputs) in (list, tuple):
            yield from map(self._checked, count(), outputs, repeat(score_key), repeat(score_range))
            return
        began = time.perf_counter()
        for number, pair in enumerate(outputs):
            checked = self._checked(number, pair, score_key, score_range)
            self.stage_ms["outputs"] += ms_since(began)
            yield checked
            began = time.perf_counter()
        self.stage_ms["outputs"] += ms_since(began)

    def _of_own_entities(self, pairs: Iterable[Pair], inputs: Inputs) -> Iterator[Pair]:
        """Iterate over the outputs, none of them about an entity that another shard may judge."""
        key = self.model.entity_key or ""
        own = {None if value is None else str(value) for value in inputs.distinct(key)}
        for pair in pairs:
            entity = entity_of(key, *pair)
            if entity not in own:
                raise TerminalModelError(
                    f"output about {entity!r}: a model with shard_by 'entity' judges the entities of its"
                    f" inputs alone, and none of the shard's has this {key}"
                )
            yield pair

    def _checked(
        self, number: int, pair: Any, score_key: str | None, score_range: tuple[float, float]
    ) -> Pair:  # Any: what a model returned
        if type(pair) is tuple and len(pair) == 2 and type(pair[0]) is dict and type(pair[1]) is dict:
            checked: Pair = pair
        elif isinstance(pair, (tuple, list)) and len(pair) == 2 and all(isinstance(m, Mapping) for m in pair):
            checked = pair[0], pair[1]
        else:
            raise TerminalModelError(
                f"output {number} of {self.version.label} is not an (input_ref, output) pair of mappings"
            )
        score = checked[1].get(score_key) if score_key is not None else None
        low, high = score_range
        if score is None or (type(score) is float and low <= score <= high):  # most are: no call for them
            return checked
        if _is_beyond(score, low, high):
            entity = entity_of(self.model.entity_key, *checked)
            raise TerminalModelError(
                f"output {number} of {self.version.label}, entity {entity!r}, has the score {score}:"
                f" {score_reason(score_range)}"
            )
        return checked

    def report(self, outcome: Outcome, duration_ms: float | None = None) -> RunReport:
        given_ms = finite(duration_ms)
        if duration_ms is not None and (given_ms is None or given_ms < 0):
            _log.warning(
                "%s: duration_ms is %.80r: must be a finite number, at least 0; measured instead",
                self.version.label,
                duration_ms,
            )
            given_ms = None
        if self.inputs.read_ms is not None:
            self.stage_ms["inputs"] = self.inputs.read_ms
        measured_ms = self.stage_ms.get("run", 0.0) + self.stage_ms.get("outputs", 0.0)
        return RunReport(
            version=self.version,
            outcome=outcome,
            started_at=self.started_at,
            duration_ms=measured_ms if given_ms is None else given_ms,
            input_count=len(self.inputs),
            input_digest=self.inputs.digest,
            newest_input_at=self.inputs.newest_at,
            stage_ms=dict(self.stage_ms),
            peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            artifact_sha256=self.artifact_sha256,
        )


class _Shared(dict[str, SharedOutputs]):
    """Upstream outputs by model id; another one is no upstream of the model."""

    def __init__(self, model_id: str, upstreams: Mapping[str, SharedOutputs]) -> None:
        super().__init__(upstreams)
        self._model_id = model_id

    def __missing__(self, upstream: str) -> SharedOutputs:
        raise NotAnUpstream(self._model_id, upstream, sorted(self))


def _is_beyond(score: Any, low: float, high: float) -> bool:  # Any: what a model returned
    """Tell whether a finite number is beyond the bounds; the store refuses what is none."""
    try:
        return bool((score < low or score > high) and math.isfinite(score))
    except (TypeError, ValueError, OverflowError):
        return False


def _reads_since(detector: BaseDetectionModel, cycle: Cycle) -> datetime | None:
    """Return the instant from which the model reads data, where that is before its window."""
    since = detector.reads_since(cycle)
    return None if since is None or require_utc("reads_since", since) >= cycle.window.start else since


def _frozen_inputs(inputs: Inputs) -> Inputs:
    """Return the inputs, deeply read-only; arrays and columns of plain values are taken as they are."""
    if isinstance(inputs.columns, Columns):
        return Inputs(inputs.columns)
    return Inputs(MappingProxyType({name: _frozen_column(column) for name, column in inputs.columns.items()}))


def _frozen_column(column: Sequence[Any]) -> tuple[Any, ...]:  # Any: what the input query selects
    return tuple(column) if _ATOMS.issuperset(map(type, column)) else tuple(frozen(value) for value in column)


def _feature_columns(
    detector: BaseDetectionModel, result: ModelResult, inputs: Inputs
) -> dict[str, Iterable[Any]]:  # Any: numbers or text, nulls
    """Return the columns to profile: those the model computed with, else the declared ones of the inputs."""
    columns: dict[str, Iterable[Any]] = {
        n: inputs.feature(n) for n in detector.features if n in inputs.columns
    }
    columns.update(result.features)
    return columns
