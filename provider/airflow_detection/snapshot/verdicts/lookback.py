"""Whether the past that a run reads was there: what looks back a day finds little in its first hours."""

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


def with_past(db: Database, runs: Mapping[Key, ManifestRun], end: datetime) -> dict[Key, ManifestRun]:
    """The same runs with `has_past`, and `reads_since` of a model and all that it depends on.

    `end` is the instant before which all runs are.
    """
    if all(run.reads_since is None for run in runs.values()):
        return dict(runs)
    queries = db.queries("detection_verdicts")
    upstreams: dict[str, set[str]] = defaultdict(set)
    for model_id, upstream in db.conn.execute(queries["upstreams"]):
        upstreams[model_id].add(upstream)
    found = _reaching_back(runs, {model_id: _all_upstreams(model_id, upstreams) for model_id in upstreams})
    earliest: dict[str, datetime] = {}
    for run in found.values():
        if run.reads_since is not None:
            reached = run.reads_since - run.lookback
            earliest[run.cycle_id] = min(reached, earliest.get(run.cycle_id, reached))
    came: dict[str, list[datetime]] = defaultdict(list)
    wanted = {"cycle_ids": list(earliest), "since": list(earliest.values()), "end": end}
    for cycle_id, at in db.conn.execute(queries["with_inputs"], wanted):
        came[cycle_id].append(at)
    begins = {cycle_id: _begins(instants, _any_of(found, cycle_id)) for cycle_id, instants in came.items()}
    return {
        key: run
        if run.reads_since is None
        else replace(run, has_past=_was_there(run, came[run.cycle_id], begins.get(run.cycle_id, ())))
        for key, run in found.items()
    }


def _all_upstreams(model_id: str, upstreams: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    left = [model_id]
    while left:
        new = upstreams.get(left.pop(), set()) - found
        found |= new
        left += new
    return found


def _reaching_back(
    runs: Mapping[Key, ManifestRun], upstreams: Mapping[str, set[str]]
) -> dict[Key, ManifestRun]:
    """A model reads what its upstreams read."""
    since = {
        (run.cycle_id, run.cycle_started_at, run.model_id): run.reads_since
        for run in runs.values()
        if run.role is Role.PRIMARY and run.reads_since is not None
    }

    def reached(run: ManifestRun) -> datetime | None:
        read = [since.get((run.cycle_id, run.cycle_started_at, u)) for u in upstreams.get(run.model_id, ())]
        return min((at for at in (run.reads_since, *read) if at is not None), default=None)

    return {
        key: run if (at := reached(run)) == run.reads_since else replace(run, reads_since=at)
        for key, run in runs.items()
    }


def _any_of(runs: Mapping[Key, ManifestRun], cycle_id: str) -> ManifestRun:
    return next(run for run in runs.values() if run.cycle_id == cycle_id)


def _begins(instants: Sequence[datetime], run: ManifestRun) -> list[datetime]:
    """For each cycle with inputs, since when they came without a gap longer than a window and a cycle."""
    begins = list(instants[:1])
    for before, at in pairwise(instants):
        begins.append(at if at - before > run.lookback + run.step else begins[-1])
    return begins


def _was_there(run: ManifestRun, instants: Sequence[datetime], begins: Sequence[datetime]) -> bool:
    place = bisect_right(instants, run.cycle_started_at) - 1
    return place >= 0 and run.reads_since is not None and begins[place] <= run.reads_since
