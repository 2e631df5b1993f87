"""The reports of a day of 288 cycles x 20 versions x 1000 outputs: seconds and memory, beside their bounds."""

# ruff: noqa: E501 - statements on lines of their own
from __future__ import annotations

import os
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import psycopg
from psycopg import sql
from tests.postgres import postgres

from airflow_detection.snapshot import collector
from airflow_detection.snapshot.rendering.html import render_html
from airflow_detection.snapshot.section import DIAGNOSTIC, HOURLY
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

SCHEMA = "detection"
DAY = datetime(2026, 3, 1, tzinfo=UTC)
MODELS, VERSIONS, ENTITIES, CYCLES, REPEATS = 5, 4, 1000, 288, 3
LIMIT_MS, LIMIT_MB = 20_000.0, 200.0

REGISTER = """
insert into {schema}.detection_cycles (cycle_id, schedule, lookback, start_date)
values ('fleet', '*/5 * * * *', '1 hour', '2026-01-01Z');
insert into {schema}.detection_models (model_id, cycle_id, entrypoint, score_key, entity_key)
select 'model_' || m, 'fleet', 'bench:Model', 'score', 'id' from generate_series(1, %(models)s) m;
insert into {schema}.detection_model_versions (model_id, version)
select 'model_' || m, v from generate_series(1, %(models)s) m, generate_series(1, %(versions)s) v;
insert into {schema}.detection_model_roles (version_id, model_id, model_no, role, valid, is_founding)
select v.version_id, m.model_id, m.model_no,
       (case v.version when '1' then 'PRIMARY' when '2' then 'CHALLENGER' else 'SHADOW' end)::{schema}.detection_role,
       tstzrange('2026-01-01Z', null), true
  from {schema}.detection_model_versions v join {schema}.detection_models m using (model_id);
create table {schema}.all_months partition of {schema}.detection_model_run_outputs for values from (minvalue) to (maxvalue);
"""
OUTPUTS = """
insert into {schema}.detection_model_run_outputs
select c.at, v.model_id, v.version_id, r.role, false, 'ship ' || e,
       case when h.h < 0.02 then null when h.h < 0.9 then 0
            else least(1, greatest(0, (h.h - 0.9) * 10 + random() * 0.1)) end,
       jsonb_build_object('id', 'ship ' || e), jsonb_build_object('id', 'ship ' || e, 'evidence', repeat('x', 180)), 12.5
  from generate_series(%(start)s::timestamptz, %(start)s + (%(cycles)s - 1) * interval '5 minutes', '5 minutes') c (at),
       {schema}.detection_model_versions v join {schema}.detection_model_roles r using (version_id),
       generate_series(1, %(entities)s) e,
       lateral (select abs(hashtextextended(v.model_id || e || (extract(epoch from c.at) / 3600)::int, 7)) %% 10000 / 10000.0 as h) h
 order by c.at, v.model_id, v.version_id
"""
RUNS = """
insert into {schema}.detection_model_runs (cycle_id, cycle_started_at, version_id, model_id, role, outcome, attempt,
    input_count, output_count, newest_input_at, input_digest, output_digest, started_at, duration_ms, stage_ms,
    score_counts, canaries, features)
select 'fleet', o.cycle_started_at, o.version_id, o.model_id, o.role, 'SUCCEEDED', 1, 5000, count(*),
       o.cycle_started_at - interval '5 seconds', md5(o.cycle_started_at::text),
       md5(o.cycle_started_at::text || o.version_id), o.cycle_started_at + interval '1 second',
       80 + random() * 20, '{{"run": 61.5, "outputs": 12.25, "store": 20.5, "features": 1.5}}',
       jsonb_build_object('scored', count(score), 'null', count(*) - count(score), 'gt0', count(*) filter (where score > 0),
                          'gt03', count(*) filter (where score > 0.3), 'gt05', count(*) filter (where score > 0.5),
                          'gt07', count(*) filter (where score > 0.7)),
       '[{{"name": "canary", "expected": 0.9, "observed": 0.9, "is_present": true, "error": 0.0}}]',
       '[{{"name": "speed", "count": 5000, "null_count": 20, "distinct_count": 900}}]'
  from {schema}.detection_model_run_outputs o group by o.cycle_started_at, o.version_id, o.model_id, o.role;
insert into {schema}.detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest, opened_at, closed_at, summary)
select distinct 'fleet', cycle_started_at, 'as_of'::{schema}.detection_mode, '{{}}'::jsonb, 'digest',
       cycle_started_at + interval '1 second', cycle_started_at + interval '9 seconds', '{{"executed": 5, "failed": 0}}'::jsonb
  from {schema}.detection_model_runs;
insert into {schema}.detection_events (category, severity, model_id, version_id, entity_id, score, cycle_started_at,
    first_seen_at, last_seen_at)
select model_id, 'HIGH', model_id, version_id, entity_id, score, cycle_started_at, cycle_started_at, cycle_started_at
  from {schema}.detection_model_run_outputs where role = 'PRIMARY' and score > 0.9 on conflict do nothing;
"""


