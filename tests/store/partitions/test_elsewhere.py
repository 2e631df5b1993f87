"""Upkeep where it finds another server than it is used to: a pooler, a standby, another tablespace."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from tests.store.partition_schema import (
    METRICS,
    QUICK,
    WAITING,
    PartitionSchema,
    assert_months,
    both_steps,
    label,
    month,
    now,
    wait_for,
)
from tests.store.servers import pooler, standby

from airflow_detection.errors import StorageError
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.plan import ActionKind, Phase, plan
from airflow_detection.store.partitions.upkeep import UpkeepReport, apply

REASON = "a pooler stands before the database"


@pytest.fixture(scope="module")
def pooled(upkeep_dsn: str) -> Iterator[str]:
    """Connection string of the same database behind a pooler in transaction mode."""
    with pooler(upkeep_dsn) as dsn:
        yield dsn


def _through(pooled: str, schema: PartitionSchema, phase: Phase) -> UpkeepReport:
    with connect(pooled) as conn:
        return apply(Database(conn, schema.name), phase, now=now(), limits=QUICK)


@both_steps
def test_behind_a_pooler_all_of_it_works_and_the_plain_path_is_said(
    pooled: str, schema: PartitionSchema
) -> None:
    for _ in range(3):
        assert _through(pooled, schema, Phase.ENSURE).is_success
    assert_months(schema.partitions(), month(0), 4)
    schema.add_old_months(*range(40, 48))
    report = _through(pooled, schema, Phase.RETAIN)
    assert [(r.outcome, r.details) for r in report.results] == [("done", f"in one step: {REASON}")] * 8
    assert schema.run(
        "select distinct details ->> 'path', details ->> 'reason' from @detection_maintenance_log "
        "where action = 'detach'"
    ) == [("plain", REASON)]
    schema.policy(grace="0")
    assert [r.action.kind for r in _through(pooled, schema, Phase.RETAIN).results] == [ActionKind.DROP] * 8
    assert not schema.table_exists("old_40")
    assert schema.run("select count(*) from pg_locks where locktype = 'advisory'") == [(0,)]


def test_behind_a_pooler_two_runs_at_once_do_the_work_once(pooled: str, schema: PartitionSchema) -> None:
    reports: list[UpkeepReport] = []
    gate = threading.Barrier(4)

    def one() -> None:
        gate.wait()
        reports.append(_through(pooled, schema, Phase.ENSURE))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(r.results) for r in reports) == 4
    assert_months(schema.partitions(), month(0), 4)
    actions = [action for (action,) in schema.log("action") if action.startswith("ensure_")]
    assert actions == ["ensure_begun", "ensure_ended"] * (len(actions) // 2)


def test_behind_a_pooler_a_run_beside_another_is_skipped_until_its_lease_ends(
    pooled: str, schema: PartitionSchema
) -> None:
    schema.run("insert into @detection_maintenance_log (action, outcome) values ('ensure_begun', 'done')")
    assert _through(pooled, schema, Phase.ENSURE).is_skipped
    assert not _through(pooled, schema, Phase.RETAIN).is_skipped
    assert not schema.partitions()
    schema.run(
        "update @detection_maintenance_log set logged_at = logged_at - %s where action = 'ensure_begun'",
        QUICK.lease,
    )
    assert _through(pooled, schema, Phase.ENSURE).is_success


def test_behind_a_pooler_a_run_with_a_session_of_its_own_is_respected(
    pooled: str, schema: PartitionSchema
) -> None:
    with connect(schema.dsn) as other:
        schema.run(
            "select pg_advisory_lock(hashtext('detection ensure'), hashtext(%s))", schema.name, conn=other
        )
        assert _through(pooled, schema, Phase.ENSURE).is_skipped
    assert not schema.partitions()


@both_steps
def test_a_standby_is_refused_and_can_still_plan(schema: PartitionSchema) -> None:
    schema.add_old_months(40)
    with standby(schema.dsn) as dsn, connect(dsn) as conn:
        assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
        with pytest.raises(StorageError, match="read-only: upkeep needs the primary server"):
            apply(Database(conn, schema.name), Phase.RETAIN, now=now(), limits=QUICK)
        at = now()
        assert plan(Database(conn, schema.name), now=at) == plan(Database(schema.conn, schema.name), now=at)
    assert schema.names() == ["old_40"]


@pytest.fixture
def tablespace(schema: PartitionSchema) -> Iterator[str]:
    name = f"other_of_{schema.name}"
    schema.run("set allow_in_place_tablespaces = on")
    schema.run(f"create tablespace {name} location ''")
    yield name
    schema.run(f"drop schema {schema.name} cascade")
    schema.run(f"drop tablespace {name}")


def _tablespaces(schema: PartitionSchema) -> dict[str, str | None]:
    return dict(schema.run(
        "select c.relname, t.spcname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        "left join pg_tablespace t on t.oid = c.reltablespace where i.inhparent = %s::regclass",
        f"{schema.name}.{METRICS}",
    ))  # fmt: skip


def test_a_child_in_another_tablespace_goes_like_the_others(schema: PartitionSchema, tablespace: str) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(41, 40)
    schema.run(f"alter table @old_40 set tablespace {tablespace}")
    schema.policy(grace="0")
    for kind in (ActionKind.DETACH, ActionKind.DROP):
        assert [(r.action.kind, r.outcome) for r in schema.upkeep(Phase.RETAIN).results] == [
            (kind, "done")
        ] * 2
    assert not schema.table_exists("old_40")


def test_new_months_go_to_the_tablespace_of_their_table(schema: PartitionSchema, tablespace: str) -> None:
    schema.add_partition(month(0), month(1), "here")
    schema.run(f"alter table @{METRICS} set tablespace {tablespace}")
    assert schema.upkeep(Phase.ENSURE).is_success
    spaces = _tablespaces(schema)
    assert spaces.pop("here") is None
    assert list(spaces.values()) == [tablespace] * 3
    assert schema.run("show default_tablespace") == [("",)]


def test_a_table_without_a_row_is_kept_like_any_other(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(40)
    assert schema.run(f"select count(*) from @{METRICS}") == [(0,)]
    later = plan(Database(schema.conn, schema.name), now=month(2), phases=(Phase.ENSURE,))
    assert [a.lower for a in later] == [month(4), month(5)]
    assert [r.action.partition for r in schema.upkeep(Phase.RETAIN).results] == ["old_40"]
    assert schema.run(f"select count(*) from @{METRICS}") == [(0,)]
    assert_months(schema.partitions(), month(0), 4)


@both_steps
def test_a_month_that_cannot_be_made_leaves_the_others(schema: PartitionSchema) -> None:
    refused = f"{schema.name}.{METRICS}_p{label(month(2))}".replace("-", "_")
    schema.run(
        "create function @refuse() returns event_trigger language plpgsql as $$ begin "
        "if exists (select from pg_event_trigger_ddl_commands() c "
        f"where c.object_identity = '{refused}') then raise exception 'not this one'; end if; end $$"
    )
    trigger = f"refuse_in_{schema.name}"
    schema.run(f"create event trigger {trigger} on ddl_command_end execute function @refuse()")
    try:
        report = schema.upkeep(Phase.ENSURE)
    finally:
        schema.run(f"drop event trigger {trigger}")
    assert [r.outcome for r in report.results] == ["done", "done", "failed", "done"]
    assert "not this one" in report.failed[0].details
    assert [p.lower for p in schema.partitions()] == [month(0), month(1), month(3)]
    assert schema.upkeep(Phase.ENSURE).is_success
    assert_months(schema.partitions(), month(0), 4)


@both_steps
def test_a_maintainer_killed_before_several_months_are_noted_leaves_none_of_them(
    schema: PartitionSchema,
) -> None:
    count = "select count(*) from pg_class where relnamespace = %s::regnamespace"
    before = schema.run(count, schema.name)
    failures: list[BaseException] = []
    with connect(schema.dsn) as blocker, connect(schema.dsn) as victim:
        pid = victim.info.backend_pid

        def killed() -> None:
            try:
                apply(Database(victim, schema.name), Phase.ENSURE, now=now())
            except Exception as error:
                failures.append(error)

        with blocker.transaction():
            schema.run("lock table @detection_maintenance_log in exclusive mode", conn=blocker)
            thread = threading.Thread(target=killed)
            thread.start()
            waits = WAITING.replace(" from", " and query like '%%insert into%%' from")
            wait_for(lambda: schema.run(waits, pid) == [(True,)])
            schema.run("select pg_terminate_backend(%s)", pid)
            thread.join()
    assert isinstance(failures[0], Exception)
    assert schema.run(count, schema.name) == before
    assert schema.upkeep(Phase.ENSURE).is_success
    assert_months(schema.partitions(), month(0), 4)


def test_behind_a_pooler_no_statement_is_prepared_in_a_session_that_is_gone(
    pooled: str, schema: PartitionSchema
) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(*range(40, 50))
    schema.run(f"alter table @{METRICS} add primary key (model_id, cycle_started_at)")
    schema.run(f"create table @note (m varchar(64), t timestamptz, foreign key (m, t) references @{METRICS})")
    assert [r.action.kind for r in _through(pooled, schema, Phase.RETAIN).results] == [ActionKind.REFUSE] * 10
