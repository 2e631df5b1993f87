"""`findings`: what one version found in one cycle, beside its champion if it is a shadow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException

from airflow_detection.config import thresholds
from airflow_detection.domain.names import task_id_of
from airflow_detection.domain.reports import CanaryResult
from airflow_detection.domain.specs import Outcome, Role
from airflow_detection.snapshot.verdicts.run_faults import is_wrong
from airflow_detection.store import pages, registry
from airflow_detection.store.database import Database
from airflow_detection.store.pages import RunOfVersion
from airflow_detection.store.registry import Row
from airflow_detection.ui.access import Reader, Registry, not_found
from airflow_detection.ui.api.cycles import instant_of_run
from airflow_detection.ui.api.shapes import (
    DEFAULT_ROWS,
    Answer,
    Instant,
    Limit,
    PageOf,
    VersionRef,
    key_text,
    key_values,
    ref,
)

router = APIRouter()
USUAL_RUNS, MAX_METRICS = 48, 500


class CanaryAnswer(Answer):
    """A canary's score beside the one that it must have."""

    name: str
    expected: float | None
    score: float | None
    is_wrong: bool


class FeatureAnswer(Answer):
    """A column's mean and share of nulls in this run, and their medians in the runs before."""

    name: str
    now: float | None
    usual: float | None
    null_share: float | None
    usual_null_share: float | None


class ChampionFindings(Answer):
    """What the champion of a shadow found in the same cycle."""

    version: VersionRef
    outcome: Outcome
    output_count: int
    score_buckets: list[int]


class FindingsAnswer(Answer):
    """What a version found; `score_buckets` are twentieths of the span of its and its champion's scores."""

    version: VersionRef
    cycle_id: str
    dag_id: str
    at: Instant
    is_replay: bool
    outcome: Outcome
    error: str | None
    output_count: int
    score_low: float
    score_high: float
    score_buckets: list[int]
    canaries: list[CanaryAnswer]
    features: list[FeatureAnswer]
    metrics: dict[str, float]
    champion: ChampionFindings | None


class OutputRow(Answer):
    """One output, and the champion's highest score of the same entity: None without one, or of a champion."""

    entity_id: str | None
    score: float | None
    outputs: dict[str, Any]  # Any: JSON values
    input_ref: dict[str, Any]  # Any: JSON values
    champion_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundRun:
    """The manifest that is asked for, and that of the champion beside it."""

    cycle_id: str
    at: datetime
    row: Row
    champion: Row | None

    @property
    def run(self) -> RunOfVersion:
        """The run."""
        return _run_of(self.row, self.at)


def _run_of(row: Row, at: datetime) -> RunOfVersion:
    return RunOfVersion(
        model_id=row["model_id"], version_id=row["version_id"], at=at, is_replay=row["is_replay"]
    )


def found_run(
    access: Reader,
    db: Registry,
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: int | None = None,
    model_id: str | None = None,
    version: str | None = None,
    at: Instant | None = None,
    replay: bool = False,  # noqa: FBT001 - a parameter of the query
) -> FoundRun:
    """Return the run that a task instance stands for, or that a model, version and cycle name."""
    del map_index  # a cycle's tasks are not mapped
    if dag_id is not None and run_id is not None and task_id is not None:
        cycle_id = access.cycle_of_dag(dag_id)
        instant = instant_of_run(dag_id, run_id)
        rows = pages.manifests_of_cycle(db, cycle_id, instant)
        row = _of_task(rows, task_id)
        if row is None:
            raise HTTPException(404, f"task {task_id!r} has no findings of its own in this run")
    elif model_id is not None and version is not None:
        cycle_id = access.require_model(model_id)
        instant = at or pages.newest_of_model(db, model_id) or registry.clock(db)
        rows = pages.manifests_of_cycle(db, cycle_id, instant)
        key = (model_id, version, replay)
        row = next((r for r in rows if (r["model_id"], r["version"], r["is_replay"]) == key), None)
        if row is None:
            raise not_found("run of version", f"{model_id}@{version}")
    else:
        raise HTTPException(400, "findings need dag_id, run_id and task_id, or model_id, version and at")
    return FoundRun(cycle_id=cycle_id, at=instant, row=row, champion=_champion(rows, row))


