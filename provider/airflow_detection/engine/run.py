"""One version with isolation and timing, and a whole plan in one process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from airflow_detection.domain import (
    Cycle,
    CycleSummary,
    Inputs,
    JsonMapping,
    ModelSpec,
    Outcome,
    Role,
    RunReport,
    VersionSpec,
    frozen,
)
from airflow_detection.engine.canary import CanaryWatch, Pair, SharedOutputs
from airflow_detection.engine.metrics import clean_metrics, finite, profile
from airflow_detection.engine.model import BaseDetectionModel, Database, ModelContext, ModelResult, Upstream
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.errors import (
    RegistryUnavailable,
    StaleAttempt,
    TerminalModelError,
    TransientModelError,
)

MAX_CONCURRENT_SHADOWS = 4
_MAX_ERROR_LENGTH = 2000
_ATOMS = frozenset({type(None), bool, int, float, str, bytes, datetime, date, timedelta, Decimal, UUID})

_log = logging.getLogger("airflow_detection.engine")
T = TypeVar("T")
Finish = Callable[[int], tuple[RunReport, Mapping[str, float]]]


class Store(Protocol):
    """Where results go; each call is one transaction."""

    def save(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, outputs: Iterable[Pair], finish: Finish
    ) -> RunReport:
        """Write the outputs as they come, then what `finish(output_count)` gives: manifest and metrics."""

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Write the manifest of a version that failed; an earlier success stays in force."""

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Upstream:
        """Return the stored outputs of a champion."""


@dataclass(frozen=True, slots=True)
class StageResult(Generic[T]):
    """What a stage gave, in how many milliseconds; `error` is None where it succeeded."""

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
    failure: Exception | None = None
    try:
        value = function()
    except Exception as error:
        if required:
            raise
        failure = error
        _log.warning("stage %s failed and is left out: %s", name, describe(error), exc_info=True)
    finally:
        elapsed = _ms_since(began)
        if timings is not None:
            timings[name] = timings.get(name, 0.0) + elapsed
    return StageResult(value, elapsed, failure)


def run_version(
    model: ModelSpec,
    version: VersionSpec,
    cycle: Cycle,
    *,
    detector: BaseDetectionModel,
    inputs: Inputs,
    shared: Mapping[str, Upstream],
    store: Store,
    database: Database | None = None,
) -> RunReport:
    """Run one version for one cycle and store what it gives; its failure is a report, not an exception.

    What the model is given is read-only. A `SystemExit` of the model is a failure of the model.
    """
    run = _Run(model, version, cycle, inputs)
    try:
        return run.execute(detector, _frozen_inputs(inputs), shared, store, database)
    except (Exception, SystemExit) as error:
        return _failed(store, model, run.report(Outcome.FAILED), cycle, error)


