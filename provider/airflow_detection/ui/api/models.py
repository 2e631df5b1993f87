"""`models/...`: versions, the history of roles, and how the versions did over time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from fastapi import APIRouter, HTTPException

from airflow_detection.domain.cron import cron_problem, interval
from airflow_detection.domain.scores import FLAGGED, GRADES, SEVERITIES
from airflow_detection.domain.specs import Role
from airflow_detection.snapshot.verdicts.kinds import Verdict
from airflow_detection.store import listings, pages, registry, trainings
from airflow_detection.store.manifests import params_digest
from airflow_detection.store.registry import Row
from airflow_detection.store.trainings import Training
from airflow_detection.ui.access import Reader, Registry
from airflow_detection.ui.api.shapes import Answer, Instant
from airflow_detection.ui.verdict_cache import Judged, judged

router = APIRouter()
MAX_BUCKETS = 200
MAX_PERIOD = timedelta(days=92)
DEFAULT_PERIOD = timedelta(hours=24)
RANGES = ("NONE", *reversed(SEVERITIES))
"""Ranges of the score, ascending, by the severities of the model when it ran: up to 0, above 0 and so on."""


class ArtifactFacts(Answer):
    """The file that a version's model is made of."""

    uri: str
    sha256: str


class TrainingFacts(Answer):
    """What a version was trained from: data of [start, end), labels as known at `as_of`."""

    base_version: str
    data_start: Instant
    data_end: Instant
    as_of: Instant
    row_count: int
    label_count: int
    metrics: dict[str, float]


class VersionAnswer(Answer):
    """A registered version, and the role that it holds now."""

    label: str
    version: str
    role: Role | None
    since: Instant | None
    entry_point: str
    params: dict[str, Any]  # Any: JSON values
    params_digest: str
    artifact: ArtifactFacts | None
    trained: TrainingFacts | None
    notes: str
    registered_at: Instant


class RoleAnswer(Answer):
    """A row of the history of roles: believed from `recorded_at` to `superseded_at`."""

    version: str
    role: Role
    since: Instant
    until: Instant | None
    recorded_at: Instant
    superseded_at: Instant | None
    is_founding: bool
    is_correction: bool
    actor: str
    reason: str
    promotion_id: int | None


class ModelAnswer(Answer):
    """A model with its versions and their history; `flagged_above` is None where it opens no events."""

    model_id: str
    cycle_id: str
    dag_id: str
    is_enabled: bool
    depends_on: list[str]
    description: str
    score_key: str | None
    entity_key: str | None
    flagged_above: float | None
    severity: dict[str, float]
    versions: list[VersionAnswer]
    roles: list[RoleAnswer]


class SeriesLine(Answer):
    """A version over time, its replays apart; null where it did not run.

    `score_buckets`: counts of scores in each of the `ranges`; `verdicts` the worst.
    """

    label: str
    role: Role | None
    is_replay: bool
    cycles: list[int]
    outputs: list[int | None]
    inputs: list[int | None]
    flagged: list[int | None]
    median_ms: list[float | None]
    p95_ms: list[float | None]
    score_buckets: list[list[int] | None]
    verdicts: list[str | None]


class SeriesAnswer(Answer):
    """The versions of a model over [start, end), in buckets of `bucket_s` seconds that begin at `at`."""

    start: Instant
    end: Instant
    bucket_s: float
    at: list[Instant]
    ranges: list[str]
    lines: list[SeriesLine]


