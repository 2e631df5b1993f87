"""The watch over a promotion in force: its cycles are judged, and bad ones take it back."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.errors import ConfigurationError
from airflow_detection.evidence.policy import PromotionPolicy
from airflow_detection.snapshot.verdicts.kinds import Verdict
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store import promotions, registry
from airflow_detection.store.database import Database
from airflow_detection.store.promotions import Promotion, State

log = logging.getLogger(__name__)
WATCHER = "detection watch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at a promotion: the promotion as it is now, and how many of its cycles were judged so far."""

    promotion: Promotion
    cycles: int


def look(
    db: Database,
    promotion_id: int,
    *,
    now: datetime,
    use_model_registry: bool,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> Look:
    """Judge the cycles since a promotion came into force; roll it back, keep it, or leave it in force.

    The model's policy of today says which verdicts take it back, and how many in successive cycles.

    Args:
        now: UTC; the watch ends when it lies `promotion.watch` behind the promotion.
        thresholds: of the verdicts, as configured.

    Raises:
        RegistryUnavailable: the database did not answer; nothing was changed.
    """
    watched = promotions.promotion(db, promotion_id)
    since = watched.since(State.IN_FORCE)
    if watched.state is not State.IN_FORCE or since is None:
        return Look(promotion=watched, cycles=0)
    end = min(now, since + watched.watch)
    judged = [
        verdict
        for verdict in verdicts(
            db, start=since, end=end, thresholds=thresholds, use_model_registry=use_model_registry
        )
        if verdict.version_id == watched.version_id
    ]
    is_champion = promotions.champion_id(db, watched.model_id) == watched.version_id
    policy = _policy(db, watched.model_id)
    if is_champion and (bad := bad_run(judged, policy.rollback_on, policy.rollback_after)):
        reason = "; ".join(f"{v.cycle_started_at:%Y-%m-%d %H:%M} {v.kind}: {_first(v.reasons)}" for v in bad)
        evidence = {"verdicts": [_as_json(v) for v in bad]}
        promotions.roll_back(
            db, watched.model_id, actor=WATCHER, reason=reason, evidence=evidence, promotion_id=promotion_id
        )
    elif not is_champion or now >= since + watched.watch:
        promotions.end_watch(db, promotion_id, actor=WATCHER, reason=f"{len(judged)} cycles were judged")
    return Look(promotion=promotions.promotion(db, promotion_id), cycles=len(judged))


def _policy(db: Database, model_id: str) -> PromotionPolicy:
    """Return a model's policy; the default one where it is wrong, for the watch must go on."""
    try:
        return PromotionPolicy.of(registry.promotion_of(db, model_id))
    except ConfigurationError as error:
        log.warning("model %s is watched by the default policy: %s", model_id, error)
        return PromotionPolicy()


def bad_run(judged: Sequence[Verdict], rollback_on: Collection[str], length: int) -> list[Verdict] | None:
    """Return the first `length` successive verdicts (by cycle) that are all bad; None if there are none."""
    run: list[Verdict] = []
    for verdict in sorted(judged, key=lambda v: v.cycle_started_at):
        run = [*run, verdict] if verdict.kind in rollback_on else []
        if len(run) == length:
            return run
    return None


def _first(reasons: Sequence[str]) -> str:
    return reasons[0] if reasons else "no reason was given"


def _as_json(verdict: Verdict) -> dict[str, object]:
    return {
        "cycle_started_at": verdict.cycle_started_at.isoformat(),
        "kind": verdict.kind.value,
        "reasons": list(verdict.reasons),
    }