class _Run:
    """One version's run under way: its clocks, and the report at any moment of it."""

    def __init__(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, inputs: Inputs) -> None:
        self.model, self.version, self.cycle, self.inputs = model, version, cycle, inputs
        self.started_at = datetime.now(UTC)
        self.stage_ms: dict[str, float] = {}

    def execute(
        self,
        detector: BaseDetectionModel,
        inputs: Inputs,
        shared: Mapping[str, Upstream],
        store: Store,
        database: Database | None,
    ) -> RunReport:
        watch = run_stage(
            "canaries",
            lambda: CanaryWatch.choose(self.model, detector, self.cycle, inputs),
            required=False,
            timings=self.stage_ms,
        ).value or CanaryWatch(self.model)
        context = ModelContext(
            cycle=self.cycle,
            params=frozen(self.version.params),
            inputs=inputs.plus(watch.rows()),
            shared=MappingProxyType({m: SharedOutputs(u, watch.upstream(m)) for m, u in shared.items()}),
            database=database,
            role=self.version.role,
        )
        result = run_stage("run", lambda: detector.run(context), timings=self.stage_ms).value
        if not isinstance(result, ModelResult):
            raise TerminalModelError(
                f"{self.version.label} returned {type(result).__name__}, not ModelResult"
            )
        began = time.perf_counter()

        def finish(output_count: int) -> tuple[RunReport, Mapping[str, float]]:
            self.stage_ms["store"] = _ms_since(began) - self.stage_ms.get("outputs", 0.0)
            features = run_stage(
                "profile",
                lambda: profile(_feature_columns(detector, result, inputs)),
                required=False,
                timings=self.stage_ms,
            ).value
            report = replace(
                self.report(Outcome.SUCCEEDED, result.duration_ms),
                output_count=output_count,
                canaries=watch.results(),
                features=features or (),
            )
            return report, clean_metrics(
                result.metrics,
                label=self.version.label,
                duration_ms=report.duration_ms,
                output_count=output_count,
            )

        rows = watch.without(self.pairs(result.outputs_per_input))
        return store.save(self.model, self.version, self.cycle, rows, finish)

    def pairs(self, outputs: Iterable[Pair]) -> Iterator[Pair]:
        """The outputs one by one: timed, for they may be computed only now, and checked for their form."""
        began = time.perf_counter()
        self.stage_ms["outputs"] = 0.0
        for number, pair in enumerate(outputs):
            if not (
                isinstance(pair, (tuple, list))
                and len(pair) == 2
                and all(isinstance(m, Mapping) for m in pair)
            ):
                raise TerminalModelError(
                    f"output {number} of {self.version.label} is no (input_ref, output) pair of mappings"
                )
            self.stage_ms["outputs"] += _ms_since(began)
            yield pair[0], pair[1]
            began = time.perf_counter()
        self.stage_ms["outputs"] += _ms_since(began)

    def report(self, outcome: Outcome, duration_ms: float | None = None) -> RunReport:
        given = finite(duration_ms)
        if duration_ms is not None and (given is None or given < 0):
            _log.warning(
                "%s: duration_ms %.80r is no duration; measured instead", self.version.label, duration_ms
            )
            given = None
        measured = self.stage_ms.get("run", 0.0) + self.stage_ms.get("outputs", 0.0)
        return RunReport(
            version=self.version,
            outcome=outcome,
            started_at=self.started_at,
            duration_ms=measured if given is None else given,
            input_count=len(self.inputs),
            input_digest=self.inputs.digest,
            newest_input_at=self.inputs.newest_at,
            stage_ms=dict(self.stage_ms),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleReport:
    """What became of every version of a plan, in plan order, and the counts."""

    reports: tuple[RunReport, ...] = ()
    summary: CycleSummary = field(default_factory=CycleSummary)


def summarize(plan: ExecutionPlan, reports: Iterable[RunReport]) -> CycleSummary:
    """Count a cycle. `skipped_missing_deps` counts models; a broken model counts as failed."""
    champions: dict[str, Outcome] = {}
    shadows: list[Outcome] = []
    for report in reports:
        if report.version.role is not Role.PRIMARY:
            shadows.append(report.outcome)
        elif report.version.model_id not in plan.broken:
            champions[report.version.model_id] = report.outcome
    outcomes = list(champions.values())
    skipped = [
        m for m, outcome in champions.items() if outcome is Outcome.SKIPPED and plan.models[m].is_enabled
    ]
    return CycleSummary(
        executed=outcomes.count(Outcome.SUCCEEDED),
        failed=outcomes.count(Outcome.FAILED) + len(plan.broken),
        skipped_missing_deps=len(skipped),
        shadow_ran=shadows.count(Outcome.SUCCEEDED),
        shadow_failed=shadows.count(Outcome.FAILED),
        without_primary=tuple(m for m in plan.without_primary if m not in plan.broken),
    )


class DAGExecutor:
    """Runs a whole plan in one process.

    Args:
        plan: what to run.
        instantiate: makes the model object of a version.
        store: where results go, and where upstream champions are read from.
        inputs: the cycle's input rows.
        database: read-only access for models that want more.
        concurrent_shadows: run a model's shadows at the same time, at most four; what they store is the same.
        runner: runs one version.
    """

    def __init__(
        self,
        plan: ExecutionPlan,
        *,
        instantiate: Callable[[VersionSpec], BaseDetectionModel],
        store: Store,
        inputs: Inputs | None = None,
        database: Database | None = None,
        concurrent_shadows: bool = False,
        runner: Callable[..., RunReport] = run_version,
    ) -> None:
        lock = threading.RLock()
        self._plan, self._instantiate, self._runner = plan, instantiate, runner
        self._inputs = Inputs() if inputs is None else inputs
        self._is_concurrent = concurrent_shadows
        self._store: Store = _OneAtATimeStore(store, lock) if concurrent_shadows else store
        self._database = database
        if concurrent_shadows and database is not None:
            self._database = _OneAtATimeDatabase(database, lock)

    def run(self, cycle: Cycle) -> CycleReport:
        """Run the plan for one cycle; what a version does to itself is in its report."""
        reports: list[RunReport] = []
        results: dict[str, VersionSpec] = {}  # champions that have a result
        for model_id in self._plan.topo_order:
            of_model = self._run_model(self._plan.models[model_id], cycle, results)
            if of_model and of_model[0].outcome is Outcome.SUCCEEDED:
                results[model_id] = of_model[0].version
            reports.extend(of_model)
        return CycleReport(reports=tuple(reports), summary=summarize(self._plan, reports))

    def _run_model(
        self, model: ModelSpec, cycle: Cycle, results: Mapping[str, VersionSpec]
    ) -> list[RunReport]:
        """Run a champion, then its shadows. The champion's report is first; none if there is no champion."""
        champion = self._plan.primaries.get(model.model_id)
        shadows = self._plan.shadows.get(model.model_id, ())
        if champion is None:
            if shadows:
                _log.warning("model %s has shadows but no PRIMARY: it does not run", model.model_id)
            return []
        reason = self._plan.broken.get(model.model_id)
        if reason is not None:
            first = replace(_Run(model, champion, cycle, Inputs()).report(Outcome.FAILED), error=reason)
            _save_failure(self._store, model, first, cycle)
        elif not model.is_enabled:
            first = _skipped(champion, "the model is switched off")
        else:
            missing = [u for u in self._plan.upstreams(model.model_id) if u not in results]
            if missing:
                first = _skipped(champion, f"upstream champion without result: {', '.join(missing)}")
            else:
                first = self._run_one(model, champion, cycle, results)
        if first.outcome is Outcome.SUCCEEDED:
            return [first, *self._run_shadows(model, shadows, cycle, results)]
        return [first, *(_skipped(shadow, "its own champion has no result") for shadow in shadows)]

    def _run_shadows(
        self,
        model: ModelSpec,
        shadows: Sequence[VersionSpec],
        cycle: Cycle,
        results: Mapping[str, VersionSpec],
    ) -> list[RunReport]:
        if not self._is_concurrent or len(shadows) < 2:
            return [self._run_one(model, shadow, cycle, results) for shadow in shadows]
        with ThreadPoolExecutor(MAX_CONCURRENT_SHADOWS, "shadow") as pool:
            running = [
                pool.submit(copy_context().run, self._run_one, model, shadow, cycle, results)
                for shadow in shadows
            ]
            return [one.result() for one in running]

    def _run_one(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, results: Mapping[str, VersionSpec]
    ) -> RunReport:
        try:
            detector = self._instantiate(version)
            shared = {
                upstream: self._store.upstream(results[upstream], cycle)
                for upstream in self._plan.upstreams(model.model_id)
            }
        except (Exception, SystemExit) as error:
            report = _Run(model, version, cycle, self._inputs).report(Outcome.FAILED)
            return _failed(self._store, model, report, cycle, error)
        return self._runner(
            model, version, cycle,
            detector=detector, inputs=self._inputs, shared=shared, store=self._store, database=self._database,
        )  # fmt: skip


class _OneAtATimeStore:
    """A store for several threads: outputs are computed outside the lock, database work happens inside."""

    def __init__(self, store: Store, lock: threading.RLock) -> None:
        self._store, self._lock = store, lock

    def save(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, outputs: Iterable[Pair], finish: Finish
    ) -> RunReport:
        held = list(outputs)
        with self._lock:
            return self._store.save(model, version, cycle, held, finish)

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        with self._lock:
            self._store.save_failure(model, version, cycle, report)

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Upstream:
        with self._lock:
            return _OneAtATimeUpstream(self._store.upstream(version, cycle), self._lock)


class _OneAtATimeUpstream:
    def __init__(self, upstream: Upstream, lock: threading.RLock) -> None:
        self._upstream, self._lock = upstream, lock
        self.score_key = getattr(upstream, "score_key", None)

    def __len__(self) -> int:
        with self._lock:
            return len(self._upstream)

    def __iter__(self) -> Iterator[tuple[JsonMapping, JsonMapping]]:
        with self._lock:
            held = list(self._upstream)
        yield from held

    def columns(self) -> tuple[Sequence[str | None], Sequence[float | None]]:
        with self._lock:
            return self._upstream.columns()


class _OneAtATimeDatabase:
    def __init__(self, database: Database, lock: threading.RLock) -> None:
        self._database, self._lock = database, lock

    def query(self, sql: str, params: JsonMapping | None = None) -> Inputs:
        with self._lock:
            return self._database.query(sql, params)


def describe(error: BaseException) -> str:
    """Return an error as one text that a database can hold: class and message, cut to 2000 characters."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # an error whose own __str__ fails
        text = f"{type(error).__name__} (its message cannot be read)"
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()[:_MAX_ERROR_LENGTH]


def is_transient(error: BaseException) -> bool:
    """Tell whether trying again may help: the model said so, or something outside did not answer."""
    if isinstance(error, (TransientModelError, RegistryUnavailable, OSError)):
        return True
    # a driver's lost connection or cancelled statement: the engine does not import the driver
    return any(c.__name__ == "OperationalError" for c in type(error).__mro__)


def _failed(
    store: Store, model: ModelSpec, report: RunReport, cycle: Cycle, error: BaseException
) -> RunReport:
    _log.error("%s failed: %s", report.version.label, describe(error), exc_info=error)
    report = replace(report, error=describe(error), is_transient=is_transient(error))
    if not isinstance(error, StaleAttempt):  # a newer attempt has written: it knows better
        _save_failure(store, model, report, cycle)
    return report


def _save_failure(store: Store, model: ModelSpec, report: RunReport, cycle: Cycle) -> None:
    try:
        store.save_failure(model, report.version, cycle, report)
    except Exception:
        _log.exception("the failure of %s could not be stored", report.version.label)


def _skipped(version: VersionSpec, reason: str) -> RunReport:
    return RunReport(version=version, outcome=Outcome.SKIPPED, started_at=datetime.now(UTC), error=reason)


def _frozen_inputs(inputs: Inputs) -> Inputs:
    """Return the inputs, deeply read-only; columns of plain values are taken as they are."""
    return Inputs(MappingProxyType({name: _frozen_column(column) for name, column in inputs.columns.items()}))


def _frozen_column(column: Sequence[Any]) -> tuple[Any, ...]:  # Any: what the input query selects
    return tuple(column) if _ATOMS.issuperset(map(type, column)) else tuple(frozen(value) for value in column)


def _feature_columns(
    detector: BaseDetectionModel, result: ModelResult, inputs: Inputs
) -> dict[str, Iterable[Any]]:  # Any: numbers or text, nulls
    """The columns to profile: those the model says it computed with, else the declared ones of the inputs."""
    columns: dict[str, Iterable[Any]] = {n: inputs[n] for n in detector.features if n in inputs.columns}
    columns.update(result.features)
    return columns


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
