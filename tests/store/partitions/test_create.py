"""Table partitions appear when they are needed, once, in UTC months."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_detection.errors import ExpiredPartition, StorageError
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import month_of
from airflow_detection.store.partitions.create import PARTITIONED, ensure_cycle_months, ensure_month

OUTPUTS = "detection_model_run_outputs"
AT = datetime(2026, 3, 5, tzinfo=UTC)
BOUNDS = """
select c.relname, pg_get_expr(c.relpartbound, c.oid) from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'detection.detection_model_run_outputs'::regclass order by 1
"""
MARCH = (
    "detection_model_run_outputs_p2026_03",
    "FOR VALUES FROM ('2026-03-01 00:00:00+00') TO ('2026-04-01 00:00:00+00')",
)


def test_a_month_is_made_once(database: Connection) -> None:
    assert ensure_month(Database(database, "detection"), OUTPUTS, AT) is True
    assert ensure_month(Database(database, "detection"), OUTPUTS, AT + timedelta(days=20)) is False
    assert database.execute(BOUNDS).fetchall() == [MARCH]


def test_eight_at_once_make_one(dsn: str, database: Connection) -> None:
    def one(_: int) -> bool:
        with connect(dsn) as conn:
            return ensure_month(Database(conn, "detection"), OUTPUTS, AT)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(one, range(8))) == [False] * 7 + [True]
    assert database.execute(BOUNDS).fetchall() == [MARCH]


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles", "Asia/Kolkata"])
def test_months_are_utc_whatever_the_session_says(database: Connection, zone: str) -> None:
    database.execute(
        "select set_config('TimeZone', %s, false), set_config('DateStyle', 'SQL, DMY', false)", (zone,)
    )
    edges = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 31, 23, 59, 59, 999999, tzinfo=UTC))
    assert [ensure_month(Database(database, "detection"), OUTPUTS, edge) for edge in edges] == [True, False]
    assert ensure_month(Database(database, "detection"), OUTPUTS, datetime(2026, 4, 1, tzinfo=UTC)) is True
    assert database.execute("show timezone").fetchone() == (zone,)
    database.execute("select set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false)")
    assert database.execute(BOUNDS).fetchall()[0] == MARCH


def test_an_instant_in_another_zone_belongs_to_its_utc_month() -> None:
    ahead = datetime(2026, 1, 1, 5, tzinfo=timezone(timedelta(hours=9)))
    assert month_of(ahead) == (datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


def test_a_naive_instant_is_refused(database: Connection) -> None:
    with pytest.raises(ValueError, match="time zone"):
        ensure_month(Database(database, "detection"), OUTPUTS, datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_cycle_gets_a_month_in_every_table(database: Connection) -> None:
    ensure_cycle_months(Database(database, "detection"), AT)
    for table in PARTITIONED:
        assert ensure_month(Database(database, "detection"), table, AT) is False


def test_existing_bounds_of_any_shape_are_respected(database: Connection) -> None:
    database.execute(
        "create table detection.odd partition of detection.detection_model_run_outputs "
        "for values from ('2026-02-20Z') to ('2026-03-03Z')"
    )
    assert ensure_month(Database(database, "detection"), OUTPUTS, datetime(2026, 3, 2, tzinfo=UTC)) is False
    assert ensure_month(Database(database, "detection"), OUTPUTS, AT) is True
    assert database.execute(BOUNDS).fetchall()[0] == (
        "detection_model_run_outputs_p2026_03",
        "FOR VALUES FROM ('2026-03-03 00:00:00+00') TO ('2026-04-01 00:00:00+00')",
    )


def test_a_partition_without_bounds_covers_everything(database: Connection) -> None:
    database.execute(
        "create table detection.old partition of detection.detection_model_run_outputs "
        "for values from (minvalue) to ('2026-03-01Z')"
    )
    assert ensure_month(Database(database, "detection"), OUTPUTS, datetime(1999, 1, 1, tzinfo=UTC)) is False
    assert ensure_month(Database(database, "detection"), OUTPUTS, AT) is True


def test_a_new_month_has_the_indexes_and_checks_of_its_table(database: Connection) -> None:
    ensure_month(Database(database, "detection"), OUTPUTS, AT)
    counts = database.execute(
        "select (select count(*) from pg_index where indrelid = p.oid), "
        "(select count(*) from pg_constraint where conrelid = p.oid and contype = 'c') "
        "from pg_class p where relname in (%s, %s)",
        (OUTPUTS, MARCH[0]),
    ).fetchall()
    assert counts[0] == counts[1]
    assert counts[0][0] == 3


def test_a_month_that_retention_removed_is_not_made_behind_its_back(database: Connection) -> None:
    ensure_month(Database(database, "detection"), OUTPUTS, AT)
    database.execute(f"alter table detection.{OUTPUTS} detach partition detection.{MARCH[0]}")
    database.execute(
        "insert into detection.detection_maintenance_log (action, table_name, bounds, outcome) "
        "values ('detach', %s, '[2026-03-01Z, 2026-04-01Z)', 'done')",
        (OUTPUTS,),
    )
    with pytest.raises(ExpiredPartition, match="2026-03"):
        ensure_month(Database(database, "detection"), OUTPUTS, AT)
    assert ensure_month(Database(database, "detection"), OUTPUTS, AT, recreate_expired=True) is True
    assert ensure_month(Database(database, "detection"), OUTPUTS, AT) is False


def test_reading_goes_on_while_a_month_is_made(dsn: str, database: Connection) -> None:
    ensure_month(Database(database, "detection"), OUTPUTS, AT)
    with connect(dsn) as reading, reading.transaction():
        reading.execute(f"select count(*) from detection.{OUTPUTS}")  # noqa: S608
        database.execute("set lock_timeout = '2s'")
        assert ensure_month(Database(database, "detection"), OUTPUTS, AT + timedelta(days=40)) is True


def test_a_table_that_is_not_there_is_a_storage_error(database: Connection) -> None:
    with pytest.raises(StorageError):
        ensure_month(Database(database, "detection"), "no_such_table", AT)
