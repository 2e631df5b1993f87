"""A comparison of two versions of a model, from one state of the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from airflow_detection.domain.specs import Outcome, require_utc
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.errors import PlanError
from airflow_detection.evidence.comparison import BadVerdict, VersionComparison, VersionRecord
from airflow_detection.evidence.gate import read_gate
from airflow_detection.evidence.labelled import compare_labelled
from airflow_detection.evidence.policy import PromotionPolicy, judge_promotion
from airflow_detection.snapshot.sections.comparisons import MAX_OUTPUTS
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import judge_runs, replays_to_judge, runs_to_judge
from airflow_detection.snapshot.verdicts.run_faults import is_wrong
from airflow_detection.store import comparisons, registry
from airflow_detection.store.comparisons import Pair, VersionRun
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import registry_errors
from airflow_detection.store.labels import known_instant

JUDGED_CYCLES = 288
"""Latest cycles of which verdicts are asked: a day of cycles of five minutes."""
EXAMPLES = 10


def compare_versions(
    db: Database,
    first: str,
    second: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    known_at: datetime | None = None,
    above: float | None = None,
    policy: PromotionPolicy | None = None,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
    use_model_registry: bool = True,
    has_replays: bool = True,
) -> VersionComparison:
    """Compare two versions of a model, `model@version` each, over the cycles that both completed.

    Replays count where a version was not live. Labels, and runs, count as known at `known_at`; what has been
    run again since then is left out, because its earlier result is gone.

    Args:
        start, end: cycles in [start, end), UTC; None: from the first cycle on, up to `known_at`.
        known_at: UTC, not in the future; None is now.
        above: a score above it flags its entity; None takes the threshold of the model's events.
        policy: the conditions of a promotion; None takes those of the model's registration.
        thresholds: of verdicts and canaries.
        use_model_registry: whether cycles with a legacy path run their registered models instead.
        has_replays: whether a replay counts where a version was not live.

    Raises:
        PlanError: an unknown version, two of different models or one and the same, an empty period, or
            `known_at` in the future.
        ConfigurationError: the registered conditions are wrong.
        RegistryUnavailable: the database did not answer.
    """
    known = known_instant(db, known_at)
    begin, until = _period(start, end, known)
    queries = db.queries("detection_snapshots")
    with registry_errors(), db.conn.transaction():
        db.conn.execute(queries["begin_report"])
        db.conn.execute(queries["planner_settings"])
        records = _records(db, first, second)
        model_id = records[0].label.partition("@")[0]
        cycle_id = registry.cycle_of(db, model_id)
        runs = comparisons.runs_of_two(
            comparisons.row_reader(db),
            model_id=model_id,
            version_ids=(records[0].version_id, records[1].version_id),
            start=begin,
            end=until,
            known_at=known,
            has_replays=has_replays,
        )
        pair = _pair(model_id, records, runs)
        above = registry.event_rule(db, model_id).above if above is None else above
        judged_by = policy or PromotionPolicy.of(registry.promotion_of(db, model_id))
        judge = _judge_of(db, cycle_id, model_id, runs, thresholds, use_model_registry=use_model_registry)
        with ThreadPoolExecutor(1, "judge runs") as executor:  # while the database compares
            judging = executor.submit(judge)
            outputs = _compared(
                db, pair, cycle_id=cycle_id, known_at=known, above=above, alpha=judged_by.alpha
            )
            judged = judging.result()
    figures = (
        {"alerts": outputs["agreement"].primary_alerts, **_durations(pair.primary_ms)},
        {"alerts": outputs["agreement"].shadow_alerts, **_durations(pair.shadow_ms)},
    )
    sides = [
        _record(record, side, judged, thresholds, **own)
        for record, side, own in zip(records, runs, figures, strict=True)
    ]
    comparison = VersionComparison(
        model_id=model_id,
        cycle_id=cycle_id,
        first=sides[0],
        second=sides[1],
        start=begin,
        end=until,
        known_at=known,
        above=above,
        cycles=len(pair.cycles),
        only_first_cycles=pair.primary_cycles - len(pair.cycles),
        only_second_cycles=pair.shadow_cycles - len(pair.cycles),
        replayed=len(pair.primary_replays | pair.shadow_replays),
        first_cycle=pair.cycles[0] if pair.cycles else None,
        last_cycle=pair.cycles[-1] if pair.cycles else None,
        **outputs,
    )
    return replace(comparison, decision=judge_promotion(comparison, judged_by))


def _period(
    start: datetime | None, end: datetime | None, known_at: datetime
) -> tuple[datetime | None, datetime]:
    begin = None if start is None else require_utc("start", start)
    until = known_at if end is None else require_utc("end", end)
    if begin is not None and begin >= until:
        raise PlanError(f"the period is empty: [{begin.isoformat()}, {until.isoformat()})")
    return begin, until


def _compared(
    db: Database, pair: Pair, *, cycle_id: str, known_at: datetime, above: float, alpha: float
) -> dict[str, Any]:  # Any: fields of VersionComparison
    """Return what the outputs of two versions say, of each other and beside labels."""
    rows = comparisons.row_reader(db)
    every = -(-pair.outputs // MAX_OUTPUTS) or 1
    agreement = comparisons.compare(
        rows, [pair], every=every, above={pair.model_id: above}, examples=EXAMPLES
    )[0]
    found = {"agreement": agreement, "every": every}
    units = comparisons.labelled_units(rows, pair, cycle_id=cycle_id, known_at=known_at)
    if not len(units):
        return found
    named = partial(comparisons.entities_of_labels, rows)
    _, won = units.discordant(above)
    return {
        **found,
        "labelled": compare_labelled(units, above=above, name_units=named, examples=EXAMPLES),
        "gate": read_gate(won, units=len(units), alpha=alpha),
    }


def _records(db: Database, first: str, second: str) -> list[VersionRecord]:
    """Return an empty record of each version; PlanError unless they are two of one model."""
    labels = [spec.label for spec in registry.named_versions(db, [first, second])]
    if labels[0] == labels[1]:
        raise PlanError(f"{first} cannot be compared with itself")
    model_ids = {label.partition("@")[0] for label in labels}
    if len(model_ids) > 1:
        raise PlanError(f"{first} and {second} are versions of different models")
    known = {version.label: version for version in registry.versions(db, model_ids.pop())}
    return [
        VersionRecord(version_id=known[label].version_id, label=label, role=known[label].role)
        for label in labels
    ]


def _pair(
    model_id: str, records: Sequence[VersionRecord], runs: tuple[list[VersionRun], list[VersionRun]]
) -> Pair:
    done = [{run.at: run for run in side if run.outcome is Outcome.SUCCEEDED} for side in runs]
    cycles = tuple(sorted(done[0].keys() & done[1].keys()))
    replays = [frozenset(at for at in cycles if side[at].is_replay) for side in done]
    return Pair(
        model_id=model_id,
        primary_id=records[0].version_id,
        primary_version=records[0].label.partition("@")[2],
        shadow_id=records[1].version_id,
        shadow_version=records[1].label.partition("@")[2],
        role=records[1].role or "",
        primary_cycles=len(done[0]),
        shadow_cycles=len(done[1]),
        primary_ms=_percentiles([done[0][at].duration_ms for at in cycles]),
        shadow_ms=_percentiles([done[1][at].duration_ms for at in cycles]),
        outputs=sum(side[at].output_count for at in cycles for side in done),
        cycles=cycles,
        primary_replays=replays[0],
        shadow_replays=replays[1],
    )


def _percentiles(durations_ms: Sequence[float]) -> list[float] | None:
    import numpy as np

    return [float(q) for q in np.quantile(durations_ms, [0.5, 0.95])] if durations_ms else None


def _durations(quantiles_ms: Sequence[float] | None) -> dict[str, float]:
    return dict(zip(("median_ms", "p95_ms"), quantiles_ms or (), strict=False))


def _judge_of(
    db: Database,
    cycle_id: str,
    model_id: str,
    runs: tuple[list[VersionRun], list[VersionRun]],
    thresholds: Thresholds,
    *,
    use_model_registry: bool,
) -> Callable[[], list[Verdict]]:
    """Read the latest runs of each; return what judges them: a replay where that is the run that counts."""
    latest = [side[-JUDGED_CYCLES:] for side in runs]
    if not any(latest):
        return list
    start = min(run.at for side in latest for run in side)
    period: dict[str, Any] = {  # Any: as `runs_to_judge` takes them
        "start": start,
        "end": max(run.at for side in latest for run in side) + timedelta(microseconds=1),
    }
    counted = {(run.version_id, run.at): run.is_replay for side in latest for run in side}
    # A cycle that was never opened says nothing of either version, and between a replayed past and today
    # there may be many.
    live = runs_to_judge(
        db,
        **period,
        thresholds=thresholds,
        use_model_registry=use_model_registry,
        cycle_id=cycle_id,
        counts_unopened=False,
        model_id=model_id,
    )
    replayed_ids = {version_id for (version_id, _), is_replay in counted.items() if is_replay}
    replayed = replays_to_judge(db, cycle_id, replayed_ids, **period, thresholds=thresholds)

    # What ran after the instant in question does not count; what was planned and never ran does.
    def judge() -> list[Verdict]:
        return [
            verdict
            for is_replay, read in ((False, live), (True, replayed))
            for verdict in judge_runs(read, start, thresholds)
            if counted.get((verdict.version_id, verdict.cycle_started_at), _missing(verdict)) is is_replay
        ]

    return judge


def _missing(verdict: Verdict) -> bool | None:
    return False if verdict.kind is VerdictKind.DID_NOT_RUN else None


def _record(
    record: VersionRecord,
    runs: Sequence[VersionRun],
    judged: Sequence[Verdict],
    thresholds: Thresholds,
    **figures: Any,  # Any: alerts and durations
) -> VersionRecord:
    """Return the record of a version with what its runs and the verdicts on them say."""
    outcomes = Counter(run.outcome for run in runs)
    canaries = [
        (run.at, canary) for run in runs if run.outcome is Outcome.SUCCEEDED for canary in run.canaries
    ]
    wrong = [(at, canary) for at, canary in canaries if is_wrong(canary, thresholds.canary_tolerance)]
    replays = {run.at for run in runs if run.is_replay}
    own = sorted((v for v in judged if v.version_id == record.version_id), key=lambda v: v.cycle_started_at)
    own = own[-JUDGED_CYCLES:]
    bad = [number for number, verdict in enumerate(own) if verdict.kind.is_bad]
    return replace(
        record,
        cycles=len(runs),
        replays=len(replays),
        succeeded=outcomes[Outcome.SUCCEEDED],
        failed=outcomes[Outcome.FAILED],
        skipped=outcomes[Outcome.SKIPPED],
        canaries=len(canaries),
        wrong_canaries=len(wrong),
        last_wrong_canary=f"{wrong[-1][1].name} at {wrong[-1][0].isoformat()}" if wrong else "",
        judged=len(own),
        verdicts=dict(sorted(Counter(str(verdict.kind) for verdict in own).items())),
        cycles_since_bad=len(own) - 1 - bad[-1] if bad else None,
        last_bad_verdict=_bad_verdict(own[bad[-1]], replays) if bad else None,
        **figures,
    )


def _bad_verdict(verdict: Verdict, replays: Collection[datetime]) -> BadVerdict:
    return BadVerdict(
        at=verdict.cycle_started_at,
        kind=str(verdict.kind),
        reason="; ".join(verdict.reasons),
        is_replay=verdict.cycle_started_at in replays,
    )
