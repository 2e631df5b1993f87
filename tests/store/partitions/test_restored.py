"""Months that were detached, in a copy of the database that pg_dump and psql have made: other oids."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from demo.embedded_postgres import find_binaries
from tests.store.partition_schema import METRICS, PartitionSchema, month

from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.create import ensure_month
from airflow_detection.store.partitions.plan import ActionKind, Phase


def program(name: str, dsn: str) -> str:
    """Return the path of a client program: the server's own where it is the embedded one."""
    if not os.environ.get("DETECTION_TEST_DSN"):
        with psycopg.connect(dsn) as conn:
            return str(find_binaries(conn.info.server_version // 10_000) / name)
    return shutil.which(name) or pytest.skip(f"{name} is not installed here")


def dump_into(source: PartitionSchema, dsn: str) -> None:
    """Copy the schema to another database with pg_dump and psql."""
    dump = subprocess.run(
        [program("pg_dump", source.dsn), "--dbname", source.dsn, "--schema", source.name],
        check=True, capture_output=True,
    )  # fmt: skip
    restored = subprocess.run(
        [program("psql", dsn), "--dbname", dsn, "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"],
        input=dump.stdout, check=False, capture_output=True,
    )  # fmt: skip
    assert restored.returncode == 0, restored.stderr.decode()


@pytest.fixture
def restored(schema: PartitionSchema, server: str) -> Iterator[PartitionSchema]:
    """A copy of a schema of which two months were detached, each with a row."""
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(30, 29)
    for age in (30, 29):
        schema.insert(month(-age) + timedelta(days=3))
    schema.upkeep(Phase.RETAIN)
    name = f"detection_restored_{schema.name}"
    with connect(server) as conn:
        conn.execute(f"drop database if exists {name} with (force)")
        conn.execute(f"create database {name}")
    dsn = psycopg.conninfo.make_conninfo(server, dbname=name)
    dump_into(schema, dsn)
    copy = PartitionSchema(dsn, schema.name)
    yield copy
    copy.conn.close()
    with connect(server) as conn:
        conn.execute(f"drop database {name} with (force)")


def oids(schema: PartitionSchema) -> dict[str, int]:
    pairs = schema.run(
        "select relname::text, oid::bigint from pg_class where relname in ('old_30', 'old_29')"
        " and relnamespace = %s::regnamespace", schema.name,
    )  # fmt: skip
    return dict(pairs)


def dropped(schema: PartitionSchema) -> list[tuple[str | None, str]]:
    schema.policy(grace="0")
    results = schema.upkeep(Phase.RETAIN).results
    return [(r.action.partition, r.outcome) for r in results if r.action.kind is ActionKind.DROP]


def test_a_month_that_was_detached_is_dropped_in_the_copy_too(
    schema: PartitionSchema, restored: PartitionSchema
) -> None:
    assert not set(oids(schema).values()) & set(oids(restored).values())
    assert dropped(restored) == [("old_30", "done"), ("old_29", "done")]
    assert not oids(restored)
    assert len(oids(schema)) == 2, "of the original nothing was dropped"


def test_a_month_that_is_recreated_in_the_copy_is_the_detached_one(restored: PartitionSchema) -> None:
    db, at = Database(restored.conn, restored.name), month(-30) + timedelta(days=3)
    assert ensure_month(db, METRICS, at, recreate_expired=True)
    assert restored.names()[0] == "old_30"
    assert restored.run(f"select count(*) from @{METRICS}") == [(1,)]  # noqa: S608
    assert dropped(restored) == [("old_29", "done")], "the recreated month has a hold"


def test_an_oid_that_belongs_to_another_table_in_the_copy_changes_nothing(restored: PartitionSchema) -> None:
    """The logged oid of each month is that of the other one here, or of a table of the registry."""
    here = oids(restored)
    (registry,) = restored.run("select %s::regclass::oid::bigint", f"{restored.name}.detection_models")[0]
    for name, oid in (("old_30", here["old_29"]), ("old_29", registry)):
        restored.run(
            "update @detection_maintenance_log set details = details || jsonb_build_object('oid', %s::bigint)"
            " where partition_name = %s", oid, name,
        )  # fmt: skip
    assert dropped(restored) == [("old_30", "done"), ("old_29", "done")]


def test_a_table_with_rows_of_another_month_is_kept_in_the_copy(restored: PartitionSchema) -> None:
    restored.run("alter table @old_30 drop constraint old_30_cycle_started_at_check")
    restored.run("insert into @old_30 values ('m', 1, 'PRIMARY', false, 'k', 1, now())")
    assert dropped(restored) == [("old_30", "failed"), ("old_29", "done")]
    details = restored.log("details ->> 'error'")
    assert ("'old_30' has rows outside the span that was detached: it is kept",) in details
    assert list(oids(restored)) == ["old_30"]


def test_a_table_with_other_columns_is_kept_in_the_copy(restored: PartitionSchema) -> None:
    restored.run("drop table @old_30")
    restored.run("create table @old_30 (id int)")
    assert dropped(restored) == [("old_29", "done")]


def test_a_new_table_with_the_name_of_a_detached_one_that_was_renamed_is_kept(
    schema: PartitionSchema,
) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(30, 29)
    schema.upkeep(Phase.RETAIN)
    schema.run("alter table @old_30 rename to kept")
    schema.run(f"create table @old_30 (like @{METRICS})")
    assert dropped(schema) == [("old_29", "done")]
    assert schema.table_exists("kept")
    assert schema.table_exists("old_30")


def test_a_month_that_came_back_and_was_detached_by_hand_is_not_upkeeps(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(30)
    schema.upkeep(Phase.RETAIN)
    ensure_month(Database(schema.conn, schema.name), METRICS, month(-30), recreate_expired=True)
    schema.run(f"alter table @{METRICS} detach partition @old_30")
    schema.run("delete from @detection_partition_holds")
    schema.run("update @detection_maintenance_log set logged_at = logged_at - interval '90 days'")
    assert dropped(schema) == []
    assert schema.table_exists("old_30")
