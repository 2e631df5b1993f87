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
from psycopg.conninfo import make_conninfo

from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.scores import Events
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.errors import ConfigurationError
from airflow_detection.store import registry
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
Scores = Sequence[tuple[str, float | None]]  # (entity, score) of one cycle


def at(number: int) -> datetime:
    return START + number * STEP


@dataclass
class ModelStore:
    """Store of a registered model, with a connection to its database."""

    conn: Connection
    version: VersionSpec

    def save(self, number: int, scores: Scores, conn: Connection | None = None, **more: Any) -> None:
        version = replace(self.version, **{k: more.pop(k) for k in ("role", "is_replay") if k in more})
        cycle = Cycle(cycle_id="sea", started_at=at(number), lookback=GAP)
        rows = [({"mmsi": e}, {"mmsi": e, "score": s, "cycle": number, **more}) for e, s in scores]
        store = PostgresStore(conn or self.conn, conn or self.conn, "detection")

        def finish(count: int) -> tuple[RunReport, Mapping[str, float]]:
            report = RunReport(
                version=version, outcome=Outcome.SUCCEEDED, started_at=at(number), output_count=count
            )
            return report, {}

        events = registry.model_specs(Database(self.conn, "detection"))[0].events
        store.save(replace(MODEL, events=events), version, cycle, rows, finish)

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
def model_store(database: Connection, registered_version: VersionSpec) -> ModelStore:
    for month in (START, START + timedelta(days=2)):
        ensure_cycle_months(Database(database, "detection"), month)
    return ModelStore(database, registered_version)


