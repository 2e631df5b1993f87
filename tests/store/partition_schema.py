"""Schema of its own for each test of upkeep, and a writer to run beside the upkeep."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import contextlib
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import NAME_FORMATS, Step, TablePartition, day_of, read_table
from airflow_detection.store.partitions.plan import Phase, UpkeepLimits
from airflow_detection.store.partitions.upkeep import UpkeepReport, apply

METRICS = "detection_model_metrics"
QUICK = UpkeepLimits(max_drops=100, pause=timedelta(milliseconds=50), detach_wait=timedelta(milliseconds=300))
US = timedelta(microseconds=1)
WAITING = "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s"


def now() -> datetime:
    return datetime.now(UTC)


class Clock:
    """Step of the schema of the test: `month` counts days where it is day."""

    step = Step.MONTH


both_steps = pytest.mark.parametrize("schema", list(Step), indirect=True)
"""Runs a test with table partitions of months, and again with days."""


def month(ahead: int, at: datetime | None = None) -> datetime:
    """Return the start of the month (or day, see `Clock`) that is `ahead` months (or days) from this one."""
    instant = at or now()
    if Clock.step is Step.DAY:
        return day_of(instant)[0] + timedelta(days=ahead)
    index = instant.year * 12 + instant.month - 1 + ahead
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


class PartitionSchema:
    """Schema with a connection to it; `@` in a statement stands for its name and a dot."""

    def __init__(self, dsn: str, name: str) -> None:
        self.dsn, self.name = dsn, name
        self.conn = connect(dsn)

    def run(self, text: str, *params: object, conn: Connection | None = None) -> list[Any]:
        cursor = (conn or self.conn).execute(text.replace("@", self.name + "."), params or None)
        return cursor.fetchall() if cursor.description else []

    def policy(self, table: str = METRICS, **columns: object) -> None:
        for column, value in columns.items():
            policies = sql.Identifier(self.name, "detection_partition_policies")
            self.conn.execute(
                sql.SQL("update {} set {} = %s::interval where table_name = %s").format(
                    policies, sql.Identifier(column)
                ),
                (value, table),
            )

    def use_days(self) -> None:
        """Make table partitions of days, as many ahead and as long kept as there are months by default."""
        self.run(
            "update @detection_partition_policies set step = 'day', ahead = '3 days', retention = '25 days'"
        )

    def only_metrics(self) -> None:
        self.run("delete from @detection_partition_policies where table_name <> %s", METRICS)

    def add_partition(self, low: datetime, high: datetime, name: str, table: str = METRICS) -> None:
        self.run(f"create table @{name} partition of @{table} for values from ('{low}') to ('{high}')")

    def add_old_months(self, *ages: int) -> None:
        """Add partitions of the metrics for the months that are `ages` months old."""
        for age in ages:
            self.add_partition(month(-age), month(1 - age), f"old_{age}")

    def insert(self, at: datetime, conn: Connection | None = None) -> None:
        self.run(f"insert into @{METRICS} values ('m', 1, 'PRIMARY', false, 'k', 1, %s)", at, conn=conn)

    def partitions(self, table: str = METRICS) -> tuple[TablePartition, ...]:
        return read_table(Database(self.conn, self.name), table).partitions

    def names(self, table: str = METRICS) -> list[str]:
        return [p.name for p in self.partitions(table)]

    def upkeep(self, phase: Phase, limits: UpkeepLimits = QUICK, at: datetime | None = None) -> UpkeepReport:
        return apply(Database(self.conn, self.name), phase, now=at or now(), limits=limits)

    def log(self, *columns: str) -> list[Any]:
        return self.run(f"select {', '.join(columns)} from @detection_maintenance_log order by log_id")

    def table_exists(self, name: str) -> bool:
        return bool(self.run("select to_regclass(%s) is not null", f"{self.name}.{name}")[0][0])


class Writer:
    """Writer that inserts rows while it is open, and keeps the longest duration of one, in seconds."""

    def __init__(self, schema: PartitionSchema, at: datetime, pause_s: float = 0.01) -> None:
        self.schema, self.at, self.pause_s = schema, at, pause_s
        self.worst_s, self.count, self.errors = 0.0, 0, list[str]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        with connect(self.schema.dsn) as conn:
            while not self._stop.is_set():
                began = time.perf_counter()
                try:
                    self.schema.insert(self.at, conn=conn)
                except psycopg.Error as error:
                    self.errors.append(str(error))
                self.worst_s = max(self.worst_s, time.perf_counter() - began)
                self.count += 1
                time.sleep(self.pause_s)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def wait_for(condition: Any, limit_s: float = 10) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def label(instant: datetime) -> str:
    """Return a month as 2026-01, or a day as 2026-01-31."""
    return f"{instant:{NAME_FORMATS[Clock.step].replace('_', '-')}}"


def assert_months(partitions: tuple[TablePartition, ...], first: datetime, count: int) -> None:
    assert [p.lower for p in partitions] == [month(n, first) for n in range(count)]
    assert [p.upper for p in partitions] == [month(n + 1, first) for n in range(count)]


def apply_ignoring_errors(conn: Connection, schema: str, phase: Phase, limits: UpkeepLimits) -> None:
    with contextlib.suppress(Exception):  # the connection was ended on purpose
        apply(Database(conn, schema), phase, now=now(), limits=limits)
