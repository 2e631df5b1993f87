"""An index of entity and time on every table partition where the policy wants it, made beside writers."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from tests.store.partition_schema import QUICK, PartitionSchema, apply_ignoring_errors, month, now, wait_for
from tests.store.servers import pooler

from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import entity_indexes, read_table
from airflow_detection.store.partitions.plan import ActionKind, Phase, plan
from airflow_detection.store.partitions.upkeep import UpkeepReport, apply

OUTPUTS = "detection_model_run_outputs"
ENDED = "select not exists (select from pg_stat_activity where pid = %s)"
ROWS = f"""
insert into @{OUTPUTS} (cycle_started_at, model_id, version_id, role, entity_id, score, input_ref, outputs)
select %s::timestamptz + n / 500 * interval '5 minutes', 'spoofing', 1, 'PRIMARY', 'e' || n %% 500,
       (n %% 100) / 400.0, '{{}}', '{{}}' from generate_series(0, %s::int - 1) n
"""


@pytest.fixture
def outputs(schema: PartitionSchema) -> PartitionSchema:
    """The outputs with months from the one before the last to three ahead, and rows in the last."""
    schema.run("delete from @detection_partition_policies")
    schema.run("insert into @detection_partition_policies (table_name) values (%s)", OUTPUTS)
    for age in (2, 1):
        schema.add_partition(month(-age), month(1 - age), f"old_{age}", OUTPUTS)
    schema.run(ROWS, month(-1), 5_000)
    schema.upkeep(Phase.ENSURE)
    return schema


def want(schema: PartitionSchema) -> None:
    schema.run("update @detection_partition_policies set entity_index = true")


def lacking(schema: PartitionSchema) -> list[str]:
    db = Database(schema.conn, schema.name)
    table = read_table(db, OUTPUTS)
    done = {r["oid"]: r["is_done"] for r in entity_indexes(db, table)}
    return [p.name for p in table.partitions if not done[p.oid]]


def outcomes(report: UpkeepReport) -> list[tuple[ActionKind, str | None, str]]:
    return [(r.action.kind, r.action.partition, r.outcome) for r in report.results]


def test_every_leaf_gets_it_and_new_ones_have_it_from_the_start(outputs: PartitionSchema) -> None:
    assert outputs.upkeep(Phase.ENSURE).results == ()
    want(outputs)
    names = outputs.names(OUTPUTS)
    limits = replace(QUICK, max_indexes=4)
    planned = [str(a) for a in plan(Database(outputs.conn, outputs.name), now=now(), limits=limits)]
    first = outputs.upkeep(Phase.ENSURE, limits)
    assert [str(r.action) for r in first.results] == planned
    assert planned[-1].endswith(": of entities; 2 more in later runs")
    assert outcomes(first) == [
        (ActionKind.INDEX, None, "done"),
        *((ActionKind.INDEX, name, "done") for name in names[:1:-1]),
    ]
    assert lacking(outputs) == names[:2]
    outputs.run("update @detection_partition_policies set ahead = '4 months'")
    second = outputs.upkeep(Phase.ENSURE)
    assert sorted(kind for kind, *_ in outcomes(second)) == ["create", "index", "index"]
    assert second.is_success
    assert lacking(outputs) == []
    assert outputs.upkeep(Phase.ENSURE) == UpkeepReport()
    valid = outputs.run(
        f"select indisvalid from pg_index where indexrelid = '@{OUTPUTS}_by_entity'::regclass"
    )
    assert valid == [(True,)]


def test_it_is_made_beside_writers_who_wait_for_nothing(outputs: PartitionSchema) -> None:
    want(outputs)
    stop, errors, worst = threading.Event(), [], [timedelta()]

    def write() -> None:
        with connect(outputs.dsn) as conn:
            while not stop.is_set():
                began = now()
                try:
                    outputs.run(ROWS, month(-1), 100, conn=conn)
                except psycopg.Error as error:
                    errors.append(error)
                worst[0] = max(worst[0], now() - began)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        report = outputs.upkeep(Phase.ENSURE)
    finally:
        stop.set()
        thread.join()
    assert report.is_success, report.lines()
    assert not errors
    assert worst[0] < timedelta(seconds=2)
    assert lacking(outputs) == []


def test_what_a_killed_run_left_behind_is_dropped_and_made_anew(outputs: PartitionSchema) -> None:
    want(outputs)
    with connect(outputs.dsn) as blocker, connect(outputs.dsn) as victim:
        pid = victim.info.backend_pid
        with blocker.transaction():
            outputs.run(ROWS, month(-1), 1, conn=blocker)
            limits = replace(QUICK, lock_timeout=timedelta(seconds=30))
            thread = threading.Thread(
                target=apply_ignoring_errors, args=(victim, outputs.name, Phase.ENSURE, limits)
            )
            outputs.run(
                f"create index by_hand on only @{OUTPUTS} (entity_id, cycle_started_at)", conn=blocker
            )
        with blocker.transaction():
            outputs.run(ROWS, month(-1), 1, conn=blocker)
            thread.start()
            wait_for(lambda: lacking(outputs)[-1:] == ["old_1"] and outputs.run(
                "select exists (select from pg_index where indrelid = '@old_1'::regclass and not indisvalid)"
            ) == [(True,)])  # fmt: skip
            outputs.run("select pg_terminate_backend(%s)", pid)
            thread.join()
            wait_for(lambda: outputs.run(ENDED, pid) == [(True,)])
    assert lacking(outputs) == ["old_2", "old_1"]
    report = outputs.upkeep(Phase.ENSURE)
    assert report.is_success, report.lines()
    assert lacking(outputs) == []
    assert outputs.run(
        "select count(*) from pg_index where not indisvalid and indrelid = '@old_1'::regclass"
    ) == [(0,)]


def test_a_complete_index_that_was_not_attached_is_attached_as_it_is(outputs: PartitionSchema) -> None:
    outputs.run("create index mine on @old_1 (entity_id, cycle_started_at)")
    (oid,) = outputs.run("select '@mine'::regclass::oid")[0]
    want(outputs)
    assert outputs.upkeep(Phase.ENSURE).is_success
    assert outputs.run("select count(*) from pg_inherits where inhrelid = %s", oid) == [(1,)]
    whole = "indrelid = '@old_1'::regclass and indnatts = 2 and indpred is null"
    assert outputs.run(f"select count(*) from pg_index where {whole}") == [(1,)]


def test_in_a_transaction_it_fails_with_the_reason(outputs: PartitionSchema) -> None:
    want(outputs)
    with outputs.conn.transaction():
        report = outputs.upkeep(Phase.ENSURE)
    assert {r.details for r in report.failed} == {
        "the connection is in a transaction: an index cannot be made concurrently"
    }
    assert outputs.upkeep(Phase.ENSURE).is_success


def test_behind_a_pooler_it_is_made_too(outputs: PartitionSchema) -> None:
    want(outputs)
    with pooler(outputs.dsn) as dsn, connect(dsn) as conn:
        assert apply(Database(conn, outputs.name), Phase.ENSURE, now=now(), limits=QUICK).is_success
    assert lacking(outputs) == []


def test_a_month_that_comes_back_has_it(outputs: PartitionSchema) -> None:
    outputs.run("update @detection_partition_policies set retention = '1 month'")
    outputs.add_partition(month(-40), month(-39), "old_40", OUTPUTS)
    assert outputs.upkeep(Phase.RETAIN).is_success
    want(outputs)
    outputs.upkeep(Phase.ENSURE)
    from airflow_detection.store.partitions.create import ensure_month

    assert ensure_month(Database(outputs.conn, outputs.name), OUTPUTS, month(-40), recreate_expired=True)
    assert "old_40" in outputs.names(OUTPUTS)
    assert lacking(outputs) == []


def test_a_table_without_entities_is_refused_with_a_sentence(schema: PartitionSchema) -> None:
    with pytest.raises(
        psycopg.errors.CheckViolation,
        match="entity_index of detection_model_metrics is true: must be a table with",
    ):
        want(schema)


def test_an_entitys_history_is_read_through_it(outputs: PartitionSchema) -> None:
    """The page's query of scores at or below 0.3, and a plain one, touch the entity's own rows alone."""
    outputs.run(ROWS, month(-1), 100_000)
    want(outputs)
    assert outputs.upkeep(Phase.ENSURE).is_success
    outputs.run("vacuum analyze @old_1")
    queries = Database(outputs.conn, outputs.name).queries("pages")
    outputs.run(
        "insert into @detection_cycles (cycle_id, schedule, lookback, start_date) "
        "values ('sea', '* * * * *', '1 h', now());"
        "insert into @detection_models (model_id, cycle_id, entrypoint) values ('spoofing', 'sea', 'x');"
        "insert into @detection_model_versions (model_id, version) values ('spoofing', '1')"
    )
    outputs.run(
        "insert into @detection_model_runs (cycle_id, cycle_started_at, version_id, is_replay, model_id,"
        " role, outcome, attempt, started_at, duration_ms, params_digest, code_version)"
        " select 'sea', %s::timestamptz + n * interval '5 minutes', 1, false, 'spoofing', 'PRIMARY',"
        " 'SUCCEEDED', 1, now(), 1, '', '' from generate_series(0, 199) n", month(-1),
    )  # fmt: skip
    outputs.run("analyze @detection_model_runs")
    params = {
        "entity_id": "e7", "model_ids": ["spoofing"], "start": month(-1), "end": month(0), "limit": 1000,
        "complete_from": month(-1),
    }  # fmt: skip
    explained = outputs.conn.execute(
        b"explain (format json) " + queries["entity_outputs"].as_bytes(None), params
    )
    assert "old_1_by_entity" in json.dumps(explained.fetchall())
    plain = outputs.run(
        f"explain (format json) select * from @{OUTPUTS} where entity_id = 'e7' and cycle_started_at >= %s"
        " and model_id = 'spoofing' order by cycle_started_at",
        month(-1),
    )
    assert "old_1_by_entity" in json.dumps(plain)
    assert "Seq Scan on old_1" not in json.dumps(plain)