def fill(conn: Connection, *, cycles: int = CYCLES, entities: int = ENTITIES) -> None:
    """Fill a day of results: `MODELS` x `VERSIONS` versions, the first of each PRIMARY, `entities` outputs a run."""
    params = {
        "models": MODELS, "versions": VERSIONS, "cycles": cycles, "entities": entities, "start": DAY,
    }  # fmt: skip
    for text in (REGISTER, OUTPUTS, RUNS):
        for statement in filter(str.strip, text.split(";\n")):
            query = sql.SQL(statement).format(schema=sql.Identifier(SCHEMA))
            conn.execute(query, params if "%(" in statement else None)
    conn.execute("vacuum analyze")


def run(cycles: int = CYCLES, entities: int = ENTITIES) -> list[dict[str, Any]]:  # Any: JSON objects
    """Return the milliseconds of each kind of report with its page, medians, and the memory that they add."""
    end = DAY + cycles * timedelta(minutes=5)
    spans = {HOURLY: timedelta(hours=1), DIAGNOSTIC: timedelta(days=1)}
    with postgres(is_durable=False) as server:  # only read from, once it is filled
        with connect(server) as conn:
            conn.execute("drop database if exists detection_snapshot with (force)")
            conn.execute("create database detection_snapshot")
        with connect(psycopg.conninfo.make_conninfo(server, dbname="detection_snapshot")) as conn:
            migrate(Database(conn, SCHEMA))
            fill(conn, cycles=cycles, entities=entities)
            idle = _peak_mb()
            return [
                {
                    "bench": "snapshot",
                    "case": kind,
                    "n": cycles * MODELS * VERSIONS * entities,
                    **_timed(conn, end - span, end, kind),
                    "above_idle_mb": round(_peak_mb() - idle, 1),
                    "limit_mb": LIMIT_MB,
                }
                for kind, span in spans.items()
            ]


def _timed(conn: Connection, start: datetime, end: datetime, kind: str) -> dict[str, Any]:  # Any: as above
    wall_ms, cpu_ms = [], []
    for _ in range(REPEATS):
        start_s, cpu_start_s = perf_counter(), _cpu_s(conn)
        report = collector.take(Database(conn, SCHEMA), sections(), start=start, end=end, kind=kind)
        render_html(report.to_json())
        wall_ms.append((perf_counter() - start_s) * 1000)
        cpu_ms.append((_cpu_s(conn) - cpu_start_s) * 1000)
        missing = [s.why for s in report.sections if s.why]
        assert not missing, missing
    slowest = max(report.sections, key=lambda s: s.took_ms)
    return {
        "repeats": REPEATS,
        "ours_ms": round(median(wall_ms), 1),
        "max_ms": round(max(wall_ms), 1),
        "cpu_ms": round(median(cpu_ms), 1),
        "load": round(os.getloadavg()[0], 1),
        "slowest_section": f"{slowest.name} {slowest.took_ms:.0f} ms",
        "limit_ms": LIMIT_MS,
        "speedup_vs_limit": round(LIMIT_MS / median(wall_ms), 2),
    }


def _cpu_s(conn: Connection) -> float:
    """Return the CPU seconds of this process and of the server behind `conn`, ended workers included.

    Other processes do not count. Without a `/proc` that shows the server it is this process alone.
    """
    try:
        backend = _stat(conn.info.backend_pid)
        server = _stat(int(backend[1]))
    except OSError:
        return process_time()
    ticks = sum(map(int, backend[11:13])) + sum(map(int, server[13:15]))
    return process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """Return the fields of `/proc/PID/stat` behind the name: state, parent, ...; 11 to 14 are ticks of CPU."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
