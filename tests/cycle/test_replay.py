"""Replays of many past cycles: the rows of Airflow's own backfill, with a process for many cycles."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle import replay as replaying
from airflow_detection.cycle.replay import cycles_to_replay, replay, stretches
from airflow_detection.cycle.stretch_inputs import stretch_inputs
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import PlanError
from airflow_detection.store import comparisons
from airflow_detection.store.database import Database

QUERY = (
    "select id, at, doc, amount, name from seen where at >= :window_start and at < :window_end order by id"
)
CYCLES = [AT + n * timedelta(minutes=5) for n in range(6)]
SETTINGS = Settings(allowed_prefixes=("tests.cycle.test_replay",), inline_timeout_s=20)


class Echoes(BaseDetectionModel):
    """Returns its rows and its process; misbehaves in the cycle that `params.at` names."""

    def run(self, ctx: ModelContext) -> ModelResult:
        if ctx.params.get("at") == ctx.cycle.started_at.isoformat():
            MISBEHAVIOURS[ctx.params["behaviour"]]()
        rows = ctx.inputs.rows()
        outputs = [({}, {"id": str(row["id"]), "score": None, "row": repr(dict(row))}) for row in rows]
        return ModelResult(outputs_per_input=outputs, metrics={"pid": os.getpid()})


def raises() -> None:
    raise RuntimeError("out of luck")


def writes_much() -> None:
    Path("large").write_bytes(bytes(2**21))


def allocates_much() -> None:
    bytearray(2**28)


MISBEHAVIOURS = {
    "raise": raises,
    "exit": lambda: os._exit(3),
    "exit as if all were well": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(60),
    "write": writes_much,
    "allocate": allocates_much,
}


@pytest.fixture
def registered(database: Any) -> Database:
    """A cycle over a table with rows of each kind, and a model with a champion and another version."""
    database.execute(
        "create table detection.seen (id int, at timestamptz, doc jsonb, amount real, name text);"
        "create table detection.names (id int, kind text)"
    )
    database.execute(
        "insert into detection.seen select n, %s - n * interval '71 s', jsonb_build_object('n', array[n]), "
        "n / 7.0, nullif('ship ' || n, 'ship 3') from generate_series(-20, 60) n",
        [AT],
    )
    database.execute("insert into detection.seen values (0, null, null, null, null)")
    database.execute("insert into detection.names select n, 'tug' from generate_series(-20, 60) n")
    sample_registry.put_cycle(database, input_query=QUERY, time_key="at", lookback=timedelta(minutes=20))
    sample_registry.put_model(database, "m", entrypoint="tests.cycle.test_replay:Echoes")
    sample_registry.put_version(database, "m@1", Role.PRIMARY)
    sample_registry.put_version(database, "m@2")
    return Database(database, "detection")


@pytest.fixture
def db(registered: Database) -> Database:
    """Six cycles that the champion ran."""
    db = registered
    for at in CYCLES:
        planning.open_cycle(db, "fleet", at, mode=Mode.AS_OF)
        inline.run_inline(db, SETTINGS, "fleet", at, mode=Mode.AS_OF)
        closing.close_cycle(db, "fleet", at, mode=Mode.AS_OF, task_states={})
    return db


def replay_all(db: Database, label: str = "m@2", settings: Settings = SETTINGS) -> dict[datetime, Any]:
    return {r.at: r.report for r in replay(db, settings, "fleet", [label], CYCLES)}


def replay_each(db: Database, label: str) -> None:
    """As a run of the cycle's Dag in mode `override` does."""
    for at in CYCLES:
        opened = planning.open_cycle(db, "fleet", at, mode=Mode.OVERRIDE, replay=[label])
        inline.run_steps(db, SETTINGS, opened, opened.steps)
        closing.close_cycle(db, "fleet", at, mode=Mode.OVERRIDE, task_states={})


def stored(db: Database) -> list[Any]:
    """What the replays have left, but when and how long they ran."""
    manifests = db.conn.execute(
        "select cycle_started_at, role, outcome, input_count, input_digest, output_count, output_digest,"
        " features from detection.detection_model_runs where is_replay order by 1"
    ).fetchall()
    outputs = db.conn.execute(
        "select cycle_started_at, entity_id, input_ref, outputs, role"
        " from detection.detection_model_run_outputs where is_replay order by 1, 2, 4"
    ).fetchall()
    cycles = db.conn.execute(
        "select cycle_started_at, plan_digest, summary, closed_at is null from detection.detection_cycle_runs"
        " where mode = 'override' order by 1"
    ).fetchall()
    return [manifests, outputs, cycles]


def processes(db: Database) -> set[float]:
    rows = db.conn.execute(
        "select metric_value from detection.detection_model_metrics where is_replay and metric_key = 'pid'"
    )
    return {pid for (pid,) in rows}


