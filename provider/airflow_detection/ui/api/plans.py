"""The plan of a cycle as an answer: what the hook's `plan` gives, for any instant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.ui.access import UserAccess
from airflow_detection.ui.api.shapes import Answer, Instant, VersionRef, ref_of


class PlanNode(Answer):
    """A model in a plan; `wave` is how many models it waits for in a row, `broken` why it cannot run."""

    model_id: str
    wave: int
    champion: VersionRef | None
    others: list[VersionRef]
    is_enabled: bool
    broken: str | None


class PlanEdge(Answer):
    """One model reads another's champion."""

    upstream: str
    downstream: str


class PlanAnswer(Answer):
    """A plan as of `at`, as known at `known_at`."""

    cycle_id: str
    dag_id: str
    at: Instant
    known_at: Instant
    mode: str
    settings: dict[str, Any]  # Any: JSON values
    nodes: list[PlanNode]
    edges: list[PlanEdge]


def plan_at(
    db: Database, cycle_id: str, at: datetime | None, known_at: datetime | None
) -> tuple[ExecutionPlan, datetime, datetime]:
    """Return a plan, as of which instant it is, and as known at which."""
    instant = at or registry.clock(db)
    models = registry.models_at(db, cycle_id, at, known_at)
    settings = registry.settings_at(db, cycle_id, at, known_at)
    return build_plan(models, strict=False, settings=settings), instant, known_at or instant


def waves(plan: ExecutionPlan) -> dict[str, int]:
    """Return for each model how many models it waits for in a row."""
    found: dict[str, int] = {}
    for model_id in plan.topo_order:
        found[model_id] = max((found[u] + 1 for u in plan.upstreams(model_id)), default=0)
    return found


def plan_answer(
    access: UserAccess, cycle_id: str, plan: ExecutionPlan, at: datetime, known_at: datetime, mode: str
) -> PlanAnswer:
    """Return a plan as the app draws it."""
    numbers, settings = waves(plan), plan.to_json().get("settings") or {}
    return PlanAnswer(
        cycle_id=cycle_id,
        dag_id=access.dag_ids[cycle_id],
        at=at,
        known_at=known_at,
        mode=mode,
        settings=settings,
        nodes=[
            PlanNode(
                model_id=m,
                wave=numbers[m],
                champion=ref_of(plan.primaries[m]) if m in plan.primaries else None,
                others=[ref_of(v) for v in plan.shadows.get(m, ())],
                is_enabled=plan.is_enabled(m),
                broken=plan.broken.get(m),
            )
            for m in plan.topo_order
        ],
        edges=[PlanEdge(upstream=up, downstream=down) for up, down in plan.edges],
    )
