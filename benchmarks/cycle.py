"""A cycle of 12 champions and 8 shadows with empty bodies in a real Airflow, beside plain no-op tasks."""

from __future__ import annotations

import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from demo.airflow_env import COMPONENTS, airflow_program, process_environment, shared_environment
from demo.api import Airflow
from demo.postgres import Databases
from demo.programs import Supervisor
from demo.settings import CHECKOUT, Settings, free_port
from demo.state import open_state
from psycopg.conninfo import make_conninfo
from tests.postgres import postgres

from airflow_detection.domain.specs import Execution
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from benchmarks._empty_models import register, write_dags

SCHEMA = "detection"
ROUNDS = 7
LIMIT = 1.15
START_TIMEOUT_S, RUN_TIMEOUT_S, POLL_S = 180.0, 120.0, 0.1
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAGS = {"ours": "detection_bench", "noop_dag": "noop", "inline": "detection_bench_inline"}


@contextmanager
def _databases() -> Iterator[Databases]:
    with postgres() as server, psycopg.connect(server, autocommit=True) as conn:
        names = {"registry": "bench_cycle", "metadata": "bench_cycle_airflow"}
        for name in names.values():
            conn.execute(f"drop database if exists {name} with (force)".encode())
            conn.execute(f"create database {name}".encode())
        registry, metadata = (make_conninfo(server, dbname=name) for name in names.values())
        yield Databases(where="", owner=registry, registry=registry, metadata=metadata)


@contextmanager
def _airflow(folder: Path, databases: Databases) -> Iterator[Airflow]:
    """A running Airflow as the demo starts it: LocalExecutor, scheduler_idle_sleep_time of 0.1 s."""
    settings = Settings(state=folder, cycles=1, port=free_port(), once=True, ais=None, dsn=None)
    shared = shared_environment(settings, open_state(folder), databases)
    shared["AIRFLOW__CORE__DAGS_FOLDER"] = str(folder / "dags")
    shared["AIRFLOW__DETECTION__ALLOWED_MODULES"] = "benchmarks"
    shared["AIRFLOW__DETECTION__PLAN_TTL"] = "3600"
    env = process_environment(shared) | {"PYTHONPATH": str(CHECKOUT)}
    write_dags(folder / "dags", CHECKOUT)
    with Supervisor(settings.logs, folder / "supervisor.pid") as supervisor:
        migration = airflow_program("db-migrate", "db", "migrate", settings=settings, env=env)
        supervisor.start(migration)
        supervisor.finish(migration)
        for name, arguments in COMPONENTS.items():
            supervisor.start(airflow_program(name, *arguments, settings=settings, env=env))
        airflow = Airflow(f"http://127.0.0.1:{settings.port}")
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not (airflow.healthy() and all(map(airflow.has_dag, DAGS.values()))):
            supervisor.check()
            assert time.monotonic() < deadline_s, "Airflow did not become healthy"
            time.sleep(0.5)
        for dag_id in DAGS.values():
            airflow.unpause(dag_id)
        time.sleep(5.0)  # until the components are idle
        yield airflow


def _run(airflow: Airflow, dag_id: str, at: datetime) -> float:
    """Run a Dag once; return the milliseconds from the run's start to its end, as Airflow recorded them."""
    call, run_id = airflow._call, f"bench-{uuid.uuid4().hex}"  # noqa: SLF001
    path = f"/api/v2/dags/{dag_id}/dagRuns"
    call("POST", path, {"dag_run_id": run_id, "logical_date": at.isoformat()})
    deadline_s = time.monotonic() + RUN_TIMEOUT_S
    run: dict[str, Any] = {}
    while run.get("state") not in ("success", "failed"):
        assert time.monotonic() < deadline_s, f"{dag_id} did not end"
        time.sleep(POLL_S)
        run = call("GET", f"{path}/{run_id}")
    assert run["state"] == "success", f"{dag_id} failed"
    start, end = (datetime.fromisoformat(run[key]) for key in ("start_date", "end_date"))
    return (end - start).total_seconds() * 1000


def run() -> dict[str, object]:
    """Return the milliseconds of a run, medians over rounds; `ratio` is ours to no-ops, `limit` its bound."""
    times_ms: dict[str, list[float]] = {name: [] for name in DAGS}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, _databases() as databases:
        with connect(databases.registry) as conn:
            migrate(Database(conn, SCHEMA))
            register(conn, SCHEMA, "bench", "m", Execution.TASK)
            register(conn, SCHEMA, "bench_inline", "n", Execution.INLINE)
        with _airflow(Path(folder), databases) as airflow:
            for number in range(ROUNDS + 1):
                for name, dag_id in DAGS.items():
                    elapsed_ms = _run(airflow, dag_id, FIRST + timedelta(minutes=5 * number))
                    if number:  # the first warms up
                        times_ms[name].append(elapsed_ms)
        with connect(databases.registry) as conn:
            _check(conn)
    medians = {name: statistics.median(times) for name, times in times_ms.items()}
    return {
        "bench": "cycle",
        "n": 20,
        "repeats": ROUNDS,
        **{f"{name}_ms": round(ms) for name, ms in medians.items()},
        **{f"{name}_spread_ms": [round(min(times)), round(max(times))] for name, times in times_ms.items()},
        "speedup_vs_noop_dag": round(medians["noop_dag"] / medians["ours"], 3),
        "speedup_vs_inline": round(medians["inline"] / medians["ours"], 3),
        "ratio": round(medians["ours"] / medians["noop_dag"], 3),
        "limit": LIMIT,
    }


def _check(conn: Any) -> None:
    """Check that every version has succeeded in every round, in task mode and in inline mode."""
    query = (
        "select cycle_id, count(*) from detection.detection_model_runs"
        " where outcome = 'SUCCEEDED' and cycle_started_at < %s group by cycle_id"
    )
    end = FIRST + timedelta(minutes=5 * (ROUNDS + 1))  # the last tick of the day is scheduled
    counts = dict(conn.execute(query, [end]).fetchall())
    assert counts == dict.fromkeys(("bench", "bench_inline"), 20 * (ROUNDS + 1)), counts
