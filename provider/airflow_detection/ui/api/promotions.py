"""`promotions`: requests to make a version PRIMARY, and what became of each."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from airflow_detection.domain.specs import Role
from airflow_detection.store import promotions
from airflow_detection.store.database import Database
from airflow_detection.store.promotions import Promotion, State
from airflow_detection.ui.access import Reader, Registry, UserAccess, not_found
from airflow_detection.ui.api.comparisons import curve_of
from airflow_detection.ui.api.shapes import (
    DEFAULT_ROWS,
    Answer,
    Instant,
    Limit,
    PageOf,
    key_text,
    key_values,
)
from airflow_detection.ui.drawings.curve import draw_curve
from airflow_detection.ui.drawings.svg import svg_answer

router = APIRouter()
APPROVAL_TASK = "approve"
WAITING = 20


class PromotionRow(Answer):
    """A promotion in a list; the run that asked for it, where one did: `task_id` waits for the answer."""

    promotion_id: int
    model_id: str
    cycle_id: str
    label: str
    from_label: str | None
    state: State
    is_expired: bool
    asked_by: str
    asked_at: Instant
    reason: str
    dag_id: str | None
    run_id: str | None
    task_id: str | None


class PromotionState(Answer):
    """One state of a promotion, on which evidence: that of a comparison, or verdicts."""

    state: State
    recorded_at: Instant
    actor: str
    reason: str
    evidence_digest: str | None
    evidence: dict[str, Any] | None  # Any: JSON values


class PromotionAnswer(PromotionRow):
    """A promotion with all its states, the oldest first."""

    role_before: Role | None
    watch_s: float
    expires_at: Instant | None
    states: list[PromotionState]


def _row(access: UserAccess, promotion: Promotion) -> dict[str, Any]:  # Any: fields of PromotionRow
    dag_id, _, run_id = promotion.source.partition(" ")
    has_run = bool(dag_id and run_id)
    return {
        "promotion_id": promotion.promotion_id,
        "model_id": promotion.model_id,
        "cycle_id": access.models[promotion.model_id],
        "label": promotion.label,
        "from_label": f"{promotion.model_id}@{promotion.champion}" if promotion.champion else None,
        "state": promotion.state,
        "is_expired": promotion.is_expired,
        "asked_by": promotion.requested_by,
        "asked_at": promotion.requested_at,
        "reason": promotion.reason,
        "dag_id": dag_id if has_run else None,
        "run_id": run_id if has_run else None,
        "task_id": APPROVAL_TASK if has_run else None,
    }


def waiting_promotions(db: Database, access: UserAccess) -> list[PromotionRow]:
    """Return the promotions that wait for a person's answer, the newest first."""
    found = promotions.promotions(
        db, model_ids=access.readable_models(), is_under_way=True, limit=promotions.LISTED
    )
    waiting = [p for p in found if p.state is State.JUDGED and not p.is_expired]
    return [PromotionRow(**_row(access, p)) for p in waiting[:WAITING]]


def readable_promotion(
    db: Database, access: UserAccess, promotion_id: int, *, has_evidence: bool = True
) -> Promotion:
    """Return one promotion; 404 if the user may not read its model's cycle."""
    found = promotions.promotions(
        db,
        promotion_id=promotion_id,
        model_ids=access.readable_models(),
        has_evidence=has_evidence,
        limit=1,
    )
    if not found:
        raise not_found("promotion", promotion_id)
    return found[0]


@router.get("/promotions")
def list_promotions(
    access: Reader,
    db: Registry,
    model_id: str | None = None,
    after: str | None = None,
    limit: Limit = DEFAULT_ROWS,
) -> PageOf[PromotionRow]:
    """Return promotions, the newest first."""
    if model_id is not None:
        access.require_model(model_id)
    key = key_values(after, int)
    found = promotions.promotions(
        db,
        model_id=model_id,
        model_ids=access.readable_models(),
        before=key[0] if key else None,
        limit=limit + 1,
    )
    items = [PromotionRow(**_row(access, p)) for p in found[:limit]]
    return PageOf(items=items, next=key_text(items[-1].promotion_id) if len(found) > limit else None)


@router.get("/promotions/{promotion_id}/curve.svg")
def curve_picture(promotion_id: int, access: Reader, db: Registry, request: Request) -> Response:
    """Return the curve of E of a promotion's newest evidence as a picture."""
    found = readable_promotion(db, access, promotion_id)
    evidence = next((s.evidence for s in reversed(found.states) if s.evidence and "gate" in s.evidence), {})
    extra = curve_of(dict(evidence))
    return svg_answer(request, draw_curve([(p.pairs, p.log10_e) for p in extra.curve], extra.alpha))


@router.get("/promotions/{promotion_id}")
def one_promotion(promotion_id: int, access: Reader, db: Registry) -> PromotionAnswer:
    """Return one promotion with its states and their evidence."""
    found = readable_promotion(db, access, promotion_id)
    return PromotionAnswer(
        **_row(access, found),
        role_before=found.role_before,
        watch_s=found.watch.total_seconds(),
        expires_at=found.expires_at,
        states=[
            PromotionState(
                state=s.state,
                recorded_at=s.recorded_at,
                actor=s.actor,
                reason=s.reason,
                evidence_digest=s.evidence_digest,
                evidence=None if s.evidence is None else dict(s.evidence),
            )
            for s in found.states
        ],
    )
