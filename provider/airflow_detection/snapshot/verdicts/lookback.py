"""Past inputs of runs: a model that looks back a day finds little in the first hours of a feed."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from airflow_detection.domain.specs import Role
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.database import Database

Key = tuple[str, datetime, int]


def with_lookback(db: Database, runs: Mapping[Key, ManifestRun], end: datetime) -> dict[Key, ManifestRun]:
    """Return the runs with `has_past`, and with the earliest `reads_since` of a model and all its upstreams.

    `end` is the instant before which all runs are.
    """
    if all(run.reads_since is None for run in runs.values()):
        return dict(runs)
    queries = db.queries("detection_verdicts")
    upstreams: dict[str, set[str]] = defaultdict(set)
    for model_id, upstream in db.conn.execute(queries["upstreams"]):
        upstreams[model_id].add(upstream)
    reaching = _reaching_back(runs, {model_id: _all_upstreams(model_id, upstreams) for model_id in upstreams})
    earliest: dict[str, datetime] = {}
    for run in reaching.values():
        if run.reads_since is not None:
            since = run.reads_since - run.lookback
            earliest[run.cycle_id] = min(since, earliest.get(run.cycle_id, since))
    with_inputs: dict[str, list[datetime]] = defaultdict(list)
    counts: dict[str, list[int]] = defaultdict(lambda: [0])  # up to each instant
    params = {"cycle_ids": list(earliest), "since": list(earliest.values()), "end": end}
    for cycle_id, at, count in db.conn.execute(queries["with_inputs"], params):
        with_inputs[cycle_id].append(at)
        counts[cycle_id].append(counts[cycle_id][-1] + count)
    starts = {
        cycle_id: _starts_of_series(instants, _any_run_of(reaching, cycle_id))
        for cycle_id, instants in with_inputs.items()
    }
    return {
        key: run
        if run.reads_since is None
        else replace(
            run,
            has_past=not _needs_past(run)
            or _has_past(run, with_inputs[run.cycle_id], starts.get(run.cycle_id, ())),
            past_rows=_past_rows(run, with_inputs[run.cycle_id], counts[run.cycle_id]),
        )
        for key, run in reaching.items()
    }


def _all_upstreams(model_id: str, upstreams: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    pending = [model_id]
    while pending:
        new = upstreams.get(pending.pop(), set()) - reached
        reached |= new
        pending += new
    return reached


def _reaching_back(
    runs: Mapping[Key, ManifestRun], upstreams: Mapping[str, set[str]]
) -> dict[Key, ManifestRun]:
    """Return the runs with the earliest `reads_since` of their model and its upstreams."""
    since = {
        (run.cycle_id, run.cycle_started_at, run.model_id): run.reads_since
        for run in runs.values()
        if run.role is Role.PRIMARY and run.reads_since is not None and _needs_past(run)
    }

    def earliest_read(run: ManifestRun) -> datetime | None:
        read = [since.get((run.cycle_id, run.cycle_started_at, u)) for u in upstreams.get(run.model_id, ())]
        return min((at for at in (run.reads_since, *read) if at is not None), default=None)

    return {
        key: run if (at := earliest_read(run)) == run.reads_since else replace(run, reads_since=at)
        for key, run in runs.items()
    }


def _any_run_of(runs: Mapping[Key, ManifestRun], cycle_id: str) -> ManifestRun:
    return next(run for run in runs.values() if run.cycle_id == cycle_id)


def _starts_of_series(instants: Sequence[datetime], run: ManifestRun) -> list[datetime]:
    """Return for each cycle with inputs since when none was missing for longer than a window and a step."""
    starts = list(instants[:1])
    for before, at in pairwise(instants):
        starts.append(at if at - before > run.lookback + run.step else starts[-1])
    return starts


def _needs_past(run: ManifestRun) -> bool:
    return bool(run.reads.get("counts_need_past", 1.0))


def _past_rows(run: ManifestRun, instants: Sequence[datetime], counts: Sequence[int]) -> float:
    """Return how many rows the cycles had whose windows lie in what the model reads from before its own.

    `counts` are of all rows before each instant, and at the end; each row is in `overlap` windows.
    """
    if run.reads_since is None:
        return 0.0
    first = bisect_right(instants, run.reads_since + run.lookback)
    last = max(bisect_right(instants, run.cycle_started_at - run.lookback), first)
    return (counts[last] - counts[first]) / run.overlap


def _has_past(run: ManifestRun, instants: Sequence[datetime], starts: Sequence[datetime]) -> bool:
    position = bisect_right(instants, run.cycle_started_at) - 1
    return position >= 0 and run.reads_since is not None and starts[position] <= run.reads_since