def expected(stored: Mapping[int, Scores], version_id: int) -> list[tuple[Any, ...]]:
    """Return the events that the definition gives; `stored` is by number of cycle."""
    events = []
    for entity in sorted({e for scores in stored.values() for e, s in scores if s and s > 0.5}):
        highest = {
            at(number): max(s for e, s in scores if e == entity and s is not None)
            for number, scores in stored.items()
            if any(e == entity and s and s > 0.5 for e, s in scores)
        }
        periods: list[list[datetime]] = []
        for when in sorted(highest):
            if periods and when - periods[-1][-1] <= GAP:
                periods[-1].append(when)
            else:
                periods.append([when])
        for period in periods:
            top, last = max(highest[when] for when in period), period[-1]
            later = [at(number) for number in stored if at(number) > last + GAP]
            details = {"mmsi": entity, "score": highest[last], "cycle": (last - START) // STEP}
            status, closed_at = ("CLOSED", min(later)) if later else ("OPEN", None)
            severity = "CRITICAL" if top > 0.7 else "HIGH"
            events.append(
                (entity, period[0], last, top, severity, status, closed_at, version_id, last, details)
            )
    return events


def test_cycles_that_sight_an_entity_make_one_event(model_store: ModelStore) -> None:
    model_store.save(0, [("a", 0.6), ("b", 0.5), ("c", None), ("d", 0.1)])
    assert model_store.short() == [("a", 0, 0, 0.6, "HIGH", "OPEN")]
    model_store.save(1, [("a", 0.9), ("c", 0.51)])
    model_store.save(2, [("a", 0.55)])
    assert model_store.short() == [("a", 0, 2, 0.9, "CRITICAL", "OPEN"), ("c", 1, 1, 0.51, "HIGH", "OPEN")]
    model_store.save(5, [])
    assert model_store.short()[0][-1] == "CLOSED"
    assert model_store.events()[0][6] == at(5)
    model_store.save(6, [("a", 0.6)])
    assert [row[1] for row in model_store.short()] == [0, 6, 1]


def test_sightings_exactly_the_gap_apart_are_one_event_and_further_apart_two(model_store: ModelStore) -> None:
    model_store.conn.execute("update detection.detection_models set event_gap = '25 minutes'")
    model_store.save(0, [("a", 0.6)])
    model_store.save(1, [("a", 0.6)])
    assert len(model_store.events()) == 1
    model_store.save(0, [("a", 0.6)])  # grouped anew, not continued
    assert len(model_store.events()) == 1
    model_store.conn.execute(
        "update detection.detection_models set event_gap = interval '24 minutes 59 seconds'"
    )
    model_store.save(3, [("b", 0.6)])
    model_store.save(4, [("b", 0.6)])
    assert [row[0] for row in model_store.events()] == ["a", "b", "b"]


def test_a_late_cycle_joins_two_events_and_names_the_one_that_stays(model_store: ModelStore) -> None:
    for number in (0, 4, 8):
        model_store.save(number, [("a", 0.6 + number / 80)])
    assert len(model_store.events()) == 3
    model_store.save(2, [("a", 0.95)])
    assert model_store.short() == [("a", 0, 4, 0.95, "CRITICAL", "CLOSED"), ("a", 8, 8, 0.7, "HIGH", "OPEN")]
    merged = model_store.conn.execute(
        "select e.first_seen_at, w.first_seen_at from detection.detection_events e "
        "join detection.detection_events w on w.event_id = (e.details->>'merged_into')::bigint "
        "where e.status = 'RETRACTED'"
    ).fetchall()
    assert merged == [(at(4), at(0))]


def test_a_rerun_that_sights_nothing_takes_its_event_back(model_store: ModelStore) -> None:
    model_store.save(0, [("a", 0.6), ("b", 0.6)])
    model_store.save(0, [("b", 0.8)])
    assert model_store.short() == [("b", 0, 0, 0.8, "CRITICAL", "OPEN")]
    statuses = model_store.conn.execute(
        "select entity_id, status::text, details->'merged_into' from detection.detection_events order by 1"
    ).fetchall()
    assert statuses == [("a", "RETRACTED", None), ("b", "OPEN", None)]
    model_store.save(0, [("a", 0.7)])
    assert model_store.short() == [("a", 0, 0, 0.7, "HIGH", "OPEN")]


def test_a_rerun_in_the_middle_cuts_an_event_in_two(model_store: ModelStore) -> None:
    for number in (0, 2, 4):
        model_store.save(number, [("a", 0.6)])
    model_store.save(2, [])
    assert [(row[1], row[2], row[5]) for row in model_store.short()] == [(0, 0, "CLOSED"), (4, 4, "OPEN")]


def test_replays_and_shadows_touch_no_event(model_store: ModelStore) -> None:
    model_store.save(0, [("a", 0.6)])
    before = model_store.events()
    model_store.save(0, [("a", 0.9), ("x", 0.9)], role=Role.PRIMARY, is_replay=True)
    model_store.save(9, [("x", 0.9)], role=Role.SHADOW)
    model_store.save(10, [("x", 0.9)], role=Role.CHALLENGER)
    assert model_store.events() == before


def test_a_run_that_is_no_champions_any_more_takes_its_sightings_and_its_closing_back(
    model_store: ModelStore,
) -> None:
    model_store.save(0, [("a", 0.6)])
    model_store.save(4, [("b", 0.6)])
    assert [(row[0], row[5]) for row in model_store.short()] == [("a", "CLOSED"), ("b", "OPEN")]
    model_store.save(4, [("b", 0.6)], role=Role.SHADOW)
    assert [(row[0], row[5]) for row in model_store.short()] == [("a", "OPEN")]


def test_the_severity_that_an_output_names_is_the_events(model_store: ModelStore) -> None:
    model_store.save(0, [("a", 0.6)], severity="LOW")
    model_store.save(1, [("a", 0.6)], severity="MEDIUM")
    assert model_store.short()[0][4] == "MEDIUM"
    model_store.save(2, [("a", 0.55)], severity="CRITICAL")
    assert model_store.short()[0][4] == "MEDIUM"
    model_store.save(3, [("a", 0.6)], severity="no such")
    assert model_store.short()[0][4] == "HIGH"


def test_long_evidence_is_cut(model_store: ModelStore) -> None:
    model_store.save(0, [("a", 0.6)], text="æ" * DETAILS_BYTES)
    details = model_store.events()[0][9]
    assert set(details) == {"cut_from_bytes", "text"}
    assert len(str(details).encode()) < DETAILS_BYTES


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "detection_events.sql", ""])  # noqa: S108
def test_a_projection_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a name of a file of queries"):
        load_queries(name, "detection")


