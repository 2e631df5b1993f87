"""Versions that should have run: from recorded plans, and from the schedule for cycles never opened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_detection.domain.cron import interval
from airflow_detection.domain.specs import CycleSpec, Role
from airflow_detection.snapshot.verdicts.due import due, opened_from
from airflow_detection.store.database import Database

OPEN_CYCLE_GRACE = timedelta(minutes=15)
"""Time after its opening in which an open cycle may still run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedVersion:
    """One version that should have run; `broken` is the reason why its model cannot.

    `is_open` tells that it still may run, `is_unopened` that its cycle was never opened.
    """

    cycle_id: str
    cycle_started_at: datetime
    model_id: str
    version_id: int
    version: str
    role: Role
    broken: str | None = None
    is_open: bool = False
    is_unopened: bool = False


def step_of(spec: CycleSpec, around: datetime) -> timedelta:
    """Return the time between two cycles; a day where the schedule cannot be read."""
    try:
        return interval(spec.schedule, around)
    except ValueError:
        return timedelta(days=1)


def expected_versions(
    db: Database,
    specs: dict[str, CycleSpec],
    start: datetime,
    end: datetime,
    *,
    use_model_registry: bool,
    counts_unopened: bool = True,
    model_id: str | None = None,
) -> list[ExpectedVersion]:
    """Return every version planned for a cycle in [start, end); models switched off are left out.

    With `model_id` those of this model alone, and of the cycles that were never opened all.

    A cycle that was due and never opened counts once the next is due. Without `use_model_registry` a cycle
    with a legacy path runs that, and none of its versions. Without `counts_unopened` no cycle counts that
    was never opened.
    """
    queries = db.queries("detection_verdicts")
    span = {"start": start, "end": end, "patience": OPEN_CYCLE_GRACE, "model_id": model_id}
    opened: set[tuple[str, datetime]] = set()
    versions: list[ExpectedVersion] = []
    for cycle_id, at, is_open, of_model, version_id, version, role, broken in db.conn.execute(
        queries["planned"], span
    ):
        opened.add((cycle_id, at))
        if version_id is not None:
            versions.append(
                ExpectedVersion(
                    cycle_id=cycle_id, cycle_started_at=at, model_id=of_model, version_id=version_id,
                    version=version, role=Role(role), broken=broken, is_open=is_open,
                )
            )  # fmt: skip
    registry_specs = {
        spec.cycle_id: spec
        for spec in specs.values()
        if spec.is_enabled and (spec.legacy_entrypoint is None or use_model_registry)
    }
    if counts_unopened:
        versions += _unopened(db, registry_specs, start, end, opened)
    with_champion = {(v.cycle_id, v.cycle_started_at, v.model_id) for v in versions if v.role is Role.PRIMARY}
    return [v for v in versions if (v.cycle_id, v.cycle_started_at, v.model_id) in with_champion]


def _unopened(
    db: Database,
    specs: dict[str, CycleSpec],
    start: datetime,
    end: datetime,
    opened: set[tuple[str, datetime]],
) -> list[ExpectedVersion]:
    queries = db.queries("detection_verdicts")
    pairs: list[tuple[str, datetime]] = []
    for cycle_id, times in due_cycles(db, specs, start, end).items():
        pairs += [(cycle_id, at) for at in times if (cycle_id, at) not in opened]
    if not pairs:
        return []
    params = {"cycle_ids": [c for c, _ in pairs], "instants": [t for _, t in pairs]}
    return [
        ExpectedVersion(
            cycle_id=row[0], cycle_started_at=row[1], model_id=row[2], version_id=row[3], version=row[4],
            role=Role(row[5]), is_unopened=True,
        )
        for row in db.conn.execute(queries["due"], params)
    ]  # fmt: skip


def due_cycles(
    db: Database, specs: Mapping[str, CycleSpec], start: datetime, end: datetime
) -> dict[str, list[datetime]]:
    """Return the due ticks (see `due`) of each cycle in [start, end) whose next tick is past, ascending."""
    since = {}
    for spec in specs.values():
        with suppress(ValueError):  # a schedule that cannot be read is never due
            since[spec.cycle_id] = opened_from(spec.schedule, start)
    params = {"cycle_ids": list(since), "since": list(since.values()), "end": end}
    opened: dict[str, list[datetime]] = defaultdict(list)
    for cycle_id, at in db.conn.execute(db.queries("detection_verdicts")["opened"], params):
        opened[cycle_id].append(at)
    due_ticks = {}
    for cycle_id, schedule, _, start_date, now, live_since, _ in db.conn.execute(
        db.queries("snapshot_sections")["schedules"]
    ):
        if cycle_id in since:
            until = min(end, now - step_of(specs[cycle_id], start))
            due_ticks[cycle_id] = due(
                schedule, max(start, start_date), until, live_since=live_since, opened=opened[cycle_id]
            )
    return due_ticks
