"""Storing and planning while table partitions, versions, or stored rows grow in number: a line for each step.

`ours_ms` is the time to store 1000 outputs through the engine, `plan_ms` that to plan as of a past cycle.
`GROWTH_ROWS` (a million unless set) is how many rows the table partition has in the last step of the rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from statistics import median
from typing import Any

from psycopg import sql
from tests.postgres import postgres

from airflow_detection.cycle.planning import resolve_plan
from airflow_detection.domain.specs import Mode
from airflow_detection.store.database import Database
from benchmarks._workload import AT, SCHEMA, BenchDatabase, bench_database, line, rows, take_turns
from benchmarks.persist import Ready, engine

PARTITIONS, VERSIONS = (12, 60, 240), (20, 200, 2000)
STORED = (10_000, 100_000, int(os.environ.get("GROWTH_ROWS", "1000000")))
ROWS, REPEATS = 1_000, 7
TABLES = ("detection_model_run_outputs", "detection_model_metrics")
Grow = Callable[[BenchDatabase, int, int], None]
VERSION = """
insert into detection.detection_model_versions (model_id, version)
select 'spoofing', 'g' || n from generate_series(%(from)s::int, %(to)s::int) n
"""
ROLE = """
insert into detection.detection_model_roles (version_id, model_id, model_no, role, valid, recorded_at)
select version_id, v.model_id, model_no, 'PRIMARY',
       case when version = '1' then tstzrange('2026-02-01Z', null)
            else tstzrange(timestamptz '2026-01-01Z' + version_id * interval '1 minute',
                           timestamptz '2026-01-01Z' + (version_id + 1) * interval '1 minute') end,
       '2025-12-01Z'
  from detection.detection_model_versions v join detection.detection_models using (model_id)
 where not exists (select from detection.detection_model_roles r where r.version_id = v.version_id)
"""


STORE = """
insert into detection.detection_model_run_outputs
    (cycle_started_at, model_id, version_id, role, entity_id, score, input_ref, outputs)
select %(at)s + n / 1000 * interval '1 minute', 'other', 1, 'PRIMARY', (200000000 + n %% 1000)::text,
       n %% 100 / 200.0,
       jsonb_build_object('mmsi', 200000000 + n %% 1000, 'n', n %% 97, 'source', repeat('a', 40)),
       jsonb_build_object('mmsi', 200000000 + n %% 1000, 'score', n %% 100 / 200.0,
                          'evidence', repeat('e', 200))
  from generate_series(%(from)s::int, %(to)s::int - 1) n
"""


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield three lines for partitions, for versions and for rows; a growth is relative to the first line."""
    with postgres() as server:
        with bench_database(server) as database:
            yield from _steps(database, "partitions", PARTITIONS, _grow_partitions)
        with bench_database(server) as database:
            yield from _steps(database, "versions", VERSIONS, _grow_versions)
        with bench_database(server) as database:
            _grow_versions(database, 1, 1)
            yield from _steps(database, "rows", STORED, _grow_rows)


def _steps(
    database: BenchDatabase, kind: str, sizes: tuple[int, ...], grow: Grow
) -> Iterator[dict[str, Any]]:
    outputs, previous, first = list(rows(ROWS)), 1, dict[str, float]()
    for size in sizes:
        grow(database, previous, size)
        previous = size
        database.conn.execute("vacuum analyze")
        contestants: dict[str, Callable[[], object]] = {
            "ours": partial(engine, database, Ready(outputs)),
            "plan": partial(resolve_plan, Database(database.conn), database.cycle(0), mode=Mode.AS_OF),
        }
        times_ms = take_turns(contestants, REPEATS)
        medians = {name: median(times) for name, times in times_ms.items()}
        first = first or medians
        growth = {f"{name}_growth": round(medians[name] / first[name], 2) for name in ("ours", "plan")}
        result = line("growth", f"{size} {kind}", size, times_ms, rows=ROWS, **growth)
        yield {key: value for key, value in result.items() if key != "speedup_vs_plan"}


def _grow_partitions(database: BenchDatabase, previous: int, size: int) -> None:
    """Create the partitions of the months before the first, of both tables of results."""
    months = AT.year * 12 + AT.month - 1
    if previous == 1:
        _grow_versions(database, 1, 1)
    for back in range(previous, size):
        low, high = (
            datetime((months - n) // 12, (months - n) % 12 + 1, 1, tzinfo=UTC) for n in (back, back - 1)
        )
        for table in TABLES:
            database.conn.execute(
                sql.SQL("create table {} partition of {} for values from ({}) to ({})").format(
                    sql.Identifier(SCHEMA, f"{table}_p{low:%Y_%m}"), sql.Identifier(SCHEMA, table),
                    sql.Literal(low.isoformat()), sql.Literal(high.isoformat()),
                )
            )  # fmt: skip


def _grow_rows(database: BenchDatabase, previous: int, size: int) -> None:
    """Store rows of earlier cycles in the table partition of the month, a thousand a cycle."""
    database.conn.execute(STORE, {"from": previous, "to": size, "at": AT + timedelta(days=1)})


def _grow_versions(database: BenchDatabase, previous: int, size: int) -> None:
    """Register versions that were champion for a minute each, all before the version that stores."""
    database.conn.execute(VERSION, {"from": previous, "to": size - 1})
    database.conn.execute(ROLE)
