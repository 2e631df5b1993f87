"""Table partitions go when their bounds are old, in two phases, whoever is in the way."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from tests.store.partition_schema import (
    METRICS,
    WAITING,
    PartitionSchema,
    Writer,
    apply_ignoring_errors,
    both_steps,
    month,
    now,
    wait_for,
)

from airflow_detection.errors import StorageError
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.create import create
from airflow_detection.store.partitions.plan import ActionKind, Phase, UpkeepLimits, plan
from airflow_detection.store.partitions.upkeep import UpkeepReport, apply


@both_steps
def test_retention_detaches_first_and_drops_after_the_grace_period(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(30, 29, 3)
    first = schema.upkeep(Phase.RETAIN)
    assert [(r.action.kind, r.action.partition, r.outcome) for r in first.results] == [
        (ActionKind.DETACH, "old_30", "done"), (ActionKind.DETACH, "old_29", "done"),
    ]  # fmt: skip
    assert schema.names()[0] == "old_3"
    assert schema.table_exists("old_30")
    assert schema.upkeep(Phase.RETAIN) == UpkeepReport()
    schema.policy(grace="0")
    assert [r.action.kind for r in schema.upkeep(Phase.RETAIN).results] == [ActionKind.DROP, ActionKind.DROP]
    assert not schema.table_exists("old_30")
    assert schema.names()[0] == "old_3"


@pytest.mark.parametrize(("offset_s", "goes"), [(-1, False), (0, True), (1, True)])
def test_retention_ends_at_its_second(schema: PartitionSchema, offset_s: int, goes: bool) -> None:  # noqa: FBT001
    schema.policy(retention="13 months")
    schema.add_partition(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), "january")
    schema.add_partition(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), "later")
    at = datetime(2025, 3, 1, tzinfo=UTC) + timedelta(seconds=offset_s)
    actions = plan(Database(schema.conn, schema.name), now=at, phases=(Phase.RETAIN,))
    assert [a.partition for a in actions] == (["january"] if goes else [])


def test_a_wide_partition_stays_until_its_upper_bound_is_old(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_partition(month(-40), month(-24), "detection_model_metrics_p20200101")
    assert schema.upkeep(Phase.RETAIN) == UpkeepReport()
    schema.policy(retention="23 months")
    assert [r.action.kind for r in schema.upkeep(Phase.RETAIN).results] == [ActionKind.DETACH]


@pytest.mark.parametrize("days", [365, -365])
def test_a_clock_that_is_a_year_off_is_refused(schema: PartitionSchema, days: int) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(30)
    with pytest.raises(StorageError, match="nothing was done"):
        schema.upkeep(Phase.RETAIN, at=now() + timedelta(days=days))
    assert "old_30" in schema.names()


@both_steps
def test_a_run_takes_no_more_than_its_limit(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.policy(grace="0")
    schema.add_old_months(40, 39, 38, 37, 36)
    outcomes = [
        [r.action.kind for r in schema.upkeep(Phase.RETAIN, UpkeepLimits(max_drops=2)).results]
        for _ in range(3)
    ]
    assert outcomes[0] == [ActionKind.DETACH] * 2 + [ActionKind.KEEP] * 3
    assert outcomes[1] == [ActionKind.DETACH] * 2 + [ActionKind.KEEP] + [ActionKind.DROP] * 2
    assert outcomes[2] == [ActionKind.DETACH] + [ActionKind.DROP] * 2


@both_steps
@pytest.mark.parametrize("reason", ["hold", "challenger", "backfill", "made lately"])
def test_a_protected_month_is_kept_and_the_plan_says_why(schema: PartitionSchema, reason: str) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(31, 30)
    inside = month(-30) + timedelta(hours=9)
    if reason == "hold":
        schema.run(
            "insert into @detection_partition_holds (table_name, covers, reason) "
            "values (%s, tstzrange(%s, %s), 'hold')",
            METRICS, inside, inside + timedelta(hours=1),
        )  # fmt: skip
    elif reason == "challenger":
        schema.run(
            "insert into @detection_cycles (cycle_id, schedule, lookback, start_date) "
            "values ('c', '* * * * *', '1 h', now());"
            "insert into @detection_models (model_id, cycle_id, entrypoint) values ('m', 'c', 'x');"
            "insert into @detection_model_versions (model_id, version) values ('m', '1')"
        )
        schema.run(
            "insert into @detection_model_roles (version_id, model_id, model_no, role, valid, is_founding) "
            "values (1, 'm', 1, 'CHALLENGER', tstzrange(%s, null), true)",
            inside,
        )
    elif reason == "made lately":
        schema.run("drop table @old_30")
        create(Database(schema.conn, schema.name), METRICS, (month(-30), month(-29)), name="old_30")
    else:
        schema.run(
            "insert into @detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest) "
            "values ('backfill', %s, 'as_of', '{}', '')",
            inside,
        )
    results = schema.upkeep(Phase.RETAIN).results
    assert [(r.action.kind, r.action.partition) for r in results] == [
        (ActionKind.DETACH, "old_31"), (ActionKind.KEEP, "old_30"),
    ]  # fmt: skip
    assert reason in results[1].action.note
    assert schema.names()[0] == "old_30"


@both_steps
def test_the_last_table_partition_is_never_taken(schema: PartitionSchema) -> None:
    schema.add_old_months(40, 39)
    report = schema.upkeep(Phase.RETAIN)
    assert [(r.action.kind, r.action.note) for r in report.results] == [
        (ActionKind.DETACH, ""),
        (ActionKind.KEEP, "it is the last"),
    ]
    assert report.alarms
    assert not report.is_success


def test_a_table_that_others_refer_to_is_refused(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(40)
    schema.run(f"alter table @{METRICS} add primary key (model_id, cycle_started_at)")
    schema.run(f"create table @note (m varchar(64), t timestamptz, foreign key (m, t) references @{METRICS})")
    results = schema.upkeep(Phase.RETAIN).results
    assert [r.action.kind for r in results] == [ActionKind.REFUSE]
    assert "foreign key of" in results[0].details
    assert "old_40" in schema.names()
    assert schema.log("action", "outcome")[-1] == ("refuse", "skipped")


@both_steps
def test_a_view_on_a_retired_table_keeps_it(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.policy(grace="0")
    schema.add_old_months(40)
    schema.upkeep(Phase.RETAIN)
    schema.run("create view @looked_at as select * from @old_40")
    assert [r.outcome for r in schema.upkeep(Phase.RETAIN).results] == ["failed"]
    assert schema.table_exists("old_40")


@both_steps
def test_a_long_reader_stalls_no_writer_and_the_retry_succeeds(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.run(f"create table @spare partition of @{METRICS} default")  # the plain path: the exclusive lock
    schema.add_old_months(40)
    limits = UpkeepLimits(attempts=2, pause=timedelta(milliseconds=50))
    with connect(schema.dsn) as reader, Writer(schema, now()) as writer:
        with reader.transaction():
            schema.run(f"select count(*) from @{METRICS}", conn=reader)
            first = schema.upkeep(Phase.RETAIN, limits)
        second = schema.upkeep(Phase.RETAIN, limits)
    assert [r.outcome for r in first.failed] == ["failed"]
    assert "lock timeout" in first.failed[0].details
    assert [(r.outcome, r.details) for r in second.results] == [
        ("done", "in one step: the table has a default partition")
    ]
    assert writer.worst_s < 1
    assert writer.count > 3
    assert not writer.errors


@both_steps
def test_a_concurrent_detachment_that_was_killed_is_finalised_next_time(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.policy(grace="0")
    schema.add_old_months(40, 39)
    limits = UpkeepLimits(detach_wait=timedelta(seconds=30))
    with connect(schema.dsn) as reader, connect(schema.dsn) as victim:
        with reader.transaction():
            schema.run(f"select count(*) from @{METRICS}", conn=reader)
            pid = victim.info.backend_pid
            failure: list[BaseException] = []

            def killed() -> None:
                try:
                    apply(Database(victim, schema.name), Phase.RETAIN, now=now(), limits=limits)
                except Exception as error:
                    failure.append(error)

            thread = threading.Thread(target=killed)
            thread.start()
            wait_for(lambda: any(p.is_detaching for p in schema.partitions()))
            schema.run("select pg_terminate_backend(%s)", pid)
            thread.join()
        assert failure
    assert [p.name for p in schema.partitions() if p.is_detaching] == ["old_40"]
    report = schema.upkeep(Phase.RETAIN)
    assert [(r.action.kind, r.action.partition, r.outcome) for r in report.results] == [
        (ActionKind.FINALIZE, "old_40", "done"), (ActionKind.DETACH, "old_39", "done"),
    ]  # fmt: skip
    assert [(r.action.kind, r.outcome) for r in schema.upkeep(Phase.RETAIN).results] == [
        (ActionKind.DROP, "done")
    ] * 2


def test_an_interrupted_detachment_that_was_not_ours_is_finalised_and_never_dropped(
    schema: PartitionSchema,
) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.policy(grace="0")
    schema.add_old_months(3)
    with connect(schema.dsn) as reader, reader.transaction():
        schema.run(f"select count(*) from @{METRICS}", conn=reader)
        schema.run("set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            schema.run(f"alter table @{METRICS} detach partition @old_3 concurrently")
        schema.run("reset lock_timeout")
    assert [(r.action.kind, r.outcome) for r in schema.upkeep(Phase.RETAIN).results] == [
        (ActionKind.FINALIZE, "done")
    ]
    assert schema.upkeep(Phase.RETAIN) == UpkeepReport()
    assert schema.table_exists("old_3")


@both_steps
def test_a_maintainer_killed_between_detaching_and_noting_it_is_understood(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(40)
    oid = next(p.oid for p in schema.partitions() if p.name == "old_40")
    schema.run(
        "insert into @detection_maintenance_log "
        "(action, table_name, partition_name, bounds, outcome, details) values ('detach_started', %s, "
        "'old_40', tstzrange(%s, %s), 'done', jsonb_build_object('oid', %s::bigint))",
        METRICS, month(-40), month(-39), oid,
    )  # fmt: skip
    schema.run(f"alter table @{METRICS} detach partition @old_40 concurrently")
    assert [(r.action.kind, r.outcome) for r in schema.upkeep(Phase.RETAIN).results] == [
        (ActionKind.FINALIZE, "done")
    ]
    schema.policy(grace="0")
    assert [(r.action.kind, r.outcome) for r in schema.upkeep(Phase.RETAIN).results] == [
        (ActionKind.DROP, "done")
    ]


@both_steps
def test_a_maintainer_killed_between_detach_and_drop_leaves_a_table_for_the_next(
    schema: PartitionSchema,
) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.policy(grace="0")
    schema.add_old_months(40)
    schema.upkeep(Phase.RETAIN)
    with connect(schema.dsn) as blocker, connect(schema.dsn) as victim, blocker.transaction():
        schema.run("select count(*) from @old_40", conn=blocker)
        limits = UpkeepLimits(lock_timeout=timedelta(seconds=30))
        thread = threading.Thread(
            target=apply_ignoring_errors, args=(victim, schema.name, Phase.RETAIN, limits)
        )
        thread.start()
        wait_for(lambda: schema.run(WAITING, victim.info.backend_pid) == [(True,)])
        schema.run("select pg_terminate_backend(%s)", victim.info.backend_pid)
        thread.join()
    assert schema.table_exists("old_40")
    assert [(r.action.kind, r.outcome) for r in schema.upkeep(Phase.RETAIN).results] == [
        (ActionKind.DROP, "done")
    ]


@both_steps
def test_a_maintainer_killed_between_create_and_attach_leaves_nothing_behind(schema: PartitionSchema) -> None:
    schema.run(f"create table @spare partition of @{METRICS} default")
    before = schema.run("select count(*) from pg_class where relnamespace = %s::regnamespace", schema.name)
    with connect(schema.dsn) as blocker, connect(schema.dsn) as victim, blocker.transaction():
        schema.run("select count(*) from @spare", conn=blocker)
        limits = UpkeepLimits(lock_timeout=timedelta(seconds=30))
        thread = threading.Thread(
            target=apply_ignoring_errors, args=(victim, schema.name, Phase.ENSURE, limits)
        )
        thread.start()
        wait_for(lambda: schema.run(WAITING, victim.info.backend_pid) == [(True,)])
        schema.run("select pg_terminate_backend(%s)", victim.info.backend_pid)
        thread.join()
    after = schema.run("select count(*) from pg_class where relnamespace = %s::regnamespace", schema.name)
    assert after == before
    assert schema.upkeep(Phase.ENSURE).is_success
