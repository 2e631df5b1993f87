"""Partitions of 36 months created and 23 retired, beside the same in plain SQL in the same run."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from psycopg import sql
from tests.postgres import postgres

from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from airflow_detection.store.partitions.plan import Phase, UpkeepLimits
from airflow_detection.store.partitions.upkeep import apply

TABLE = "detection_model_run_outputs"
MONTHS, RETIRED, ROUNDS = 36, 23, 9
LIMIT = 1.5


def _months(first: int, count: int) -> list[datetime]:
    now = datetime.now(UTC)
    indexes = range(now.year * 12 + now.month - 1 + first, now.year * 12 + now.month + first + count)
    return [datetime(i // 12, i % 12 + 1, 1, tzinfo=UTC) for i in indexes]


def _fresh(conn: Connection, schema: str) -> None:
    conn.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))
    migrate(Database(conn, schema))


def _plain(conn: Connection, schema: str, name: str, *bounds: datetime) -> None:
    """Execute one plain statement."""
    texts: dict[str, Any] = {  # Any: LiteralString, which mypy takes for str
        "create": "create table {child} (like {parent} including all)",
        "attach": "alter table {parent} attach partition {child} for values from ({low}) to ({high})",
        "detach": "alter table {parent} detach partition {child} concurrently",
        "drop": "drop table {child}",
    }
    low, high = (sql.Literal(b.isoformat()) for b in bounds)
    child = sql.Identifier(schema, f"plain_{bounds[0]:%Y_%m}")
    parent = sql.Identifier(schema, TABLE)
    conn.execute(sql.SQL(texts[name]).format(child=child, parent=parent, low=low, high=high))


def _timed_plain(conn: Connection, schema: str) -> tuple[float, float]:
    _fresh(conn, schema)
    start_s = time.perf_counter()
    for bounds in pairwise(_months(0, MONTHS)):
        _plain(conn, schema, "create", *bounds)
        _plain(conn, schema, "attach", *bounds)
    created_s = time.perf_counter()
    for bounds in list(pairwise(_months(0, MONTHS)))[:RETIRED]:
        _plain(conn, schema, "detach", *bounds)
        _plain(conn, schema, "drop", *bounds)
    return created_s - start_s, time.perf_counter() - created_s


def _policy(conn: Connection, schema: str, **intervals: str) -> None:
    for column, value in intervals.items():
        table = sql.Identifier(schema, "detection_partition_policies")
        text = sql.SQL("update {} set {} = %s::interval").format(table, sql.Identifier(column))
        conn.execute(text, [value])


def _timed_ours(conn: Connection, schema: str) -> tuple[float, float]:
    _fresh(conn, schema)
    policies = sql.Identifier(schema, "detection_partition_policies")
    conn.execute(sql.SQL("delete from {} where table_name <> %s").format(policies), [TABLE])
    _policy(conn, schema, ahead=f"{MONTHS - 1} months", retention="1 month", grace="0")
    limits = UpkeepLimits(max_drops=RETIRED)
    start_s = time.perf_counter()
    report = apply(Database(conn, schema), Phase.ENSURE, now=datetime.now(UTC), limits=limits)
    created_s = time.perf_counter()
    assert len(report.results) == MONTHS
    assert report.is_success
    past = list(pairwise(_months(-RETIRED - 1, RETIRED)))
    for bounds in past:
        _plain(conn, schema, "create", *bounds)
        _plain(conn, schema, "attach", *bounds)
    retire_start_s = time.perf_counter()
    for _ in range(2):  # detach, then drop
        report = apply(Database(conn, schema), Phase.RETAIN, now=datetime.now(UTC), limits=limits)
        assert len(report.results) == RETIRED, report.lines()
        assert report.is_success
    return created_s - start_s, time.perf_counter() - retire_start_s


def run() -> dict[str, object]:
    """Return seconds, medians of nine rounds; `ratio` is ours to plain SQL, `limit` its bound.

    The two sides take turns in going first.
    """
    ours: list[tuple[float, float]] = []
    plain: list[tuple[float, float]] = []
    with postgres() as dsn, connect(dsn) as conn:
        for number in range(ROUNDS + 1):
            sides = [(_timed_plain, "bench_plain", plain), (_timed_ours, "bench_ours", ours)]
            for timed, schema, rounds in sides if number % 2 else reversed(sides):
                elapsed_s = timed(conn, schema)
                if number:  # the first warms up
                    rounds.append(elapsed_s)
        for schema in ("bench_plain", "bench_ours"):
            conn.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))
    medians = {
        f"{side}_{action}_s": round(statistics.median(r[i] for r in rounds), 3)
        for side, rounds in (("ours", ours), ("plain", plain))
        for i, action in enumerate(("make_36", "retire_23"))
    }
    totals = [statistics.median(sum(r) for r in rounds) for rounds in (ours, plain)]
    return {**medians, "rounds": ROUNDS, "ratio": round(totals[0] / totals[1], 2), "limit": LIMIT}
