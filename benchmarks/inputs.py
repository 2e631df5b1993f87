"""Reading a cycle's input rows into columns, beside other ways from Postgres into Python.

Ours is a read-only transaction with its settings, a declared cursor, COPY, decoding and the digest;
besides, `facts_ms` are the profiles of the newest rows. The peers read the rows alone: a list of tuples
(psycopg), COPY of CSV to polars, Arrow (ADBC, connectorx). One that is not installed, or cannot reach the
server (connectorx has no Unix sockets), is left out.
"""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from tests.postgres import postgres

from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.reader import Reader
from benchmarks._workload import bench_database, line, take_turns
from benchmarks.persist import PEAK

SIZES = {1_000_000: 5, 5_000_000: 2}  # rows: repeats
TABLE = """
create table public.bench_inputs as
select (200000000 + n %% 30000)::bigint as mmsi, timestamptz '2026-03-01Z' + n * interval '1 ms' as at,
       50 + 10 * random() as lat, 10 * random() as lon, (round(random() * 200) / 10)::real as knots,
       case when n %% 10 > 0 then (round(random() * 3600) / 10)::real end as course,
       (random() * 360)::smallint as heading, 'ship ' || n %% 30000 as name
  from generate_series(1, %(rows)s) n
"""
QUERY = "select mmsi, at, lat, lon, knots, course, heading, name from public.bench_inputs"
PROBE = f"""
import sys
from benchmarks import inputs
getattr(inputs, sys.argv[1])(sys.argv[2])
{PEAK}
"""


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield a line for each number of rows."""
    with postgres() as server, bench_database(server) as database:
        for count, repeats in SIZES.items():
            database.conn.execute("drop table if exists public.bench_inputs")
            database.conn.execute(TABLE, {"rows": count})
            database.conn.execute("vacuum analyze public.bench_inputs")
            yield _result(database.conn, database.dsn, count, repeats)


def _result(conn: Connection, dsn: str, count: int, repeats: int) -> dict[str, Any]:  # Any: JSON
    contestants: dict[str, Callable[[], object]] = {"ours": lambda: ours(dsn)}
    left_out = {}
    for peer in (adbc, polars, connectorx, fetchall):
        try:
            peer(dsn)
            contestants[peer.__name__] = lambda peer=peer: peer(dsn)  # type: ignore[misc] # mypy knows no default here
        except Exception as error:  # not installed, or not for this server
            left_out[peer.__name__] = f"{type(error).__name__}: {error}"[:80]
    contestants["copy_limit"] = lambda: conn.execute(
        f"copy ({QUERY}) to '/dev/null' (format binary)".encode()
    )
    times_ms = take_turns(contestants, repeats)
    best = min((n for n in times_ms if n not in ("ours", "copy_limit")), key=lambda n: median(times_ms[n]))
    times_ms["best_peer"] = times_ms[best]
    peaks = {f"{peer}_peak_mb": _peak_mb(peer, dsn) for peer in ("ours", "adbc") if peer not in left_out}
    facts_ms = _facts_ms(dsn)
    return line(
        "inputs", f"{count} rows", count, times_ms, best=best, facts_ms=facts_ms, limit=0.77,
        left_out=left_out, **peaks,
    )  # fmt: skip


def ours(dsn: str) -> None:
    """Read the rows as a cycle does."""
    with connect(dsn) as conn:
        with_profiles(Reader(Database(conn, "public"), {}).read(QUERY), None)


def adbc(dsn: str) -> None:
    """Read the rows into an Arrow table with ADBC."""
    dbapi = importlib.import_module("adbc_driver_postgresql.dbapi")
    with dbapi.connect(dsn) as conn, conn.cursor() as cursor:
        cursor.execute(QUERY)
        cursor.fetch_arrow_table()


def polars(dsn: str) -> None:
    """Copy the rows as CSV, and read that with polars."""
    text = io.BytesIO()
    statement = f"copy ({QUERY}) to stdout (format csv, header)".encode()
    with connect(dsn) as conn, conn.cursor() as cursor, cursor.copy(statement) as copy:
        for chunk in copy:
            text.write(chunk)
    text.seek(0)
    importlib.import_module("polars").read_csv(text, try_parse_dates=True)


def connectorx(dsn: str) -> None:
    """Read the rows into an Arrow table with connectorx."""
    importlib.import_module("connectorx").read_sql(dsn, QUERY, return_type="arrow")


def fetchall(dsn: str) -> None:
    """Read the rows into a list of tuples with psycopg."""
    with connect(dsn) as conn:
        conn.execute(QUERY.encode()).fetchall()


def _facts_ms(dsn: str) -> float:
    with connect(dsn) as conn:
        inputs = Reader(Database(conn, "public"), {}).read(QUERY)
    began = time.perf_counter()
    with_profiles(inputs, "at")
    facts = time.perf_counter()
    with_profiles(inputs, None)
    return round((facts - began - (time.perf_counter() - facts)) * 1000, 1)


def _peak_mb(peer: str, dsn: str) -> float:
    """Return the peak memory of a process that reads the rows once, above one that reads none."""
    peak, idle = (
        int(subprocess.run([sys.executable, "-c", *c], check=True, capture_output=True, text=True).stdout)
        for c in ((PROBE, peer, dsn), (f"from benchmarks import inputs\n{PEAK}",))
    )
    return round((peak - idle) / 1024, 1)