def test_a_projection_is_refreshed_in_the_same_transaction(
    model_store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from airflow_detection.store import queries

    (tmp_path / "queries").mkdir()
    for path in (queries.sql_root() / "queries").iterdir():
        (tmp_path / "queries" / path.name).write_text(path.read_text())
    (tmp_path / "queries" / "seen.sql").write_text(
        "-- name: refresh\ninsert into {schema}.seen select count(*) from {schema}.detection_events "
        "where model_id = %(model_id)s"
    )
    model_store.conn.execute("create table detection.seen (n int check (n < 2))")
    monkeypatch.setattr(queries, "sql_root", lambda: tmp_path)
    queries.load_queries.cache_clear()
    cycle = Cycle(cycle_id="sea", started_at=at(0), lookback=GAP)
    report = RunReport(
        version=model_store.version, outcome=Outcome.SUCCEEDED, started_at=at(0), projection="seen"
    )
    store = PostgresStore(model_store.conn, model_store.conn, "detection")
    store.save(MODEL, model_store.version, cycle, [({"mmsi": 1}, {"score": 1})], lambda _: (report, {}))
    assert model_store.conn.execute("select n from detection.seen").fetchall() == [(1,)]
    with pytest.raises(Exception, match="seen_n_check"):
        store.save(
            MODEL,
            model_store.version,
            cycle,
            [({"mmsi": n}, {"score": 1}) for n in "ab"],
            lambda _: (report, {}),
        )
    assert [row[0] for row in model_store.short()] == ["1"]
    queries.load_queries.cache_clear()


SCORES = st.sampled_from([None, 0.2, 0.5, 0.6, 0.7, 0.71, 0.9])
CYCLE_SCORES = st.lists(st.tuples(st.sampled_from("abc"), SCORES), max_size=4)
RUNS = st.lists(st.tuples(st.integers(0, 11), CYCLE_SCORES), min_size=1, max_size=20)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(runs=RUNS)
def test_any_order_of_cycles_and_reruns_gives_the_events_of_the_definition(
    model_store: ModelStore, runs: list[tuple[int, Scores]]
) -> None:
    model_store.clear()
    stored: dict[int, Scores] = {}
    for number, scores in runs:
        model_store.save(number, scores)
        stored[number] = scores
    assert [row[:9] for row in model_store.events()] == [
        row[:9] for row in expected(stored, model_store.version.version_id)
    ]


def test_writers_at_once_over_shuffled_cycles_leave_the_events_of_the_sequence(
    model_store: ModelStore, dsn: str
) -> None:
    chance = random.Random(7)
    stored = {
        n: [(e, chance.choice([0.3, 0.6, 0.8])) for e in "abcdefgh" if chance.random() < 0.5]
        for n in range(60)
    }
    wrong = {n: [(e, 0.9) for e in "abxyz"] for n in chance.sample(range(60), 20)}
    jobs = [(n, wrong.get(n, stored[n])) for n in stored]
    chance.shuffle(jobs)

    def write(numbered: tuple[int, Sequence[tuple[int, Scores]]]) -> None:
        with connect(make_conninfo(dsn, options="-c statement_timeout=60s")) as conn:
            for n, scores in numbered[1]:
                model_store.save(n, scores, conn)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, enumerate(jobs[i::8] for i in range(8))))
        list(pool.map(write, enumerate([(n, stored[n]) for n in sorted(wrong)][i::8] for i in range(8))))
    assert model_store.events() == expected(stored, model_store.version.version_id)