def set_query(db: Database, query: str) -> None:
    """Change what the cycles read, as if it had been so when they ran."""
    with db.conn.transaction():
        db.conn.execute("set local session_replication_role = replica")  # the history is append-only
        db.conn.execute("update detection.detection_cycle_settings set input_query = %s", [query])


def is_read_at_once(db: Database) -> bool:
    opened = [planning.open_cycle(db, "fleet", at, mode=Mode.OVERRIDE, replay=["m@2"]) for at in CYCLES]
    return stretch_inputs(db, opened) is not None


def test_a_replay_of_many_cycles_leaves_what_a_run_of_each_leaves(db: Database) -> None:
    replay_each(db, "m@2")
    one_by_one = stored(db)
    assert len(processes(db)) == len(CYCLES)
    assert is_read_at_once(db)
    reports = replay_all(db)
    assert [r.outcome for r in reports.values()] == [Outcome.SUCCEEDED] * len(CYCLES)
    assert list(reports) == CYCLES
    assert len(processes(db)) == 1
    assert stored(db) == one_by_one
    assert len({row[4] for row in one_by_one[0]}) == len(CYCLES)  # no two windows have the same rows


@pytest.mark.parametrize(
    "query",
    [
        QUERY.replace("at,", "extract(epoch from at)::float8 as at,", 1),
        QUERY.replace("order by id", "and name is not null and amount > -1 order by at desc, id"),
        QUERY.replace(":window_end", ":cycle_started_at"),
        QUERY.replace("from seen", "from (select * from seen where id > -10) s"),
    ],
)
def test_rows_of_a_window_are_taken_from_those_of_a_longer_one(db: Database, query: str) -> None:
    set_query(db, query)
    assert is_read_at_once(db)
    replay_each(db, "m@2")
    one_by_one = stored(db)
    replay_all(db)
    assert stored(db) == one_by_one


@pytest.mark.parametrize(
    "query",
    [
        QUERY.replace("name", "count(*) over () as name"),
        QUERY + " limit 3",
        QUERY.replace(" order by id", ""),
        QUERY.replace("order by id", "order by random()"),
        QUERY.replace("name", "(:window_end - at)::text as name"),
        QUERY.replace("name", "(select max(id) from seen)::text as name"),
        QUERY.replace("at >= :window_start", "at > :window_start"),
        QUERY.replace("at < :window_end", "at <= :window_end"),
        QUERY.replace("at <", "at + interval '1 min' <"),
        QUERY.replace("at < :window_end", "(at < :window_end or id = 1)"),
        QUERY.replace(":window_end", ":window_end - interval '1 min'"),
        QUERY.replace("at,", "at + interval '1 s' as at,", 1),
        QUERY.replace("at,", "date_trunc('minute', at) as at,", 1),
        QUERY.replace("select", "select distinct"),
        QUERY.replace("from seen", "from seen join names using (id)"),
        QUERY.replace("and at < :window_end", "and at < timestamptz '2100-01-01Z'"),
        QUERY.replace("from seen", "from (select * from seen offset 0) s"),
    ],
)
def test_rows_that_depend_on_others_or_on_more_than_the_window_are_read_cycle_by_cycle(
    registered: Database, query: str
) -> None:
    set_query(registered, query)
    assert not is_read_at_once(registered)


def test_rows_that_are_read_cycle_by_cycle_are_those_of_a_run_of_each(db: Database) -> None:
    set_query(db, QUERY.replace("name", "count(*) over ()::text as name"))
    assert not is_read_at_once(db)
    replay_each(db, "m@2")
    one_by_one = stored(db)
    replay_all(db)
    assert stored(db) == one_by_one
    assert len(processes(db)) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason", "process_count"),
    [
        ("raise", "RuntimeError: out of luck", 1),
        ("exit", "exited with status 3", 2),
        ("exit as if all were well", "exited with status 0", 2),
        ("kill", "ended by SIGKILL", 2),
        ("hang", "had not ended after 3 s", 2),
        ("write", "it may write 1 MiB", 1),
        ("allocate", "it may allocate 64 MiB", 1),
    ],
)
def test_a_cycle_in_which_a_version_fails_leaves_the_others_their_results(
    db: Database, behaviour: str, reason: str, process_count: int
) -> None:
    sample_registry.put_version(db.conn, "m@3", behaviour=behaviour, at=CYCLES[2].isoformat())
    limits = {"execution_timeout": 3, "memory_limit": 64, "disk_limit": 1}
    sample_registry.put_model(db.conn, "m", entrypoint="tests.cycle.test_replay:Echoes", task_options=limits)
    reports = replay_all(db, "m@3")
    failed = {at: report.error for at, report in reports.items() if report.outcome is not Outcome.SUCCEEDED}
    assert list(failed) == [CYCLES[2]]
    assert reason in str(failed[CYCLES[2]])
    assert len(processes(db)) == process_count
    manifests, outputs, _ = stored(db)
    assert [row[2] for row in manifests].count("FAILED") == 1
    assert {row[0] for row in outputs} == set(CYCLES) - {CYCLES[2]}


