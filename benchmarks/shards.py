"""A version in shards beside the same one as a whole: wall milliseconds, and the peak of memory of a task.

`SHARD_ROWS` (1,000,000) input rows of eight columns, twelve of each entity, `SHARDS` (8) shards, on
`SHARD_WORKERS` (2) workers, each task a process of its own, as a worker of Airflow has it. The version's own
task, which puts the shards together, is part of the time. `peak_mib` is the manifest's `peak_memory_bytes`,
`task_peak_mib` the most that any process of a task had, `cpu_s` what all of them took, without the server.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from tests.postgres import postgres

from airflow_detection.cycle import planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import CycleSpec, Mode, ModelSpec, Outcome, Role
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.store import registry, roles
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from benchmarks.noaa_day import new_database

ROWS = int(os.environ.get("SHARD_ROWS", "1000000"))
SHARDS = int(os.environ.get("SHARDS", "8"))
WORKERS = int(os.environ.get("SHARD_WORKERS", "2"))
ROWS_OF_ENTITY = 12
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings(allowed_prefixes=("benchmarks.shards",), inline_timeout_s=3600)
QUERY = """
select mmsi, at, lat, lon, speed, course, heading, name from positions
 where at >= :window_start and at < :window_end order by mmsi, at
"""
TABLE = """
create table detection.positions as
select 200000000 + n / %(per)s as mmsi, %(at)s::timestamptz - (1 + n %% 3600) * interval '1 s' as at,
       (n %% 180)::float8 as lat, (n %% 360)::float8 as lon, (n %% 997) / 50.0::float8 as speed,
       (n %% 360)::float8 as course, (n %% 359)::float8 as heading, 'ship ' || n / %(per)s as name
  from generate_series(0, %(rows)s - 1) as n
"""
MANIFEST = """
select outcome::text, input_count, output_count, output_digest, peak_memory_bytes
  from detection.detection_model_runs
"""


class FastestMove(BaseDetectionModel):
    """Scores each ship by its highest speed."""

    shard_by = "entity"

    def run(self, ctx: ModelContext) -> ModelResult:
        """Find it in arrays; the rows come in order of ships."""
        ships, speeds = ctx.inputs.array("mmsi"), ctx.inputs.array("speed")
        starts = np.flatnonzero(np.diff(ships, prepend=-1)) if len(ships) else np.zeros(0, dtype=np.int64)
        fastest = np.maximum.reduceat(speeds, starts) if len(starts) else speeds
        return ModelResult(
            outputs_per_input=(
                ({}, {"mmsi": ship, "score": min(speed / 40, 1.0), "speed": speed})
                for ship, speed in zip(ships[starts].tolist(), fastest.tolist(), strict=True)
            )
        )


def run() -> Iterator[dict[str, Any]]:  # Any: a JSON object
    """Yield the result line; fails unless both ways store the same rows."""
    with postgres() as server:
        dsn = new_database(server)
        with connect(dsn) as conn:
            _register(conn)
        results = {}
        for name, count in (("whole", 1), ("ours", SHARDS)):
            with connect(dsn) as conn:
                conn.execute("delete from detection.detection_model_run_outputs")
                conn.execute("delete from detection.detection_model_runs")
                conn.execute("delete from detection.detection_events")
            began = time.perf_counter()
            peak, cpu_s = _tasks(dsn, range(count), count) if count > 1 else (0, 0.0)
            last_peak, last_cpu_s = _tasks(dsn, [None], count)
            elapsed_ms = (time.perf_counter() - began) * 1000
            with connect(dsn) as conn:
                (manifest,) = conn.execute(MANIFEST.encode()).fetchall()
            results[name] = elapsed_ms, max(peak, last_peak), cpu_s + last_cpu_s, manifest
    ours_ms, ours_peak, ours_cpu_s, ours = results["ours"]
    whole_ms, whole_peak, whole_cpu_s, whole = results["whole"]
    assert ours[:4] == whole[:4], "the two ways differ"
    yield {
        "case": f"{ROWS} rows in {SHARDS} shards",
        "n": ROWS,
        "repeats": 1,
        "workers": WORKERS,
        "outputs": ours[2],
        "ours_ms": round(ours_ms, 1),
        "whole_ms": round(whole_ms, 1),
        "speedup_vs_whole": round(whole_ms / ours_ms, 2),
        "cpu_s": round(ours_cpu_s, 2),
        "whole_cpu_s": round(whole_cpu_s, 2),
        "peak_mib": round(ours[4] / 2**20),
        "whole_peak_mib": round(whole[4] / 2**20),
        "task_peak_mib": round(ours_peak / 2**10),
        "whole_task_peak_mib": round(whole_peak / 2**10),
    }


def _register(conn: Any) -> None:
    db = Database(conn, SETTINGS.schema)
    migrate(db)
    conn.execute(TABLE, {"per": ROWS_OF_ENTITY, "at": AT, "rows": ROWS})
    conn.execute("analyze")
    registry.put_cycle(
        db,
        CycleSpec(
            cycle_id="bench",
            schedule="0 * * * *",
            lookback=timedelta(hours=1),
            start_date=AT - timedelta(days=1),
            input_query=QUERY,
            time_key="at",
        ),
    )
    model = ModelSpec(
        model_id="m",
        cycle_id="bench",
        entrypoint="benchmarks.shards:FastestMove",
        entity_key="mmsi",
        score_key="score",
    )
    registry.put_model(db, model)
    registry.put_version(db, model_id="m", version="1", params={})
    roles.assign_role(db, model_id="m", version="1", role=Role.PRIMARY, since=AT - timedelta(days=1))
    planning.open_cycle(db, "bench", AT, mode=Mode.AS_OF)


def _tasks(dsn: str, shards: Sequence[int | None], count: int) -> tuple[int, float]:
    """Run tasks, at most WORKERS at a time; return the highest peak of memory, KiB, and their CPU seconds."""
    waiting, running, peak, cpu_s = list(shards), set[int](), 0, 0.0
    while waiting or running:
        while waiting and len(running) < WORKERS:
            running.add(_task(dsn, waiting.pop(0), count))
        pid, status, usage = os.wait4(-1, 0)
        assert status == 0, "a task has failed"
        running.remove(pid)
        peak, cpu_s = max(peak, usage.ru_maxrss), cpu_s + usage.ru_utime + usage.ru_stime
    return peak, cpu_s


def _task(dsn: str, shard: int | None, count: int) -> int:
    if pid := os.fork():
        return pid
    status = 1
    try:
        with connect(dsn) as conn:
            request = VersionRequest(model_id="m", cycle_id="bench", started_at=AT, is_opened=True)
            db = Database(conn, SETTINGS.schema)
            report = run_task(db, SETTINGS, request, shard=shard, shards=count)
        status = 0 if report.outcome is Outcome.SUCCEEDED else 2
    finally:
        os._exit(status)
