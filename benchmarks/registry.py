"""Reading a registry of 300 cycles x 12 models, near and behind 5 ms of network, beside one statement.

The statement joins what the four of ours read, on a connection of its own, as ours has; it makes no objects
of the rows and checks nothing. `one_dag_ms` is what a task's parse asks for.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg
from tests.postgres import postgres

from airflow_detection.plan_cache import source
from airflow_detection.registration.apply import apply_file
from airflow_detection.store import registry
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from benchmarks._delay import delayed

CYCLES, MODELS, REPEATS = 300, 12, 9
ROUND_TRIPS_MS = (0, 5)
STATEMENT = """
select c.*, m.*, v.version_id, v.version, v.params, coalesce(v.entrypoint, m.entrypoint) as entrypoint,
       r.role::text,
       array(select d.depends_on::text from detection.detection_model_dependencies d
              where d.model_id = m.model_id and d.superseded_at is null order by d.depends_on) as depends_on
  from detection.detection_cycles c
  join detection.detection_models m using (cycle_id)
  join detection.detection_model_roles r on r.model_id = m.model_id and r.superseded_at is null
   and r.valid @> clock_timestamp()
  join detection.detection_model_versions v on v.version_id = r.version_id
"""


def run(cycles: int = CYCLES, models: int = MODELS) -> Iterator[dict[str, Any]]:  # Any: JSON objects
    """Yield a line for each distance: the whole registry, and the cycle of one Dag."""
    with postgres(is_durable=False) as server:  # only read from, once it is filled
        with connect(server) as conn:
            conn.execute("create database detection_registry")
        dsn = psycopg.conninfo.make_conninfo(server, dbname="detection_registry")
        with connect(dsn) as conn:
            migrate(Database(conn, "detection"))
            yield _apply(Database(conn, "detection"), cycles, models)
            conn.execute("vacuum analyze")
        for rtt_ms in ROUND_TRIPS_MS:
            with delayed(dsn, rtt_ms / 1000) as far:
                ours_ms, one_dag_ms, statement_ms = _medians(
                    partial(_read, far, None),
                    partial(_read, far, "detection_bay_0007"),
                    partial(_single_statement, far),
                )
            yield {
                "bench": "registry",
                "case": f"round trip of {rtt_ms} ms",
                "n": cycles * models,
                "repeats": REPEATS,
                "ours_ms": ours_ms,
                "one_dag_ms": one_dag_ms,
                "single_statement_ms": statement_ms,
                "speedup_vs_single_statement": round(statement_ms / ours_ms, 2),
            }


def _registration(cycles: int, models: int) -> str:
    """Return a registration file: in each cycle a chain of models with a champion each."""
    lines = ["cycles:"]
    settings = "{schedule: '*/5 * * * *', lookback: 1h, start_date: 2026-01-01T00:00:00Z}"
    lines += [f"  bay_{number:04}: {settings}" for number in range(cycles)]
    lines.append("models:")
    for number in range(cycles * models):
        cycle_id, place = f"bay_{number // models:04}", number % models
        upstream = f"depends_on: [m_{number - 1:05}], " if place else ""
        version = f"'1.0': {{role: PRIMARY, params: {{limit: {place}}}}}"
        own = f"cycle: {cycle_id}, entrypoint: 'acme.models:Model', entity_key: id, {upstream}"
        lines.append(f"  m_{number:05}: {{{own}versions: {{{version}}}}}")
    return "\n".join(lines)


def _apply(db: Database, cycles: int, models: int) -> dict[str, Any]:  # Any: a JSON object
    """Register everything, and again, which changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "registry.yaml"
        file.write_text(_registration(cycles, models))
        start_s = perf_counter()
        changes = apply_file(db, file)
        applied_s = perf_counter()
        assert len(changes) == cycles + 3 * cycles * models, len(changes)
        assert apply_file(db, file) == []
        again_s = perf_counter()
    return {
        "bench": "registry",
        "case": "apply",
        "n": cycles * models,
        "ours_ms": round((applied_s - start_s) * 1000),
        "again_ms": round((again_s - applied_s) * 1000),
    }


def _read(dsn: str, dag_id: str | None) -> None:
    with connect(dsn) as conn:
        db = Database(conn, "detection")
        with registry.with_shared_lock(db, limit_s=source.CONNECT_TIMEOUT_S):
            known, _ = source.registered_now(db, dag_id)
    assert len(known.cycles) == (1 if dag_id else CYCLES)
    assert len(known.cycles[0].models) == MODELS


def _single_statement(dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        assert len(conn.execute(STATEMENT).fetchall()) == CYCLES * MODELS


def _medians(*works: Callable[[], None]) -> list[float]:
    """Return the median milliseconds of each, taken in turns."""
    times: list[list[float]] = [[] for _ in works]
    for number in range(REPEATS + 1):
        for work, own in zip(works, times, strict=True):
            start_s = perf_counter()
            work()
            if number:
                own.append((perf_counter() - start_s) * 1000)
    return [round(statistics.median(own), 1) for own in times]
