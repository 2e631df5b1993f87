"""What the models find reaches the events: what belongs together is one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from random import Random

import yaml
from tests.maritime.test_kinds import START, put

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode
from airflow_detection.maritime.simulation.kinds import SimulatedReport, TrafficKind, interference
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

REGISTRY = Path(__file__).parents[2] / "dags/registry/maritime.yaml"


HOUR = 3600
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
TOGETHER = ((1, 5), (10, 12), (17, 20))
"""Hours in which both transmitters of a clone are heard: between them the other is silent for five hours."""


def champions_alone(tmp_path: Path, *names: str) -> Path:
    """Write a registration file of some models, each with its champion."""
    loaded = yaml.safe_load(REGISTRY.read_text())
    models = {name: loaded["models"][name] for name in names}
    for model in models.values():
        model["versions"] = {n: v for n, v in model["versions"].items() if v["role"] == "PRIMARY"}
    file = tmp_path / "champions.yaml"
    file.write_text(yaml.safe_dump({**loaded, "models": models}))
    return file


def test_a_clone_that_is_heard_now_and_then_is_one_event_of_which_the_severity_does_not_fall(
    database: Connection, tmp_path: Path
) -> None:
    db = Database(database, "detection")
    apply_file(db, champions_alone(tmp_path, "track_quality", "spoofing", "identity_collision"))
    mmsi = 366_000_001
    one = [SimulatedReport(mmsi=mmsi, second=s, lat=27.0, lon=-89.5) for s in range(0, 28 * HOUR, 300)]
    other = [
        SimulatedReport(mmsi=mmsi, second=s + 20, lat=28.0, lon=-86.0)
        for begin, end in TOGETHER
        for s in range(begin * HOUR, end * HOUR, 300)
    ]
    put(database, TrafficKind(reports=(*one, *other), expect={}))
    worst: dict[str, int] = {}
    for hour in range(1, 29):
        at = START + timedelta(hours=hour)
        planning.open_cycle(db, "maritime", at, mode=Mode.AS_OF)
        inline.run_inline(db, Settings(schema="detection"), "maritime", at, mode=Mode.AS_OF)
        for category, severity, status in database.execute(
            "select category, severity::text, status::text from detection.detection_events"
        ):
            assert status == ("OPEN" if hour <= 26 else "CLOSED"), (hour, category)
            assert SEVERITIES.index(severity) >= worst.get(category, 0), (hour, category)
            worst[category] = SEVERITIES.index(severity)
    events = database.execute(
        "select category, severity::text, first_seen_at, last_seen_at from detection.detection_events"
        " order by 1"
    ).fetchall()
    assert [event[0] for event in events] == ["identity_collision", "spoofing"]
    assert [event[1] for event in events] == ["CRITICAL", "CRITICAL"]
    for _, _, first_seen_at, last_seen_at in events:
        assert (first_seen_at, last_seen_at) == (START + timedelta(hours=2), START + timedelta(hours=20))


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
