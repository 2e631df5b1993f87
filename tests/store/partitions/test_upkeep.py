"""Upkeep beside other upkeep, writers, backfills and missing rights."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import re
import threading
from datetime import timedelta

import psycopg
import pytest
from tests.store.partition_schema import (
    METRICS,
    QUICK,
    Clock,
    PartitionSchema,
    assert_months,
    both_steps,
    label,
    month,
    now,
)

from airflow_detection.cli.partitions import apply_lines, plan_lines, recreate_lines
from airflow_detection.errors import ExpiredPartition, StorageError
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import period_of
from airflow_detection.store.partitions.create import create, ensure_cycle_months, ensure_month
from airflow_detection.store.partitions.plan import Action, ActionKind, Phase
from airflow_detection.store.partitions.upkeep import UpkeepReport, apply


@both_steps
def test_two_maintainers_at_once_do_the_work_once(schema: PartitionSchema) -> None:
    reports: list[UpkeepReport] = []
    gate = threading.Barrier(2)

    def one() -> None:
        with connect(schema.dsn) as conn:
            gate.wait()
            reports.append(apply(Database(conn, schema.name), Phase.ENSURE, now=now(), limits=QUICK))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(r.results) for r in reports) == 4
    assert_months(schema.partitions(), month(0), 4)


def test_a_run_beside_another_says_skipped_and_is_no_success(schema: PartitionSchema) -> None:
    with connect(schema.dsn) as other:
        schema.run(
            "select pg_advisory_lock(hashtext('detection retain'), hashtext(%s))", schema.name, conn=other
        )
        report = schema.upkeep(Phase.RETAIN)
    assert report.is_skipped
    assert not report.is_success
    assert report.lines() == ["skipped: another run holds the lock"]
    assert schema.log("action", "outcome") == [("retain", "skipped")]


@both_steps
@pytest.mark.parametrize("rounds", [12, pytest.param(200, marks=pytest.mark.long)])
def test_upkeep_beside_copy_never_deadlocks_and_loses_no_row(schema: PartitionSchema, rounds: int) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.policy(grace="0")
    schema.policy(retention="1 month" if Clock.step == "month" else "1 day")
    errors: list[str] = []
    stop, copied = threading.Event(), [0]

    def copy() -> None:
        statement = f"copy {schema.name}.{METRICS} from stdin"
        with connect(schema.dsn) as conn:
            while not stop.is_set():
                try:
                    with conn.transaction(), conn.cursor() as cursor:
                        schema.run(f"delete from @{METRICS} where model_id = 'none'", conn=conn)
                        with cursor.copy(statement) as target:
                            for n in range(100):
                                target.write_row(("m", 1, "PRIMARY", False, "k", n, now()))
                    copied[0] += 100
                except psycopg.Error as error:
                    errors.append(str(error))

    threads = [threading.Thread(target=copy) for _ in range(2)]
    for thread in threads:
        thread.start()
    failed = []
    try:
        for n in range(rounds):
            if n % 2:
                create(Database(schema.conn, schema.name), METRICS, (month(-40 - n), month(-39 - n)))
            else:
                schema.add_partition(month(-40 - n), month(-39 - n), f"old_{n}")
            failed += schema.upkeep(Phase.RETAIN).failed
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not [e for e in errors if "deadlock" in e]
    assert not errors
    assert not failed
    assert schema.run(f"select count(*) from @{METRICS}") == [(copied[0],)]


@both_steps
def test_a_backfill_into_a_month_that_never_existed_gets_it(schema: PartitionSchema) -> None:
    at = month(-50) + timedelta(hours=3)
    ensure_cycle_months(Database(schema.conn, schema.name), at)
    schema.insert(at)
    assert schema.partitions()[0].span == period_of(at, Clock.step)


@both_steps
@pytest.mark.parametrize("dropped", [False, True])
def test_a_backfill_into_an_expired_month_is_told_so_and_can_have_it_back(
    schema: PartitionSchema, dropped: bool  # noqa: FBT001
) -> None:  # fmt: skip
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(40)
    at = month(-40) + timedelta(hours=3)
    schema.insert(at)
    schema.upkeep(Phase.RETAIN)
    if dropped:
        schema.policy(grace="0")
        schema.upkeep(Phase.RETAIN)
    assert schema.table_exists("old_40") is not dropped
    with pytest.raises(ExpiredPartition, match="--recreate-expired"):
        ensure_month(Database(schema.conn, schema.name), METRICS, at)
    lines = recreate_lines(Database(schema.conn, schema.name), label(at))
    said = "is new and empty: no detached table has it" if dropped else "is back"
    assert lines[1] == f"{METRICS} {label(at)}: {said}"
    assert schema.run(f"select count(*) from @{METRICS}") == [(0 if dropped else 1,)]
    assert ensure_month(Database(schema.conn, schema.name), METRICS, at) is False
    assert [r.action.kind for r in schema.upkeep(Phase.RETAIN).results] == [ActionKind.KEEP]


def member(schema: PartitionSchema, *, owns: bool) -> str:
    """A connection string of a role that is no superuser."""
    role = f"{'owner' if owns else 'guest'}_of_{schema.name}"
    schema.run(
        f"create role {role} login password 'x'; grant usage, create on schema {schema.name} to {role}"
    )
    schema.run(f"grant all on all tables in schema {schema.name} to {role}")
    schema.run(f"grant all on all sequences in schema {schema.name} to {role}")
    if owns:
        for (name,) in schema.run(
            "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'p')",
            schema.name,
        ):
            schema.run(f"alter table @{name} owner to {role}")
    return psycopg.conninfo.make_conninfo(schema.dsn, user=role, password="x")  # noqa: S106


@both_steps
def test_an_owner_who_is_no_superuser_can_do_all_of_it(schema: PartitionSchema) -> None:
    schema.add_old_months(40)
    with connect(member(schema, owns=True)) as conn:
        assert conn.execute("show is_superuser").fetchone() == ("off",)
        assert apply(Database(conn, schema.name), Phase.ENSURE, now=now(), limits=QUICK).is_success
        assert apply(Database(conn, schema.name), Phase.RETAIN, now=now(), limits=QUICK).is_success
        schema.policy(grace="0")
        dropped = apply(Database(conn, schema.name), Phase.RETAIN, now=now(), limits=QUICK)
    assert [(r.action.kind, r.outcome) for r in dropped.results] == [(ActionKind.DROP, "done")]


@both_steps
def test_a_missing_privilege_fails_loudly_and_is_noted(schema: PartitionSchema) -> None:
    with connect(member(schema, owns=False)) as conn:
        report = apply(Database(conn, schema.name), Phase.ENSURE, now=now(), limits=QUICK)
    assert [r.outcome for r in report.results] == ["failed"] * 4
    assert re.search("SET ROLE|must be owner|permission", report.failed[0].details)
    assert report.alarms
    assert not schema.partitions()
    assert ("create", "failed") in schema.log("action", "outcome")


def test_a_read_only_database_is_refused(schema: PartitionSchema) -> None:
    with connect(schema.dsn) as conn:
        conn.execute("set default_transaction_read_only = on")
        with pytest.raises(StorageError, match="read-only"):
            apply(Database(conn, schema.name), Phase.ENSURE, now=now())


def test_inside_a_transaction_the_plain_path_is_taken_and_said(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(40)
    with schema.conn.transaction():
        report = schema.upkeep(Phase.RETAIN)
    assert [r.details for r in report.results] == ["in one step: the connection is in a transaction"]
    assert "old_40" not in schema.names()


@both_steps
def test_the_plan_is_what_the_run_does(schema: PartitionSchema) -> None:
    schema.policy(grace="0")
    schema.add_old_months(42)
    schema.add_partition(month(1), month(2), "next")
    schema.upkeep(Phase.RETAIN)
    schema.add_old_months(41, 40, 39)
    schema.run(
        "insert into @detection_partition_holds (covers, reason) values (tstzrange(%s, %s), 'audit')",
        month(-39), month(-38),
    )  # fmt: skip
    at, before = now(), (schema.names(), schema.log("action"))
    planned = plan_lines(Database(schema.conn, schema.name), now=at)
    assert (schema.names(), schema.log("action")) == before
    done, is_success = apply_lines(Database(schema.conn, schema.name), now=at)
    assert is_success
    assert [line.split(" -> ")[0] for line in done] == planned
    kinds = [line.split()[0] for line in planned]
    assert kinds == ["create"] * 3 + ["detach", "detach", "keep", "drop"]
    noted = [action for (action,) in schema.log("action")[len(before[1]) :]]
    assert noted == ["create"] * 3 + ["detach_started", "detach"] * 2 + ["drop"]


@both_steps
def test_headroom_below_half_raises_an_alarm(schema: PartitionSchema) -> None:
    schema.add_partition(month(0), month(1), "now")
    report = schema.upkeep(Phase.RETAIN)
    assert [a.kind for a in report.alarms] == [ActionKind.ALARM]
    assert ("alarm", "failed") in schema.log("action", "outcome")
    schema.upkeep(Phase.ENSURE)
    assert not schema.upkeep(Phase.RETAIN).alarms


def test_a_policy_for_a_table_that_is_not_partitioned_is_refused_and_harms_no_other(
    schema: PartitionSchema,
) -> None:
    schema.run("insert into @detection_partition_policies (table_name) values ('detection_events')")
    report = schema.upkeep(Phase.ENSURE)
    assert [str(r.action.kind) for r in report.results].count("create") == 4
    assert not report.is_success


def test_an_action_reads_well() -> None:
    action = Action(kind=ActionKind.DROP, table="t", partition="t_p2026_01", lower=month(0), upper=None)
    assert str(action) == f"drop     t_p2026_01 [{month(0):%Y-%m-%d}, -)"
