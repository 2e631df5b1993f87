"""`compare`: two versions over a range, as hook and command line compare them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from airflow_detection.config import thresholds
from airflow_detection.engine.flags import use_model_registry
from airflow_detection.evidence.gate import ALPHA
from airflow_detection.snapshot.comparison import compare_versions
from airflow_detection.store import comparisons, registry
from airflow_detection.store.comparisons import EntityQuery
from airflow_detection.store.database import Database
from airflow_detection.ui.access import ComparisonReader, ComparisonRegistry, UserAccess, not_found
from airflow_detection.ui.api.shapes import (
    DEFAULT_ROWS,
    Answer,
    Instant,
    Json,
    Limit,
    PageOf,
    key_text,
    key_values,
)

router = APIRouter()


class CurvePoint(Answer):
    """E after so many labels on which one of the two was right, as its logarithm to base 10."""

    pairs: int
    log10_e: float


class CompareExtra(Answer):
    """What an answer has beside the comparison itself: the curve of E, and where a promotion passes."""

    curve: list[CurvePoint]
    alpha: float
    threshold_log10_e: float


class DifferingEntity(Answer):
    """An entity in the cycle in which the two differ most; `label` is what is known of it there."""

    entity_id: str
    at: Instant
    difference: float
    first_score: float | None
    second_score: float | None
    first_outputs: dict[str, Any] | None  # Any: JSON values
    second_outputs: dict[str, Any] | None  # Any: JSON values
    label: bool | None


@router.get("/compare")
def compare(
    access: ComparisonReader,
    db: ComparisonRegistry,
    first: str,
    second: str,
    start: Instant | None = None,
    end: Instant | None = None,
    known_at: Instant | None = None,
    replays: bool = True,  # noqa: FBT001 - a parameter of the query
) -> JSONResponse:
    """Return the comparison of two versions, `model@version` each."""
    for label in (first, second):
        _require_version(db, access, label)
    comparison = compare_versions(
        db,
        first,
        second,
        start=start,
        end=end,
        known_at=known_at,
        thresholds=thresholds(),
        use_model_registry=use_model_registry(),
        has_replays=replays,
    ).to_json()
    return JSONResponse(comparison | curve_of(comparison).model_dump())


def curve_of(comparison: Json) -> CompareExtra:
    """Return the curve of E of a comparison's JSON."""
    gate = comparison.get("gate") or {}
    alpha = gate.get("alpha", ALPHA)
    return CompareExtra(
        curve=[CurvePoint(pairs=n, log10_e=log_e / math.log(10)) for n, log_e in gate.get("curve", ())],
        alpha=alpha,
        threshold_log10_e=-math.log10(alpha),
    )


@router.get("/compare/entities")
def differing_entities(
    access: ComparisonReader,
    db: ComparisonRegistry,
    first: str,
    second: str,
    start: Instant | None = None,
    end: Instant | None = None,
    known_at: Instant | None = None,
    replays: bool = True,  # noqa: FBT001 - a parameter of the query
    q: str | None = None,
    only: str | None = None,
    after: str | None = None,
    limit: Limit = DEFAULT_ROWS,
) -> PageOf[DifferingEntity]:
    """Return the entities on which two versions differ, the furthest first; `only=flips` those that flip."""
    ids = tuple(_require_version(db, access, label) for label in (first, second))
    key: list[Any] | None = key_values(after, float, str)  # Any: as `key_values`
    model_id = first.partition("@")[0]
    if second.partition("@")[0] != model_id:
        raise not_found("version", second)
    query = EntityQuery(
        model_id=model_id,
        cycle_id=access.models[model_id],
        version_ids=(ids[0], ids[1]),
        start=start,
        end=end,
        known_at=known_at or _now(db),
        has_replays=replays,
        above=registry.event_rule(db, model_id).above,
        is_flip=only == "flips",
        q=q or None,
    )
    rows = comparisons.differing_entities(db, query, after=(key[0], key[1]) if key else None, limit=limit + 1)
    items = [DifferingEntity(**row) for row in rows[:limit]]
    last = items[-1] if len(rows) > limit else None
    return PageOf(items=items, next=key_text(last.difference, last.entity_id) if last else None)


def _now(db: Database) -> datetime:
    return registry.clock(db)


def _require_version(db: Database, access: UserAccess, label: str) -> int:
    """Return the id of a version; 404 if there is none that the user may read, without a hint at others."""
    model_id, _, version = label.partition("@")
    if access.models.get(model_id) in access.cycle_ids:
        for known in registry.versions(db, model_id):
            if known.version == version:
                return known.version_id
    raise not_found("version", label)