def _of_task(rows: list[Row], task_id: str) -> Row | None:
    """Return the manifest of a task's version: a champion's task has its model's name."""
    for row in rows:
        version = None if row["role"] == Role.PRIMARY else row["version"]
        if not row["is_replay"] and task_id_of(row["model_id"], version) == task_id.rstrip("_"):
            return row
    return next((r for r in rows if task_id_of(r["model_id"], r["version"]) == task_id), None)


def _champion(rows: list[Row], row: Row) -> Row | None:
    if row["role"] == Role.PRIMARY and not row["is_replay"]:
        return None
    return next(
        (
            r
            for r in rows
            if r["model_id"] == row["model_id"] and r["role"] == Role.PRIMARY and not r["is_replay"]
        ),
        None,
    )


Found = Annotated[FoundRun, Depends(found_run)]


@router.get("/findings/outputs")
def outputs(
    db: Registry,
    found: Found,
    q: str | None = None,
    after: str | None = None,
    limit: Limit = DEFAULT_ROWS,
) -> PageOf[OutputRow]:
    """Return the outputs of a run, the highest scores first."""
    key = key_values(after, int)
    skipped = max(0, key[0] or 0) if key else 0
    champion_id = found.champion["version_id"] if found.champion else None
    rows = pages.run_outputs(
        db, found.run, champion_id=champion_id, q=q or None, after=skipped, limit=limit + 1
    )
    fields = OutputRow.model_fields
    items = [OutputRow(**{name: row[name] for name in fields}) for row in rows[:limit]]
    return PageOf(items=items, next=key_text(rows[limit - 1]["number"]) if len(rows) > limit else None)


@router.get("/findings")
def findings(access: Reader, db: Registry, found: Found) -> FindingsAnswer:
    """Return what a version found in one cycle."""
    row = found.row
    champion = None if found.champion is None else _run_of(found.champion, found.at)
    low, high = pages.score_span(db, [found.run, *([champion] if champion else [])])
    return FindingsAnswer(
        version=ref(row["model_id"], row["version"], row["role"]),
        cycle_id=found.cycle_id,
        dag_id=access.dag_ids[found.cycle_id],
        at=found.at,
        is_replay=row["is_replay"],
        outcome=row["outcome"],
        error=row["error"],
        output_count=row["output_count"],
        score_low=low,
        score_high=high,
        score_buckets=pages.score_buckets(db, found.run, (low, high)),
        canaries=_canaries(row),
        features=_features(db, found),
        metrics=pages.run_metrics(db, found.run, limit=MAX_METRICS),
        champion=_champion_findings(db, found.champion, found.at, (low, high)),
    )


def _canaries(row: Row) -> list[CanaryAnswer]:
    tolerance = thresholds().canary_tolerance
    results = map(CanaryResult.from_json, row["canaries"])
    return [
        CanaryAnswer(name=c.name, expected=c.expected, score=c.observed, is_wrong=is_wrong(c, tolerance))
        for c in results
    ]


def _features(db: Database, found: FoundRun) -> list[FeatureAnswer]:
    before = pages.features_before(db, found.run, limit=USUAL_RUNS)

    def usual(name: str, figure: str) -> float | None:
        values = [_figure(f, figure) for run in before for f in run if f["name"] == name]
        known = [value for value in values if value is not None]
        return median(known) if known else None

    return [
        FeatureAnswer(
            name=feature["name"],
            now=_figure(feature, "mean"),
            usual=usual(feature["name"], "mean"),
            null_share=_figure(feature, "null_share"),
            usual_null_share=usual(feature["name"], "null_share"),
        )
        for feature in found.row["features"]
    ]


def _figure(feature: Row, name: str) -> float | None:
    if name == "null_share":
        return feature["null_count"] / feature["count"] if feature["count"] else None
    value: float | None = feature.get(name)
    return value


def _champion_findings(
    db: Database, champion: Row | None, at: datetime, span: tuple[float, float]
) -> ChampionFindings | None:
    if champion is None:
        return None
    return ChampionFindings(
        version=ref(champion["model_id"], champion["version"], champion["role"]),
        outcome=champion["outcome"],
        output_count=champion["output_count"],
        score_buckets=pages.score_buckets(db, _run_of(champion, at), span),
    )
