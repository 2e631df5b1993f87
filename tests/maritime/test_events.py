"""What the models find reaches the events: ships that are deceived together are one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import yaml
from tests.maritime.test_kinds import START, put

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode
from airflow_detection.maritime.simulation.kinds import interference
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

REGISTRY = Path(__file__).parents[2] / "dags/registry/maritime.yaml"


def test_ships_that_jump_to_one_point_are_one_event_with_the_ships_listed(
    database: Connection, tmp_path: Path
) -> None:
    loaded = yaml.safe_load(REGISTRY.read_text())
    models = {name: loaded["models"][name] for name in ("track_quality", "position_unavailable")}
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump({**loaded, "models": models}))
    db = Database(database, "detection")
    apply_file(db, file)
    kind = interference(Random(1))
    put(database, kind)
    first = min(r.second for r in kind.reports) + 1.5 * 3600
    step = timedelta(minutes=5)
    begin = START + timedelta(seconds=first) // step * step
    for number in (2, 3):
        at = begin + number * step
        planning.open_cycle(db, "maritime", at, mode=Mode.AS_OF)
        inline.run_inline(db, Settings(schema="detection"), "maritime", at, mode=Mode.AS_OF)
    events = database.execute(
        "select category, severity::text, status::text, details from detection.detection_events"
    ).fetchall()
    assert [event[:3] for event in events] == [("position_unavailable", events[0][1], "OPEN")]
    assert events[0][1] in ("HIGH", "CRITICAL")
    assert tuple(events[0][3]["mmsis"]) == kind.mmsis
