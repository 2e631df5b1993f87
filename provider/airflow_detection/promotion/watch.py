"""The watch over a promotion in force: its cycles are judged, and bad ones take it back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store import promotions
from airflow_detection.store.database import Database
from airflow_detection.store.promotions import Promotion, State

BAD_IN_A_ROW = 2
ROLLBACK_ON = frozenset({VerdictKind.FAILED, VerdictKind.SILENT_FAULT})
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
    rollback_on: Collection[VerdictKind] = ROLLBACK_ON,
    bad_in_a_row: int = BAD_IN_A_ROW,
) -> Look:
    """Judge the cycles since a promotion came into force; roll it back, keep it, or leave it in force.

    Args:
        now: UTC; the watch ends when it lies `promotion.watch` behind the promotion.
        thresholds: of the verdicts, as configured.
        rollback_on: verdicts that count as bad.
        bad_in_a_row: how many of them in successive cycles take the promotion back.

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
    if is_champion and (bad := bad_run(judged, rollback_on, bad_in_a_row)):
        reason = "; ".join(f"{v.cycle_started_at:%Y-%m-%d %H:%M} {v.kind}: {_first(v.reasons)}" for v in bad)
        evidence = {"verdicts": [_as_json(v) for v in bad]}
        promotions.roll_back(
            db, watched.model_id, actor=WATCHER, reason=reason, evidence=evidence, promotion_id=promotion_id
        )
    elif not is_champion or now >= since + watched.watch:
        promotions.end_watch(db, promotion_id, actor=WATCHER, reason=f"{len(judged)} cycles were judged")
    return Look(promotion=promotions.promotion(db, promotion_id), cycles=len(judged))


def bad_run(
    judged: Sequence[Verdict], rollback_on: Collection[VerdictKind], length: int
) -> list[Verdict] | None:
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
