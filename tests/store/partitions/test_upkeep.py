"""Upkeep beside other upkeep, writers, backfills and missing rights."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import re
import threading
from datetime import timedelta

import psycopg
import pytest
from tests.store.partition_schema import METRICS, QUICK, PartitionSchema, assert_months, month, now

from airflow_detection.cli.partitions import apply_lines, plan_lines, recreate_lines
from airflow_detection.errors import ExpiredPartition, StorageError
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import month_of
from airflow_detection.store.partitions.create import create, ensure_cycle_months, ensure_month
from airflow_detection.store.partitions.plan import Action, ActionKind, Phase
from airflow_detection.store.partitions.upkeep import UpkeepReport, apply


def test_two_maintainers_at_once_do_the_work_once(place: PartitionSchema) -> None:
    reports: list[UpkeepReport] = []
    gate = threading.Barrier(2)

    def one() -> None:
        with connect(place.dsn) as conn:
            gate.wait()
            reports.append(apply(Database(conn, place.schema), Phase.ENSURE, now=now(), limits=QUICK))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(r.results) for r in reports) == 4
    assert_months(place.parts(), month(0), 4)


def test_a_run_beside_another_says_skipped_and_is_no_success(place: PartitionSchema) -> None:
    with connect(place.dsn) as other:
        place.run(
            "select pg_advisory_lock(hashtext('detection retain'), hashtext(%s))", place.schema, conn=other
        )
        report = place.keep(Phase.RETAIN)
    assert report.is_skipped
    assert not report.is_success
    assert report.lines() == ["skipped: another run holds the lock"]
    assert place.log("action", "outcome") == [("retain", "skipped")]


@pytest.mark.parametrize("rounds", [12, pytest.param(200, marks=pytest.mark.long)])
def test_upkeep_beside_copy_never_deadlocks_and_loses_no_row(place: PartitionSchema, rounds: int) -> None:
    place.keep(Phase.ENSURE)
    place.policy(grace="0")
    place.policy(retention="1 month")
    errors: list[str] = []
    stop, copied = threading.Event(), [0]

    def copy() -> None:
        statement = f"copy {place.schema}.{METRICS} from stdin"
        with connect(place.dsn) as conn:
            while not stop.is_set():
                try:
                    with conn.transaction(), conn.cursor() as cursor:
                        place.run(f"delete from @{METRICS} where model_id = 'none'", conn=conn)
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
                create(Database(place.conn, place.schema), METRICS, (month(-40 - n), month(-39 - n)))
            else:
                place.part(month(-40 - n), month(-39 - n), f"old_{n}")
            failed += place.keep(Phase.RETAIN).failed
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not [e for e in errors if "deadlock" in e]
    assert not errors
    assert not failed
    assert place.run(f"select count(*) from @{METRICS}") == [(copied[0],)]


def test_a_backfill_into_a_month_that_never_existed_gets_it(place: PartitionSchema) -> None:
    at = month(-50) + timedelta(days=3)
    ensure_cycle_months(Database(place.conn, place.schema), at)
    place.row(at)
    assert place.parts()[0].span == month_of(at)


@pytest.mark.parametrize("dropped", [False, True])
def test_a_backfill_into_an_expired_month_is_told_so_and_can_have_it_back(
    place: PartitionSchema, dropped: bool  # noqa: FBT001
) -> None:  # fmt: skip
    place.keep(Phase.ENSURE)
    place.old(40)
    at = month(-40) + timedelta(days=3)
    place.row(at)
    place.keep(Phase.RETAIN)
    if dropped:
        place.policy(grace="0")
        place.keep(Phase.RETAIN)
    assert place.stands("old_40") is not dropped
    with pytest.raises(ExpiredPartition, match="--recreate-expired"):
        ensure_month(Database(place.conn, place.schema), METRICS, at)
    lines = recreate_lines(Database(place.conn, place.schema), f"{at:%Y-%m}")
    assert lines[1] == f"{METRICS} {at:%Y-%m}: is back"
    assert place.run(f"select count(*) from @{METRICS}") == [(0 if dropped else 1,)]
    assert ensure_month(Database(place.conn, place.schema), METRICS, at) is False
    assert [r.action.kind for r in place.keep(Phase.RETAIN).results] == [ActionKind.KEEP]


def member(place: PartitionSchema, *, owns: bool) -> str:
    """A connection string of a role that is no superuser."""
    role = f"{'owner' if owns else 'guest'}_of_{place.schema}"
    place.run(
        f"create role {role} login password 'x'; grant usage, create on schema {place.schema} to {role}"
    )
    place.run(f"grant all on all tables in schema {place.schema} to {role}")
    place.run(f"grant all on all sequences in schema {place.schema} to {role}")
    if owns:
        for (name,) in place.run(
            "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'p')",
            place.schema,
        ):
            place.run(f"alter table @{name} owner to {role}")
    return psycopg.conninfo.make_conninfo(place.dsn, user=role, password="x")  # noqa: S106


def test_an_owner_who_is_no_superuser_can_do_all_of_it(place: PartitionSchema) -> None:
    place.old(40)
    with connect(member(place, owns=True)) as conn:
        assert conn.execute("show is_superuser").fetchone() == ("off",)
        assert apply(Database(conn, place.schema), Phase.ENSURE, now=now(), limits=QUICK).is_success
        assert apply(Database(conn, place.schema), Phase.RETAIN, now=now(), limits=QUICK).is_success
        place.policy(grace="0")
        dropped = apply(Database(conn, place.schema), Phase.RETAIN, now=now(), limits=QUICK)
    assert [(r.action.kind, r.outcome) for r in dropped.results] == [(ActionKind.DROP, "done")]


def test_a_missing_privilege_fails_loudly_and_is_noted(place: PartitionSchema) -> None:
    with connect(member(place, owns=False)) as conn:
        report = apply(Database(conn, place.schema), Phase.ENSURE, now=now(), limits=QUICK)
    assert [r.outcome for r in report.results] == ["failed"] * 4
    assert re.search("SET ROLE|must be owner|permission", report.failed[0].fact)
    assert report.alarms
    assert not place.parts()
    assert ("create", "failed") in place.log("action", "outcome")


def test_a_read_only_database_is_refused(place: PartitionSchema) -> None:
    with connect(place.dsn) as conn:
        conn.execute("set default_transaction_read_only = on")
        with pytest.raises(StorageError, match="read-only"):
            apply(Database(conn, place.schema), Phase.ENSURE, now=now())


def test_inside_a_transaction_the_plain_path_is_taken_and_said(place: PartitionSchema) -> None:
    place.keep(Phase.ENSURE)
    place.old(40)
    with place.conn.transaction():
        report = place.keep(Phase.RETAIN)
    assert [r.fact for r in report.results] == ["in one step: the connection is in a transaction"]
    assert "old_40" not in place.names()


def test_the_plan_is_what_the_run_does(place: PartitionSchema) -> None:
    place.policy(grace="0")
    place.old(42)
    place.part(month(1), month(2), "next")
    place.keep(Phase.RETAIN)
    place.old(41, 40, 39)
    place.run(
        "insert into @detection_partition_holds (covers, reason) values (tstzrange(%s, %s), 'audit')",
        month(-39), month(-38),
    )  # fmt: skip
    at, before = now(), (place.names(), place.log("action"))
    told = plan_lines(Database(place.conn, place.schema), now=at)
    assert (place.names(), place.log("action")) == before
    done, is_success = apply_lines(Database(place.conn, place.schema), now=at)
    assert is_success
    assert [line.split(" -> ")[0] for line in done] == told
    kinds = [line.split()[0] for line in told]
    assert kinds == ["create"] * 3 + ["detach", "detach", "keep", "drop"]
    noted = [action for (action,) in place.log("action")[len(before[1]) :]]
    assert noted == ["create"] * 3 + ["detach_started", "detach"] * 2 + ["drop"]


def test_headroom_below_half_raises_an_alarm(place: PartitionSchema) -> None:
    place.part(month(0), month(1), "now")
    report = place.keep(Phase.RETAIN)
    assert [a.kind for a in report.alarms] == [ActionKind.ALARM]
    assert ("alarm", "failed") in place.log("action", "outcome")
    place.keep(Phase.ENSURE)
    assert not place.keep(Phase.RETAIN).alarms


def test_a_policy_for_a_table_that_is_not_partitioned_is_refused_and_harms_no_other(
    place: PartitionSchema,
) -> None:
    place.run("insert into @detection_partition_policies (table_name) values ('detection_events')")
    report = place.keep(Phase.ENSURE)
    assert [str(r.action.kind) for r in report.results].count("create") == 4
    assert not report.is_success


def test_an_action_reads_well() -> None:
    action = Action(kind=ActionKind.DROP, table="t", partition="t_p2026_01", lower=month(0), upper=None)
    assert str(action) == f"drop     t_p2026_01 [{month(0):%Y-%m-%d}, -)"
