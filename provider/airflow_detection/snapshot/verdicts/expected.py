"""Which versions should have run: from recorded plans, and from the schedule for cycles never opened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_detection.domain.cron import interval
from airflow_detection.domain.specs import CycleSpec, Role
from airflow_detection.engine import flags
from airflow_detection.snapshot.verdicts.due import due, run_on
from airflow_detection.store.database import Database

PATIENCE = timedelta(minutes=15)
"""A cycle that is open for no longer may still run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """One version that should have run; `broken` is why its model cannot, `is_open` that it still may."""

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
    """The time between two cycles; a day where the schedule cannot be read."""
    try:
        return interval(spec.schedule, around)
    except ValueError:
        return timedelta(days=1)


def planned(db: Database, specs: dict[str, CycleSpec], start: datetime, end: datetime) -> list[Planned]:
    """Every version planned for a cycle in [start, end); models switched off are left out.

    A cycle that was due and never opened counts once the next is due. With the registry off (see `flags`)
    a cycle with a legacy path runs that.
    """
    queries = db.queries("detection_verdicts")
    span = {"start": start, "end": end, "patience": PATIENCE}
    opened: set[tuple[str, datetime]] = set()
    found: list[Planned] = []
    for cycle_id, at, is_open, model_id, version_id, version, role, broken in db.conn.execute(
        queries["planned"], span
    ):
        opened.add((cycle_id, at))
        if version_id is not None:
            found.append(
                Planned(
                    cycle_id=cycle_id, cycle_started_at=at, model_id=model_id, version_id=version_id,
                    version=version, role=Role(role), broken=broken, is_open=is_open,
                )
            )  # fmt: skip
    found += _unopened(db, specs, start, end, opened)
    with_champion = {(p.cycle_id, p.cycle_started_at, p.model_id) for p in found if p.role is Role.PRIMARY}
    return [p for p in found if (p.cycle_id, p.cycle_started_at, p.model_id) in with_champion]


def _unopened(
    db: Database,
    specs: dict[str, CycleSpec],
    start: datetime,
    end: datetime,
    opened: set[tuple[str, datetime]],
) -> list[Planned]:
    queries = db.queries("detection_verdicts")
    expected = {
        spec.cycle_id: spec
        for spec in specs.values()
        if spec.is_enabled and (spec.legacy_entrypoint is None or flags.use_model_registry())
    }
    pairs: list[tuple[str, datetime]] = []
    for cycle_id, times in due_cycles(db, expected, start, end).items():
        pairs += [(cycle_id, at) for at in times if (cycle_id, at) not in opened]
    if not pairs:
        return []
    wanted = {"cycle_ids": [c for c, _ in pairs], "instants": [t for _, t in pairs]}
    return [
        Planned(
            cycle_id=row[0], cycle_started_at=row[1], model_id=row[2], version_id=row[3], version=row[4],
            role=Role(row[5]), is_unopened=True,
        )
        for row in db.conn.execute(queries["due"], wanted)
    ]  # fmt: skip


def due_cycles(
    db: Database, specs: Mapping[str, CycleSpec], start: datetime, end: datetime
) -> dict[str, list[datetime]]:
    """When each cycle was due in [start, end) and the next one was too by now, ascending (see `due`)."""
    since = {}
    for spec in specs.values():
        with suppress(ValueError):  # a schedule that cannot be read is never due
            since[spec.cycle_id] = run_on(spec.schedule, start)
    wanted = {"cycle_ids": list(since), "since": list(since.values()), "end": end}
    opened: dict[str, list[datetime]] = defaultdict(list)
    for cycle_id, at in db.conn.execute(db.queries("detection_verdicts")["opened"], wanted):
        opened[cycle_id].append(at)
    found = {}
    for cycle_id, schedule, _, start_date, now, live_since, _ in db.conn.execute(
        db.queries("snapshot_sections")["schedules"]
    ):
        if cycle_id in since:
            until = min(end, now - step_of(specs[cycle_id], start))
            found[cycle_id] = due(
                schedule, max(start, start_date), until, live_since=live_since, opened=opened[cycle_id]
            )
    return found
