"""Storing and planning as table partitions and versions grow in number: a line for each step of either.

`ours_ms` is storing 1000 rows through the engine, `plan_ms` the plan as of a past cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import Any

from psycopg import sql
from tests.postgres import postgres

from airflow_detection.cycle.planning import resolve_plan
from airflow_detection.domain.specs import Mode
from airflow_detection.store.database import Database
from benchmarks._workload import AT, SCHEMA, BenchDatabase, line, rows, sea, take_turns
from benchmarks.persist import Ready, engine

PARTITIONS, VERSIONS = (12, 60, 240), (20, 200, 2000)
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


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Three lines for partitions, then three for versions; `growth` is against the first of its kind."""
    with postgres() as server:
        with sea(server) as place:
            yield from _steps(place, "partitions", PARTITIONS, _grow_partitions)
        with sea(server) as place:
            yield from _steps(place, "versions", VERSIONS, _grow_versions)


def _steps(place: BenchDatabase, kind: str, sizes: tuple[int, ...], grow: Grow) -> Iterator[dict[str, Any]]:
    held, had, first = list(rows(ROWS)), 1, dict[str, float]()
    for size in sizes:
        grow(place, had, size)
        had = size
        place.conn.execute("vacuum analyze")
        contestants: dict[str, Callable[[], object]] = {
            "ours": partial(engine, place, Ready(held)),
            "plan": partial(resolve_plan, Database(place.conn), place.cycle(0), mode=Mode.AS_OF),
        }
        taken = take_turns(contestants, REPEATS)
        found = {name: median(times) for name, times in taken.items()}
        first = first or found
        growth = {f"{name}_growth": round(found[name] / first[name], 2) for name in ("ours", "plan")}
        facts = line("growth", f"{size} {kind}", size, taken, rows=ROWS, **growth)
        yield {key: value for key, value in facts.items() if key != "speedup_vs_plan"}


def _grow_partitions(place: BenchDatabase, had: int, size: int) -> None:
    """Months before the first, of both tables that have one."""
    months = AT.year * 12 + AT.month - 1
    if had == 1:
        _grow_versions(place, 1, 1)
    for back in range(had, size):
        low, high = (
            datetime((months - n) // 12, (months - n) % 12 + 1, 1, tzinfo=UTC) for n in (back, back - 1)
        )
        for table in TABLES:
            place.conn.execute(
                sql.SQL("create table {} partition of {} for values from ({}) to ({})").format(
                    sql.Identifier(SCHEMA, f"{table}_p{low:%Y_%m}"), sql.Identifier(SCHEMA, table),
                    sql.Literal(low.isoformat()), sql.Literal(high.isoformat()),
                )
            )  # fmt: skip


def _grow_versions(place: BenchDatabase, had: int, size: int) -> None:
    """Versions that were champion for a minute each, all before the one that stores."""
    place.conn.execute(VERSION, {"from": had, "to": size - 1})
    place.conn.execute(ROLE)