def test_an_ongoing_episode_stays_open_until_it_ends_and_is_one_event(model_store: ModelStore) -> None:
    """A ship that is silent for longer than its model tells, and heard again days later."""
    ongoing = {"episode": "2026-01-31T12:00:00+00:00", "is_ongoing": True}
    model_store.save(0, [("a", 0.6), ("b", 0.6)], **ongoing)
    for number in (4, 8, 60):
        model_store.save(number, [])
    assert [(row[0], row[5]) for row in model_store.events()] == [("a", "OPEN"), ("b", "OPEN")]
    model_store.save(100, [("a", 0.9)], **{**ongoing, "is_ongoing": False})
    model_store.save(101, [("b", 0.9)], episode="2026-02-01T12:00:00+00:00", is_ongoing=False)
    assert model_store.short()[0][:3] == ("a", 0, 100)
    assert [row[0] for row in model_store.events()] == ["a", "b", "b"], "another episode is another event"
    model_store.save(110, [])
    assert {row[0]: row[5] for row in model_store.events()}["a"] == "CLOSED"


def test_an_ongoing_episode_is_one_event_in_whatever_order_its_cycles_run(model_store: ModelStore) -> None:
    def save(number: int) -> None:
        is_ongoing = number < 100
        model_store.save(number, [("a", 0.6)] if number in (0, 1, 100) else [],
                         episode="x", is_ongoing=is_ongoing)  # fmt: skip

    for number in (0, 1, 50, 100, 110):
        save(number)
    expected = model_store.events()
    assert len(expected) == 1
    for number in (1, 0, 100, 50, 110):
        save(number)
    assert model_store.events() == expected


def events_of(model_store: ModelStore, events: Events) -> None:
    spec = replace(registry.model_specs(Database(model_store.conn, "detection"))[0], events=events)
    registry.put_model(Database(model_store.conn, "detection"), spec)


def test_a_models_own_threshold_and_severities_make_its_events(model_store: ModelStore) -> None:
    events_of(model_store, {"above": 0.4, "severity": {"MEDIUM": 0.45, "CRITICAL": 0.95}})
    scores = [("a", 0.41), ("b", 0.46), ("c", 0.6), ("d", 0.96), ("e", 0.4)]
    model_store.save(0, scores, severity="LOW")
    assert [(row[0], row[4]) for row in model_store.short()] == [
        ("a", "LOW"), ("b", "MEDIUM"), ("c", "HIGH"), ("d", "CRITICAL"),
    ]  # fmt: skip
    events_of(model_store, {"above": 0.8})
    model_store.save(9, [("a", 0.7), ("f", 0.81)], severity="MEDIUM")
    assert [(row[0], row[4]) for row in model_store.short() if row[1] == 9] == [("f", "MEDIUM")]


def test_a_model_without_events_opens_none_and_a_rerun_takes_back_what_it_had_opened(
    model_store: ModelStore,
) -> None:
    model_store.save(0, [("a", 0.9)])
    events_of(model_store, False)
    model_store.save(1, [("a", 0.9), ("b", 0.9)])
    assert [row[:3] for row in model_store.short()] == [("a", 0, 0)]
    model_store.save(5, [])
    assert [row[-1] for row in model_store.short()] == ["CLOSED"]
    model_store.save(0, [("a", 0.9)])
    assert model_store.short() == []


def test_a_rerun_under_a_higher_threshold_takes_back_what_is_no_sighting_any_more(
    model_store: ModelStore,
) -> None:
    model_store.save(0, [("a", 0.6), ("b", 0.9)])
    events_of(model_store, {"above": 0.8})
    model_store.save(0, [("a", 0.6), ("b", 0.9)])
    assert [row[0] for row in model_store.short()] == ["b"]