@router.get("/models/{model_id:path}/series")
def model_series(
    model_id: str, access: Reader, db: Registry, start: Instant | None = None, end: Instant | None = None
) -> SeriesAnswer:
    """Return how the versions of a model did in a period; the day up to the newest cycle unless given."""
    cycle_id = access.require_model(model_id)
    spec = registry.cycle_spec(db, cycle_id)
    until = end or (pages.newest_of_model(db, model_id) or registry.clock(db)) + timedelta(seconds=1)
    begin = start or until - DEFAULT_PERIOD
    if not timedelta() < until - begin <= MAX_PERIOD:
        raise HTTPException(400, f"the period is {until - begin}: must be above 0 and at most {MAX_PERIOD}")
    step = timedelta(minutes=1)
    if cron_problem(spec.schedule) is None:
        step = interval(spec.schedule, begin)
    bucket = max(step, (until - begin) / MAX_BUCKETS)
    count = -(-(until - begin) // bucket)
    rows = pages.model_series(db, model_id, begin, until, bucket)
    replayed = {row["version"] for row in rows if row["is_replay"]}
    versions = {v.version: v for v in registry.versions(db, model_id)}
    replayed_ids = [versions[v].version_id for v in replayed]
    verdicts = judged(db, cycle_id, start=begin, end=until, replayed=replayed_ids, model_id=model_id)
    by_line: dict[tuple[str, bool], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        by_line[row["version"], row["is_replay"]][row["bucket"]] = row
    return SeriesAnswer(
        start=begin,
        end=until,
        bucket_s=bucket.total_seconds(),
        at=[begin + n * bucket for n in range(count)],
        ranges=list(RANGES),
        lines=[
            _line(
                f"{model_id}@{version}",
                versions[version].role,
                is_replay,
                [buckets.get(n) for n in range(count)],
                _worst(verdicts, version, is_replay, begin, bucket, count),
            )
            for (version, is_replay), buckets in sorted(by_line.items())
        ],
    )


def _worst(
    verdicts: Judged,
    version: str,
    is_replay: bool,  # noqa: FBT001 - half of a key
    start: datetime,
    bucket: timedelta,
    count: int,
) -> list[str | None]:
    found: list[Verdict | None] = [None] * count
    for verdict, of_replay in verdicts:
        n = (verdict.cycle_started_at - start) // bucket
        if verdict.version == version and of_replay is is_replay and 0 <= n < count:
            before = found[n]
            if before is None or verdict.kind.rank < before.kind.rank:
                found[n] = verdict
    return [None if verdict is None else verdict.kind.value for verdict in found]


def _line(
    label: str,
    role: Role | None,
    is_replay: bool,  # noqa: FBT001 - half of a key
    buckets: list[Row | None],
    worst: list[str | None],
) -> SeriesLine:
    def column(name: str) -> list[Any]:  # Any: a column's numbers
        return [None if row is None or row[name] is None else row[name] for row in buckets]

    return SeriesLine(
        label=label,
        role=role,
        is_replay=is_replay,
        cycles=[row["cycles"] if row else 0 for row in buckets],
        outputs=column("outputs"),
        inputs=column("inputs"),
        flagged=column(FLAGGED),
        median_ms=[ms[0] if ms else None for ms in column("ms")],
        p95_ms=[ms[1] if ms else None for ms in column("ms")],
        score_buckets=[_score_buckets(row) for row in buckets],
        verdicts=worst,
    )


def _score_buckets(row: Row | None) -> list[int] | None:
    if row is None or row["scored"] is None:
        return None
    above = [int(row[name] or 0) for name in ("scored", *GRADES)]
    return [max(own - graver, 0) for own, graver in zip(above, (*above[1:], 0), strict=True)]


def _training_facts(training: Training | None) -> TrainingFacts | None:
    if training is None:
        return None
    return TrainingFacts(**{name: getattr(training, name) for name in TrainingFacts.model_fields})


@router.get("/models/{model_id:path}")
def model(model_id: str, access: Reader, db: Registry) -> ModelAnswer:
    """Return a model with its versions, params and history of roles."""
    cycle_id = access.require_model(model_id)
    facts = pages.model_facts(db, model_id)
    rule = registry.event_rule(db, model_id)
    trained = trainings.trainings(db, model_id)
    return ModelAnswer(
        model_id=model_id,
        cycle_id=cycle_id,
        dag_id=access.dag_ids[cycle_id],
        is_enabled=facts["is_enabled"],
        depends_on=facts["depends_on"],
        description=facts["description"],
        score_key=facts["score_key"],
        entity_key=facts["entity_key"],
        flagged_above=rule.above if rule.opens else None,
        severity=dict(rule.severity),
        versions=[
            VersionAnswer(
                label=v.label,
                version=v.version,
                role=v.role,
                since=v.since,
                entry_point=v.entrypoint or facts["entrypoint"],
                params=dict(v.params),
                params_digest=params_digest(v.params),
                artifact=None if v.artifact is None else ArtifactFacts(**asdict(v.artifact)),
                trained=_training_facts(trained.get(v.label)),
                notes=v.notes,
                registered_at=v.created_at,
            )
            for v in registry.versions(db, model_id)
        ],
        roles=[RoleAnswer(**row) for row in listings.role_history(db, model_id, limit=listings.LIMIT)],
    )
