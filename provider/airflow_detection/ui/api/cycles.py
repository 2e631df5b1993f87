"""`cycles/...` and `dag_runs/...`: a cycle's plan at any instant, its instances, and what ran in each."""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from fastapi import APIRouter, Request, Response
from sqlalchemy import select

from airflow_detection.domain.scores import FLAGGED, by_bucket
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.snapshot.verdicts.kinds import Verdict
from airflow_detection.store import cycle_runs, pages
from airflow_detection.store.database import Database
from airflow_detection.store.registry import Row
from airflow_detection.ui.access import Reader, Registry, UserAccess, not_found
from airflow_detection.ui.api.plans import PlanAnswer, plan_answer, plan_at
from airflow_detection.ui.api.shapes import (
    DEFAULT_ROWS,
    Answer,
    Instant,
    Limit,
    PageOf,
    VersionRef,
    fixed,
    key_text,
    key_values,
    ref,
)
from airflow_detection.ui.drawings.plan import draw_plan
from airflow_detection.ui.drawings.svg import svg_answer
from airflow_detection.ui.verdict_cache import judged

router = APIRouter()
_MOMENT = timedelta(microseconds=1)


class CycleRow(Answer):
    """One instance of a cycle that was opened; `inputs` None: no version has run."""

    cycle_started_at: Instant
    mode: Mode
    run_id: str | None
    outcomes: dict[str, int]
    opened_at: Instant | None
    closed_at: Instant | None
    replays: int
    inputs: int | None


class ManifestAnswer(Answer):
    """What became of one version in one cycle. `task_id` is its task's, where it has one today."""

    version: VersionRef
    is_replay: bool
    outcome: Outcome
    attempt: int
    input_count: int | None
    output_count: int | None
    flagged: int | None
    duration_ms: float | None
    started_at: Instant | None
    error: str | None
    stage_ms: dict[str, float]
    verdict: str | None
    reasons: list[str]
    code_version: str
    task_id: str | None


class InputAnswer(Answer):
    """What a model was given: rows, their newest instant, how old that was when the cycle began, a digest."""

    model_id: str
    rows: int | None
    newest: Instant | None
    freshness_s: float | None
    digest: str | None


class CycleRunAnswer(Answer):
    """One instance of a cycle, with the plan that was recorded or, without one, the plan as of it."""

    cycle_id: str
    dag_id: str
    at: Instant
    is_recorded: bool
    opened_at: Instant | None
    plan: PlanAnswer
    manifests: list[ManifestAnswer]
    inputs: list[InputAnswer]


@router.get("/cycles/{cycle_id:path}/plan.svg")
def plan_picture(
    cycle_id: str,
    access: Reader,
    db: Registry,
    request: Request,
    at: Instant | None = None,
    known_at: Instant | None = None,
) -> Response:
    """Return the plan as a picture, in the colours of light and dark."""
    access.require_cycle(cycle_id)
    plan, _, _ = plan_at(db, cycle_id, at, known_at)
    return svg_answer(request, draw_plan(plan))


@router.get("/cycles/{cycle_id:path}/plan")
def plan(
    cycle_id: str,
    access: Reader,
    db: Registry,
    at: Instant | None = None,
    known_at: Instant | None = None,
) -> PlanAnswer:
    """Return the plan as of an instant (now unless given), as known at another."""
    access.require_cycle(cycle_id)
    found, instant, known = plan_at(db, cycle_id, at, known_at)
    return plan_answer(access, cycle_id, found, instant, known, Mode.AS_OF)


@router.get("/cycles/{cycle_id:path}/runs")
def cycle_rows(
    cycle_id: str, access: Reader, db: Registry, after: str | None = None, limit: Limit = DEFAULT_ROWS
) -> PageOf[CycleRow]:
    """Return the instances of a cycle that were opened, the newest first."""
    access.require_cycle(cycle_id)
    key = key_values(after, datetime, str)
    before = (key[0], Mode(key[1])) if key and key[1] in set(Mode) else None
    found = pages.opened_cycles(db, cycle_id, before=before, limit=limit + 1)
    items = [
        CycleRow(**{"run_id" if name == "dag_run_id" else name: value for name, value in row.items()})
        for row in found[:limit]
    ]
    last = items[-1] if len(found) > limit else None
    return PageOf(items=items, next=key_text(last.cycle_started_at, last.mode) if last else None)


