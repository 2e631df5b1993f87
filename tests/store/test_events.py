"""Events follow from the stored outputs of champions, in whatever order those came."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.errors import ConfigurationError
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.events import DETAILS_BYTES
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.partitions.create import ensure_cycle_months
from airflow_detection.store.queries import load_queries

START = datetime(2026, 1, 31, 20, tzinfo=UTC)  # the month ends within what follows
STEP = timedelta(minutes=25)
GAP = timedelta(hours=1)
MODEL = ModelSpec(model_id="spoofing", cycle_id="sea", score_key="score", entity_key="mmsi")
EVENTS = """
select entity_id, first_seen_at, last_seen_at, score, severity::text, status::text, closed_at, version_id,
       cycle_started_at, details
  from detection.detection_events where status <> 'RETRACTED' order by entity_id, first_seen_at
"""
Sightings = Sequence[tuple[str, float | None]]  # (entity, score) of one cycle


def at(number: int) -> datetime:
    return START + number * STEP


@dataclass
class Sea:
    """A registered model and a connection to its database."""

    conn: Connection
    version: VersionSpec

    def save(self, number: int, found: Sightings, conn: Connection | None = None, **facts: Any) -> None:
        version = replace(self.version, **{k: facts.pop(k) for k in ("role", "is_replay") if k in facts})
        cycle = Cycle(cycle_id="sea", started_at=at(number), lookback=GAP)
        rows = [({"mmsi": e}, {"mmsi": e, "score": s, "cycle": number, **facts}) for e, s in found]
        store = PostgresStore(conn or self.conn, conn or self.conn, "detection")

        def finish(count: int) -> tuple[RunReport, Mapping[str, float]]:
            report = RunReport(
                version=version, outcome=Outcome.SUCCEEDED, started_at=at(number), output_count=count
            )
            return report, {}

        store.save(MODEL, version, cycle, rows, finish)

    def events(self) -> list[tuple[Any, ...]]:
        return self.conn.execute(EVENTS).fetchall()

    def short(self) -> list[tuple[Any, ...]]:
        """Entity, first and last cycle, score, severity and status of each event."""
        return [
            (e, (first - START) // STEP, (last - START) // STEP, score, severity, status)
            for e, first, last, score, severity, status, *_ in self.events()
        ]

    def clear(self) -> None:
        for table in ("events", "model_runs", "model_run_outputs", "model_metrics"):
            self.conn.execute(f"truncate detection.detection_{table}")


@pytest.fixture
def sea(database: Connection) -> Sea:
    database.execute(
        "insert into detection.detection_cycles (cycle_id, schedule, lookback, start_date) "
        "values ('sea', '0 * * * *', '1 hour', '2020-01-01Z')"
    )
    database.execute(
        "insert into detection.detection_models (model_id, cycle_id, entrypoint) "
        "values ('spoofing', 'sea', 'x')"
    )
    row = database.execute(
        "insert into detection.detection_model_versions (model_id, version) values ('spoofing', '1') "
        "returning version_id"
    ).fetchone()
    assert row
    for month in (START, START + timedelta(days=2)):
        ensure_cycle_months(Database(database, "detection"), month)
    version = VersionSpec(model_id="spoofing", version="1", role=Role.PRIMARY, version_id=row[0])
    return Sea(database, version)


def expected(stored: Mapping[int, Sightings], version_id: int) -> list[tuple[Any, ...]]:
    """What the events must be, straight from the definition; `stored` is by number of cycle."""
    events = []
    for entity in sorted({e for found in stored.values() for e, s in found if s and s > 0.5}):
        scores = {
            at(number): max(s for e, s in found if e == entity and s is not None)
            for number, found in stored.items()
            if any(e == entity and s and s > 0.5 for e, s in found)
        }
        spells: list[list[datetime]] = []
        for when in sorted(scores):
            if spells and when - spells[-1][-1] <= GAP:
                spells[-1].append(when)
            else:
                spells.append([when])
        for spell in spells:
            top, last = max(scores[when] for when in spell), spell[-1]
            later = [at(number) for number in stored if at(number) > last + GAP]
            details = {"mmsi": entity, "score": scores[last], "cycle": (last - START) // STEP}
            status, closed_at = ("CLOSED", min(later)) if later else ("OPEN", None)
            severity = "CRITICAL" if top > 0.7 else "HIGH"
            events.append(
                (entity, spell[0], last, top, severity, status, closed_at, version_id, last, details)
            )
    return events


def test_cycles_that_sight_an_entity_make_one_event(sea: Sea) -> None:
    sea.save(0, [("a", 0.6), ("b", 0.5), ("c", None), ("d", 0.1)])
    assert sea.short() == [("a", 0, 0, 0.6, "HIGH", "OPEN")]
    sea.save(1, [("a", 0.9), ("c", 0.51)])
    sea.save(2, [("a", 0.55)])
    assert sea.short() == [("a", 0, 2, 0.9, "CRITICAL", "OPEN"), ("c", 1, 1, 0.51, "HIGH", "OPEN")]
    sea.save(5, [])
    assert sea.short()[0][-1] == "CLOSED"
    assert sea.events()[0][6] == at(5)
    sea.save(6, [("a", 0.6)])
    assert [row[1] for row in sea.short()] == [0, 6, 1]


def test_sightings_exactly_the_gap_apart_are_one_event_and_further_apart_two(sea: Sea) -> None:
    sea.conn.execute("update detection.detection_models set event_gap = '25 minutes'")
    sea.save(0, [("a", 0.6)])
    sea.save(1, [("a", 0.6)])
    assert len(sea.events()) == 1
    sea.save(0, [("a", 0.6)])  # cut anew, not gone on with
    assert len(sea.events()) == 1
    sea.conn.execute("update detection.detection_models set event_gap = interval '24 minutes 59 seconds'")
    sea.save(3, [("b", 0.6)])
    sea.save(4, [("b", 0.6)])
    assert [row[0] for row in sea.events()] == ["a", "b", "b"]


def test_a_late_cycle_joins_two_events_and_names_the_one_that_stays(sea: Sea) -> None:
    for number in (0, 4, 8):
        sea.save(number, [("a", 0.6 + number / 80)])
    assert len(sea.events()) == 3
    sea.save(2, [("a", 0.95)])
    assert sea.short() == [("a", 0, 4, 0.95, "CRITICAL", "CLOSED"), ("a", 8, 8, 0.7, "HIGH", "OPEN")]
    found = sea.conn.execute(
        "select e.first_seen_at, w.first_seen_at from detection.detection_events e "
        "join detection.detection_events w on w.event_id = (e.details->>'merged_into')::bigint "
        "where e.status = 'RETRACTED'"
    ).fetchall()
    assert found == [(at(4), at(0))]


def test_a_rerun_that_sights_nothing_takes_its_event_back(sea: Sea) -> None:
    sea.save(0, [("a", 0.6), ("b", 0.6)])
    sea.save(0, [("b", 0.8)])
    assert sea.short() == [("b", 0, 0, 0.8, "CRITICAL", "OPEN")]
    statuses = sea.conn.execute(
        "select entity_id, status::text, details->'merged_into' from detection.detection_events order by 1"
    ).fetchall()
    assert statuses == [("a", "RETRACTED", None), ("b", "OPEN", None)]
    sea.save(0, [("a", 0.7)])
    assert sea.short() == [("a", 0, 0, 0.7, "HIGH", "OPEN")]


def test_a_rerun_in_the_middle_cuts_an_event_in_two(sea: Sea) -> None:
    for number in (0, 2, 4):
        sea.save(number, [("a", 0.6)])
    sea.save(2, [])
    assert [(row[1], row[2], row[5]) for row in sea.short()] == [(0, 0, "CLOSED"), (4, 4, "OPEN")]


def test_replays_and_shadows_touch_no_event(sea: Sea) -> None:
    sea.save(0, [("a", 0.6)])
    before = sea.events()
    sea.save(0, [("a", 0.9), ("x", 0.9)], role=Role.PRIMARY, is_replay=True)
    sea.save(9, [("x", 0.9)], role=Role.SHADOW)
    sea.save(10, [("x", 0.9)], role=Role.CHALLENGER)
    assert sea.events() == before


def test_a_run_that_is_no_champions_any_more_takes_its_sightings_and_its_closing_back(sea: Sea) -> None:
    sea.save(0, [("a", 0.6)])
    sea.save(4, [("b", 0.6)])
    assert [(row[0], row[5]) for row in sea.short()] == [("a", "CLOSED"), ("b", "OPEN")]
    sea.save(4, [("b", 0.6)], role=Role.SHADOW)
    assert [(row[0], row[5]) for row in sea.short()] == [("a", "OPEN")]


def test_the_severity_that_an_output_names_is_the_events(sea: Sea) -> None:
    sea.save(0, [("a", 0.6)], severity="LOW")
    sea.save(1, [("a", 0.6)], severity="MEDIUM")
    assert sea.short()[0][4] == "MEDIUM"
    sea.save(2, [("a", 0.55)], severity="CRITICAL")
    assert sea.short()[0][4] == "MEDIUM"
    sea.save(3, [("a", 0.6)], severity="no such")
    assert sea.short()[0][4] == "HIGH"


def test_long_evidence_is_cut(sea: Sea) -> None:
    sea.save(0, [("a", 0.6)], text="æ" * DETAILS_BYTES)
    details = sea.events()[0][9]
    assert set(details) == {"cut_from_bytes", "text"}
    assert len(str(details).encode()) < DETAILS_BYTES


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "detection_events.sql", ""])  # noqa: S108
def test_a_projection_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is no name of a file of queries"):
        load_queries(name, "detection")


def test_a_projection_is_refreshed_in_the_same_transaction(
    sea: Sea, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from airflow_detection.store import queries

    (tmp_path / "queries").mkdir()
    for path in (queries.sql_root() / "queries").iterdir():
        (tmp_path / "queries" / path.name).write_text(path.read_text())
    (tmp_path / "queries" / "seen.sql").write_text(
        "-- name: refresh\ninsert into {schema}.seen select count(*) from {schema}.detection_events "
        "where model_id = %(model_id)s"
    )
    sea.conn.execute("create table detection.seen (n int check (n < 2))")
    monkeypatch.setattr(queries, "sql_root", lambda: tmp_path)
    queries.load_queries.cache_clear()
    cycle = Cycle(cycle_id="sea", started_at=at(0), lookback=GAP)
    report = RunReport(version=sea.version, outcome=Outcome.SUCCEEDED, started_at=at(0), projection="seen")
    store = PostgresStore(sea.conn, sea.conn, "detection")
    store.save(MODEL, sea.version, cycle, [({"mmsi": 1}, {"score": 1})], lambda _: (report, {}))
    assert sea.conn.execute("select n from detection.seen").fetchall() == [(1,)]
    with pytest.raises(Exception, match="seen_n_check"):
        store.save(
            MODEL, sea.version, cycle, [({"mmsi": n}, {"score": 1}) for n in "ab"], lambda _: (report, {})
        )
    assert [row[0] for row in sea.short()] == ["1"]
    queries.load_queries.cache_clear()


SCORES = st.sampled_from([None, 0.2, 0.5, 0.6, 0.7, 0.71, 0.9])
FOUND = st.lists(st.tuples(st.sampled_from("abc"), SCORES), max_size=4)
RUNS = st.lists(st.tuples(st.integers(0, 11), FOUND), min_size=1, max_size=20)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(runs=RUNS)
def test_any_order_of_cycles_and_reruns_gives_the_events_of_the_definition(
    sea: Sea, runs: list[tuple[int, Sightings]]
) -> None:
    sea.clear()
    stored: dict[int, Sightings] = {}
    for number, found in runs:
        sea.save(number, found)
        stored[number] = found
    assert [row[:9] for row in sea.events()] == [row[:9] for row in expected(stored, sea.version.version_id)]


def test_writers_at_once_over_shuffled_cycles_leave_the_events_of_the_sequence(sea: Sea, dsn: str) -> None:
    chance = random.Random(7)
    stored = {
        n: [(e, chance.choice([0.3, 0.6, 0.8])) for e in "abcdefgh" if chance.random() < 0.5]
        for n in range(60)
    }
    wrong = {n: [(e, 0.9) for e in "abxyz"] for n in chance.sample(range(60), 20)}
    jobs = [(n, wrong.get(n, stored[n])) for n in stored]
    chance.shuffle(jobs)

    def write(numbered: tuple[int, Sequence[tuple[int, Sightings]]]) -> None:
        with connect(dsn, statement_timeout_s=60) as conn:
            for n, found in numbered[1]:
                sea.save(n, found, conn)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, enumerate(jobs[i::8] for i in range(8))))
        list(pool.map(write, enumerate([(n, stored[n]) for n in sorted(wrong)][i::8] for i in range(8))))
    assert sea.events() == expected(stored, sea.version.version_id)
