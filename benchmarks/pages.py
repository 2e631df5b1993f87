"""The answers of the pages beside a day of 288 cycles x 20 versions x 1000 outputs: a line for each route.

`ours_ms` is the 95th percentile of warm requests, through the application as the API server mounts it, and
`cpu_ms` the processor time of one, the database's included; Airflow's own answer to who may read which Dag is
left out.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter, process_time
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from demo.airflow_env import airflow_connection
from tests.postgres import postgres

from airflow_detection.engine.plan import build_plan
from airflow_detection.snapshot.collector import hourly
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.store import registry
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, add_labels
from airflow_detection.store.migrations import migrate
from benchmarks.snapshot import CYCLES, DAY, ENTITIES, MODELS, SCHEMA, VERSIONS, fill

REPEATS, WARM_UP = 40, 3
LIMIT_MS, COMPARISON_MS = 300.0, 2_000.0
HOURS = 24


def run(cycles: int = CYCLES, entities: int = ENTITIES) -> Iterator[dict[str, Any]]:  # Any: JSON objects
    """Yield a line for each route."""
    with postgres(is_durable=False) as server:  # only read from, once it is filled
        with connect(server) as conn:
            conn.execute("drop database if exists detection_pages with (force)")
            conn.execute("create database detection_pages")
        dsn = psycopg.conninfo.make_conninfo(server, dbname="detection_pages")
        with connect(dsn) as conn:
            migrate(Database(conn, SCHEMA))
            fill(conn, cycles=cycles, entities=entities)
            _complete(conn, cycles)
            postmaster = psutil.Process(conn.info.backend_pid).parent()
            event_id = _one(conn, "select max(event_id) from detection.detection_events")
            snapshot_id = _one(conn, "select max(snapshot_id) from detection.detection_snapshots")
        with _client(dsn) as get:
            for case, (path, limit_ms) in _routes(cycles, event_id, snapshot_id).items():
                repeats = REPEATS if limit_ms == LIMIT_MS else REPEATS // 8
                times, cpu_ms = _times(get, path, repeats, postmaster)
                p95 = sorted(times)[int(0.95 * (len(times) - 1))]
                yield {
                    "bench": "pages",
                    "case": case,
                    "n": cycles * MODELS * VERSIONS * entities,
                    "repeats": len(times),
                    "ours_ms": round(p95, 1),
                    "median_ms": round(sorted(times)[len(times) // 2], 1),
                    "cpu_ms": round(cpu_ms, 1),
                    "load": round(os.getloadavg()[0], 1),
                    "limit_ms": limit_ms,
                    "speedup_vs_limit": round(limit_ms / p95, 2),
                }


def _routes(cycles: int, event_id: int, snapshot_id: int) -> dict[str, tuple[str, float]]:
    """Return the paths by case, each with the milliseconds that it may take."""
    at = quote((DAY + (cycles - 1) * timedelta(minutes=5)).isoformat())
    two = "first=model_1@1&second=model_1@2"
    of_run = f"model_id=model_1&version=2&at={at}"
    paths = {
        "overview": "overview",
        "headline": "headline",
        "model": "models/model_1",
        "series of a day": "models/model_1/series",
        "plan": "cycles/fleet/plan",
        "plan as a picture": "cycles/fleet/plan.svg",
        "cycles": "cycles/fleet/runs",
        "one cycle": f"cycles/fleet/runs/{at}",
        "findings": f"findings?{of_run}",
        "outputs": f"findings/outputs?{of_run}",
        "outputs searched": f"findings/outputs?{of_run}&q=9",
        "entity": "entities/ship%207",
        "entities": "entities?q=ship%207",
        "events": "events",
        "events filtered": "events?severity=HIGH&status=OPEN&entity_id=ship%207",
        "event": f"events/{event_id}",
        "promotions": "promotions",
        "reports": "reports",
        "report": f"reports/{snapshot_id}",
    }
    slow = {
        "comparison of a day": f"compare?{two}",
        "entities that differ in a day": f"compare/entities?{two}",
        "entities that flip in a day": f"compare/entities?{two}&only=flips",
    }
    return {case: (path, LIMIT_MS) for case, path in paths.items()} | {
        case: (path, COMPARISON_MS) for case, path in slow.items()
    }


def _complete(conn: Connection, cycles: int) -> None:
    """Record plans, a day of reports and labels: what the pages read besides results."""
    db = Database(conn, SCHEMA)
    plan = build_plan(registry.models_at(db, "fleet", DAY), strict=False)
    conn.execute("update detection.detection_cycle_runs set plan = %s", [json.dumps(plan.to_json())])
    end = DAY + cycles * timedelta(minutes=5)
    stored, _ = hourly(db, sections(), at=end)
    conn.execute(
        "insert into detection.detection_snapshots (kind, taken_at, covers, format_version, report)"
        " select kind, taken_at, tstzrange(lower(covers) - n * interval '1 hour',"
        " upper(covers) - n * interval '1 hour'), format_version, report"
        " from detection.detection_snapshots, generate_series(1, %s) n where snapshot_id = %s",
        [30 * HOURS, stored.snapshot_id],
    )
    add_labels(
        db,
        [
            Label(cycle_id="fleet", model_id="model_1", entity_id=f"ship {n}", valid_from=DAY, valid_to=end,
                  is_positive=n % 3 == 0, source="bench")
            for n in range(1, 301)
        ],
    )  # fmt: skip
    conn.execute("vacuum analyze")


def _one(conn: Connection, query: str) -> int:
    row = conn.execute(query.encode()).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


@contextmanager
def _client(dsn: str) -> Iterator[Any]:  # Any: a client of the application
    """The application in this process, for a user who may read everything."""
    with tempfile.TemporaryDirectory() as home, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.environ |= {"AIRFLOW_HOME": home, "AIRFLOW_CONN_DETECTION_DEFAULT": airflow_connection(dsn)}
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        from airflow.api_fastapi.core_api.security import get_user
        from fastapi.testclient import TestClient

        from airflow_detection.ui import access
        from airflow_detection.ui.service import create_app

        app = create_app()
        app.dependency_overrides[access.signed_in] = lambda: None
        app.dependency_overrides[get_user] = lambda: None
        vars(access)["authorized_dags"] = lambda _user, of, _method: set(of)
        with TestClient(app) as client:
            yield client


def _times(
    client: Any, path: str, repeats: int, postmaster: Any
) -> tuple[list[float], float]:  # Any: as `_client`, a process
    """Return the milliseconds of warm requests, and the processor's milliseconds of one."""
    times, cpu_start_s = list[float](), 0.0
    for number in range(repeats + WARM_UP):
        if number == WARM_UP:
            cpu_start_s = _cpu_s(postmaster)
        start_s = perf_counter()
        answer = client.get(f"/api/{path}")
        if number >= WARM_UP:
            times.append((perf_counter() - start_s) * 1000)
        assert answer.status_code == 200, f"{path}: {answer.text}"
    return times, (_cpu_s(postmaster) - cpu_start_s) * 1000 / repeats


def _cpu_s(postmaster: Any) -> float:  # Any: a process
    """Return the CPU seconds of this process and of the server's, ended ones included."""
    times = [postmaster.cpu_times(), *(child.cpu_times() for child in postmaster.children())]
    ended = times[0].children_user + times[0].children_system
    return float(process_time() + ended + sum(own.user + own.system for own in times))
