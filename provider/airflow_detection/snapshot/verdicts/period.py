"""Verdicts on each version in each cycle of a period."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import orjson
from psycopg.types.json import set_json_loads

from airflow_detection.domain.reports import CanaryResult, FeatureProfile
from airflow_detection.domain.scores import by_bucket
from airflow_detection.domain.specs import CycleSpec, Outcome, Role, require_utc
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.verdicts.expected import ExpectedVersion, expected_versions, step_of
from airflow_detection.snapshot.verdicts.grid import off_grid
from airflow_detection.snapshot.verdicts.judge import judge_all
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.lookback import with_lookback
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.manifests import params_digest
from airflow_detection.store.registry import cycle_specs, settings_rows

__all__ = [
    "Verdict",
    "VerdictKind",
    "judge_runs",
    "replay_verdicts",
    "replays_to_judge",
    "runs_to_judge",
    "verdicts",
]

HISTORY_FACTOR = 4
"""Multiple of a baseline's history that is read, so that among faulty cycles enough healthy ones remain.

A fault that lasts longer becomes part of the baseline.
"""

Key = tuple[str, datetime, int]
LookbackAt = Callable[[str, datetime], timedelta]
"""Gives the lookback that a cycle had at an instant."""


def verdicts(
    db: Database,
    *,
    start: datetime,
    end: datetime,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
    use_model_registry: bool,
    cycle_id: str | None = None,
    model_id: str | None = None,
    counts_unopened: bool = True,
) -> list[Verdict]:
    """Return the verdict on every version planned for a cycle in [start, end), by cycle, model and version.

    It is `runs_to_judge`, judged.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    runs = runs_to_judge(
        db,
        start=start,
        end=end,
        thresholds=thresholds,
        use_model_registry=use_model_registry,
        cycle_id=cycle_id,
        model_id=model_id,
        counts_unopened=counts_unopened,
    )
    return judge_runs(runs, start, thresholds)


def judge_runs(
    runs: Collection[Sequence[ManifestRun]], start: datetime, thresholds: Thresholds
) -> list[Verdict]:
    """Return the verdicts on runs from `start` on (UTC), by cycle, model and version; needs no database.

    Args:
        runs: of each version, in order of time, with the history before `start`.
    """
    judged = [
        verdict
        for of_version in runs
        for verdict in judge_all(of_version, thresholds)
        if verdict.cycle_started_at >= start
    ]
    return sorted(judged, key=lambda v: (v.cycle_started_at, v.cycle_id, v.model_id, v.version, v.version_id))


def runs_to_judge(
    db: Database,
    *,
    start: datetime,
    end: datetime,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
    use_model_registry: bool,
    cycle_id: str | None = None,
    model_id: str | None = None,
    counts_unopened: bool = True,
) -> list[list[ManifestRun]]:
    """Return the runs of versions planned for a cycle in [start, end), and their history, for `judge_runs`.

    A cycle that was due and never opened counts too; one that is open and may still run does not, nor do
    replays and models that are switched off. Judged from manifests alone.

    Args:
        use_model_registry: whether cycles with a legacy path run their registered models instead.
        cycle_id, model_id: of this cycle, or this model, alone.
        counts_unopened: whether versions of a cycle that was due and never opened have a verdict.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    start, end = require_utc("start", start), require_utc("end", end)
    specs = {spec.cycle_id: spec for spec in cycle_specs(db) if cycle_id in (None, spec.cycle_id)}
    with storage_errors():
        expected = {
            (v.cycle_id, v.cycle_started_at, v.version_id): v
            for v in expected_versions(
                db,
                specs,
                start,
                end,
                use_model_registry=use_model_registry,
                counts_unopened=counts_unopened,
                model_id=model_id,
            )
            if cycle_id in (None, v.cycle_id)
        }
        lookback_at = _lookbacks(db, specs)
        own = _runs(db, specs, start, end, thresholds, lookback_at, model_id=model_id)
        runs = with_lookback(db, own, end)
    missing = [key for key, version in expected.items() if key not in runs and not version.is_open]
    for key in missing:
        runs[key] = _without_manifest(expected[key], specs, lookback_at)
    switched_off = {
        key for key, run in runs.items()
        if run.outcome is Outcome.SKIPPED and key not in expected
    }  # fmt: skip
    runs_by_version: dict[int, list[ManifestRun]] = defaultdict(list)
    for key in sorted(runs.keys() - switched_off, key=lambda k: (k[2], k[1], k[0])):
        if model_id in (None, runs[key].model_id):
            runs_by_version[key[2]].append(runs[key])
    return list(runs_by_version.values())


def history_since(spec: CycleSpec, start: datetime, thresholds: Thresholds) -> datetime:
    """Return from which cycle on the runs of a cycle are read for verdicts on those from `start` on (UTC)."""
    return start - HISTORY_FACTOR * thresholds.history_cycles * step_of(spec, start)


def _lookbacks(db: Database, specs: dict[str, CycleSpec]) -> LookbackAt:
    """Return how far cycles looked back, as known at the instant in question."""
    rows = defaultdict(list)
    for row in settings_rows(db, name="lookbacks"):
        rows[row["cycle_id"]].append(row)

    def lookback_at(cycle_id: str, at: datetime) -> timedelta:
        for row in rows[cycle_id]:
            is_known = row["is_founding"] or row["recorded_at"] <= at
            if is_known and (row["valid_from"] is None or row["valid_from"] <= at):
                lookback: timedelta = row["lookback"]
                return lookback
        return specs[cycle_id].lookback

    return lookback_at


def replays_to_judge(
    db: Database,
    cycle_id: str,
    version_ids: Collection[int],
    *,
    start: datetime,
    end: datetime,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> list[list[ManifestRun]]:
    """Return the replays of some versions of a cycle in [start, end), and before, for `judge_runs`.

    Each is judged by the replays of its version before it. A replay that did not run has no verdict: without
    a manifest nothing says that it should have, and skipped it lacked what others had to store.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    if not version_ids:
        return []
    specs = {spec.cycle_id: spec for spec in cycle_specs(db) if spec.cycle_id == cycle_id}
    with storage_errors():
        lookback_at = _lookbacks(db, specs)
        own = _runs(db, specs, start, end, thresholds, lookback_at, replays_of=version_ids)
        runs = with_lookback(db, own, end)
    runs_by_version: dict[int, list[ManifestRun]] = defaultdict(list)
    for key in sorted(runs, key=lambda k: (k[2], k[1])):
        if runs[key].outcome is not Outcome.SKIPPED:
            runs_by_version[key[2]].append(runs[key])
    return list(runs_by_version.values())