class WaitsForTheEarlier(BaseDetectionModel):
    """Waits until the result of the cycle before is stored."""

    def run(self, ctx: ModelContext) -> ModelResult:
        assert ctx.database
        before = {"at": ctx.cycle.started_at - timedelta(minutes=5), "first": CYCLES[0]}
        query = "select 1 as n from detection.detection_model_runs where is_replay and cycle_started_at = :at"
        until = time.monotonic() + 10
        while before["at"] >= before["first"] and not len(ctx.database.query(query, before)):
            if time.monotonic() > until:
                raise RuntimeError("the result of the cycle before is not stored")
            time.sleep(0.05)
        return ModelResult(outputs_per_input=[({}, {"id": "a", "score": None})])


def test_a_result_is_stored_while_its_process_is_at_the_next_cycle(db: Database) -> None:
    waits = "tests.cycle.test_replay:WaitsForTheEarlier"
    sample_registry.put_version(db.conn, "m@3", entrypoint=waits)
    reports = replay_all(db, "m@3")
    assert [report.error for report in reports.values()] == [None] * len(CYCLES)


def test_what_has_its_replay_is_left_out_when_it_goes_on(db: Database) -> None:
    span = {"start": CYCLES[0], "end": CYCLES[-1] + timedelta(minutes=5)}
    assert cycles_to_replay(db, "fleet", ["m@2"], **span) == (CYCLES, 6)
    for _ in replay(db, SETTINGS, "fleet", ["m@2"], CYCLES[:2]):
        pass
    assert cycles_to_replay(db, "fleet", ["m@2"], **span) == (CYCLES[2:], 6)
    assert cycles_to_replay(db, "fleet", ["m@2", "m@1"], **span) == (CYCLES, 6)
    assert cycles_to_replay(db, "fleet", ["m@2"], **span, again=True) == (CYCLES, 6)
    replaying_on = replay(db, SETTINGS, "fleet", ["m@2"], CYCLES[2:])
    next(replaying_on)
    assert cycles_to_replay(db, "fleet", ["m@2"], **span) == (CYCLES[2:], 6), "the cycles are not closed"
    ids = dict(
        db.conn.execute("select version, version_id from detection.detection_model_versions").fetchall()
    )
    pair = {"version_id": ids["2"], "champion_id": ids["1"], "latest": 5}
    assert comparisons.cycles_to_replay(db, "fleet", **pair) == (CYCLES[2:], 5)
    assert len(list(replaying_on)) == 3
    assert comparisons.cycles_to_replay(db, "fleet", **pair) == ([], 5)
    assert cycles_to_replay(db, "fleet", ["m@2"], **span) == ([], 6)
    later = {"start": CYCLES[-1] + timedelta(minutes=5), "end": CYCLES[-1] + timedelta(days=1)}
    assert cycles_to_replay(db, "fleet", ["m@2"], **later) == ([], 0)
    with pytest.raises(PlanError, match="'m@4' is not registered"):
        cycles_to_replay(db, "fleet", ["m@4"], **span)


def test_cycles_without_a_champion_are_skipped_with_the_reason(db: Database) -> None:
    db.conn.execute(
        "update detection.detection_model_runs set outcome = 'FAILED' where cycle_started_at = %s",
        [CYCLES[1]],
    )
    sample_registry.put_model(db.conn, "n", ("m",), entrypoint="tests.cycle.test_replay:Echoes")
    sample_registry.put_version(db.conn, "n@1")
    reports = replay_all(db, "n@1")
    assert [at for at, report in reports.items() if report.outcome is Outcome.SKIPPED] == [CYCLES[1]]
    assert "the champion of 'm' has no result in this cycle" in str(reports[CYCLES[1]].error)


def test_stretches_are_bounded_in_cycles_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cycles = [AT + n * timedelta(minutes=5) for n in range(100)]
    assert [len(s) for s in stretches(cycles, timedelta(hours=9))] == [48, 48, 4]
    assert {len(s) for s in stretches(cycles[:52], timedelta(hours=1))} == {37, 15}
    assert [len(s) for s in stretches(cycles[:3], timedelta(minutes=1))] == [1, 1, 1]
    assert [at for stretch in stretches(cycles, timedelta(hours=1)) for at in stretch] == cycles
    assert replaying.MAX_CYCLES == 48