@router.get("/cycles/{cycle_id:path}/runs/{at}", response_model=CycleRunAnswer)
def cycle_run(cycle_id: str, at: Instant, access: Reader, db: Registry, request: Request) -> Response:
    """Return what ran in one instance of a cycle."""
    access.require_cycle(cycle_id)
    return fixed(request, _cycle_run(db, access, cycle_id, at))


@router.get("/dag_runs/{dag_id}/{run_id:path}", response_model=CycleRunAnswer)
def cycle_of_dag_run(dag_id: str, run_id: str, access: Reader, db: Registry, request: Request) -> Response:
    """Return what ran in the instance of a cycle that a run of its Dag is for."""
    cycle_id = access.cycle_of_dag(dag_id)
    return fixed(request, _cycle_run(db, access, cycle_id, instant_of_run(dag_id, run_id)))


def instant_of_run(dag_id: str, run_id: str) -> datetime:
    """Return the cycle that a run of a Dag is for: its logical date or, without one, when it may start."""
    with create_session() as session:
        query = select(DagRun.logical_date, DagRun.run_after)
        row = session.execute(query.where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).first()
    if row is None:
        raise not_found("Dag run", run_id)
    at: datetime = row[0] or row[1]
    return at


def _cycle_run(db: Database, access: UserAccess, cycle_id: str, at: datetime) -> CycleRunAnswer:
    rows = pages.manifests_of_cycle(db, cycle_id, at)
    recorded = next(
        (
            (mode, found)
            for mode in Mode
            if (found := cycle_runs.recorded_plan(db, cycle_id, at, mode)) is not None
        ),
        None,
    )
    if recorded is None and not rows:
        raise not_found(f"instance of cycle {cycle_id!r} at", at.isoformat())
    if recorded is None:
        plan, _, _ = plan_at(db, cycle_id, at, None)
        mode = Mode.AS_OF
    else:
        mode, plan = recorded[0], ExecutionPlan.from_json(recorded[1].plan)
    replayed = [row["version_id"] for row in rows if row["is_replay"]]
    verdicts = {
        (verdict.version_id, of_replay): verdict
        for verdict, of_replay in judged(db, cycle_id, start=at, end=at + _MOMENT, replayed=replayed)
    }
    return CycleRunAnswer(
        cycle_id=cycle_id,
        dag_id=access.dag_ids[cycle_id],
        at=at,
        is_recorded=recorded is not None,
        opened_at=recorded[1].opened_at if recorded else None,
        plan=plan_answer(access, cycle_id, plan, at, at, mode),
        manifests=[_manifest(row, verdicts.get((row["version_id"], row["is_replay"]))) for row in rows],
        inputs=_inputs(rows, at),
    )


def _manifest(row: Row, verdict: Verdict | None) -> ManifestAnswer:
    version = ref(row["model_id"], row["version"], row["role"])
    return ManifestAnswer(
        version=version,
        is_replay=row["is_replay"],
        outcome=row["outcome"],
        attempt=row["attempt"],
        input_count=row["input_count"],
        output_count=row["output_count"],
        flagged=by_bucket(row["score_counts"]).get(FLAGGED),
        duration_ms=row["duration_ms"],
        started_at=row["started_at"],
        error=row["error"],
        stage_ms=row["stage_ms"],
        verdict=verdict.kind.value if verdict else None,
        reasons=list(verdict.reasons) if verdict else [],
        code_version=row["code_version"],
        task_id=task_of(row),
    )


def task_of(row: Row) -> str | None:
    """Return the name that the task of a manifest's version has, unless another model took it."""
    from airflow_detection.domain.names import task_id_of

    if row["is_replay"]:
        return None
    return task_id_of(row["model_id"], None if row["role"] == "PRIMARY" else row["version"])


def _inputs(rows: list[Row], at: datetime) -> list[InputAnswer]:
    """Return what each model was given; versions of one model in one cycle read the same."""
    found: dict[str, InputAnswer] = {}
    for row in rows:
        if row["model_id"] in found or row["outcome"] == Outcome.SKIPPED:
            continue
        newest = row["newest_input_at"]
        found[row["model_id"]] = InputAnswer(
            model_id=row["model_id"],
            rows=row["input_count"],
            newest=newest,
            freshness_s=(at - newest).total_seconds() if newest else None,
            digest=row["input_digest"],
        )
    return list(found.values())