def replay_verdicts(
    db: Database,
    cycle_id: str,
    version_ids: Collection[int],
    *,
    start: datetime,
    end: datetime,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> list[Verdict]:
    """Return the verdicts on replays of a cycle in [start, end): `replays_to_judge`, judged."""
    runs = replays_to_judge(db, cycle_id, version_ids, start=start, end=end, thresholds=thresholds)
    return judge_runs(runs, start, thresholds)


def _runs(
    db: Database,
    specs: dict[str, CycleSpec],
    start: datetime,
    end: datetime,
    thresholds: Thresholds,
    lookback_at: LookbackAt,
    *,
    replays_of: Collection[int] | None = None,
    model_id: str | None = None,
) -> dict[Key, ManifestRun]:
    steps = {cycle_id: step_of(spec, start) for cycle_id, spec in specs.items()}
    params = {
        "cycle_ids": list(steps),
        "since": [history_since(spec, start, thresholds) for spec in specs.values()],
        "end": end,
        "replays_of": None if replays_of is None else list(replays_of),
        "model_id": model_id,
    }
    with db.conn.cursor() as cursor:
        set_json_loads(orjson.loads, cursor)
        cursor.execute(db.queries("detection_verdicts")["manifests"], params)
        runs = [_run(row, steps[row[0]], lookback_at(row[0], row[1])) for row in cursor]
    instants: dict[str, set[datetime]] = defaultdict(set)
    for run in runs:
        instants[run.cycle_id].add(run.cycle_started_at)
    between = {c: off_grid(specs[c].schedule, steps[c], of_cycle) for c, of_cycle in instants.items()}
    return {
        (run.cycle_id, run.cycle_started_at, run.version_id): replace(run, is_off_grid=True)
        if run.cycle_started_at in between[run.cycle_id]
        else run
        for run in runs
    }


def _run(
    row: tuple[Any, ...], step: timedelta, lookback: timedelta
) -> ManifestRun:  # Any: the columns of manifests
    return ManifestRun(
        cycle_id=row[0],
        cycle_started_at=row[1],
        model_id=row[2],
        version_id=row[3],
        version=row[4],
        role=Role(row[5]),
        step=step,
        lookback=lookback,
        outcome=Outcome(row[6]),
        error=row[7],
        input_count=row[8],
        input_digest=row[9],
        newest_input_at=row[10],
        output_count=row[11],
        output_digest=row[12],
        score_counts=by_bucket(row[13]),
        score_edges=by_bucket(row[20]),
        canaries=tuple(map(CanaryResult.from_json, row[14])),
        features={
            f["name"]: FeatureProfile(
                name=f["name"],
                count=f["count"],
                null_count=f["null_count"],
                distinct_count=f["distinct_count"],
                mean=f.get("mean"),
                deviation=f.get("deviation"),
            )
            for f in row[15]
        },
        reads_since=row[16],
        reads=row[17],
        other_params=row[18] not in ("", params_digest(row[19])),
    )


def _without_manifest(
    version: ExpectedVersion, specs: dict[str, CycleSpec], lookback_at: LookbackAt
) -> ManifestRun:
    spec = specs[version.cycle_id]
    run = ManifestRun(
        cycle_id=version.cycle_id,
        cycle_started_at=version.cycle_started_at,
        model_id=version.model_id,
        version_id=version.version_id,
        version=version.version,
        role=version.role,
        step=step_of(spec, version.cycle_started_at),
        lookback=lookback_at(version.cycle_id, version.cycle_started_at),
        error="the cycle was never opened" if version.is_unopened else "it left no manifest",
    )
    if version.broken is not None:
        return replace(run, outcome=Outcome.FAILED, error=version.broken)
    return run
