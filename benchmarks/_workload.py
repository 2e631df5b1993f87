"""Workload of the store's benchmarks: a registered model, its outputs, and rounds of contestants in turns."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from statistics import median
from typing import Any

from psycopg.conninfo import make_conninfo

from airflow_detection.domain.specs import Cycle, CycleSpec, ModelSpec, Role, VersionSpec
from airflow_detection.store import registry
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from airflow_detection.store.partitions.create import ensure_cycle_months

SCHEMA = "detection"
AT = datetime(2026, 3, 1, tzinfo=UTC)
EVENT_SHARE = 0.01  # outputs that score above 0.5 and so become events
Row = tuple[dict[str, Any], dict[str, Any]]  # Any: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchDatabase:
    """Database with one registered model; `conn` writes, `reader` reads."""

    dsn: str
    conn: Connection
    reader: Connection
    model: ModelSpec
    version: VersionSpec

    def cycle(self, number: int) -> Cycle:
        """Return the cycle that starts `number` steps of five minutes into the month."""
        started_at = AT + number * timedelta(minutes=5)
        return Cycle(cycle_id="bench", started_at=started_at, lookback=timedelta(hours=1))


@contextmanager
def bench_database(server: str) -> Iterator[BenchDatabase]:
    """Database of its own on the server, dropped afterwards."""
    name = "detection_bench"
    with connect(server) as admin:
        admin.execute("drop database if exists detection_bench with (force)")
        admin.execute("create database detection_bench")
    dsn = make_conninfo(server, dbname=name)
    try:
        with connect(dsn) as conn, connect(dsn) as reader:
            migrate(Database(conn, SCHEMA))
            yield BenchDatabase(
                dsn=dsn, conn=conn, reader=reader, model=MODEL, version=_register(conn, MODEL, Role.PRIMARY)
            )
    finally:
        with connect(server) as admin:
            admin.execute("drop database if exists detection_bench with (force)")


MODEL = ModelSpec(
    model_id="spoofing", cycle_id="bench", entrypoint="bench:Model", score_key="score", entity_key="mmsi"
)


def _register(conn: Connection, model: ModelSpec, role: Role) -> VersionSpec:
    spec = CycleSpec(
        cycle_id="bench", schedule="*/5 * * * *", lookback=timedelta(hours=1), start_date=AT, time_key=None
    )
    registry.put_cycle(Database(conn, SCHEMA), spec)
    registry.put_model(Database(conn, SCHEMA), model)
    version_id = registry.put_version(Database(conn, SCHEMA), model_id=model.model_id, version="1", params={})
    ensure_cycle_months(Database(conn, SCHEMA), AT)
    return VersionSpec(model_id=model.model_id, version="1", role=role, version_id=version_id)


def rows(count: int) -> Iterator[Row]:
    """Yield rows of 100 bytes of input_ref and 300 of outputs as JSON; one in a hundred scores above 0.5."""
    rng = Random(1)
    for number in range(count):
        mmsi = 200_000_000 + number
        score = 0.51 + 0.49 * rng.random() if rng.random() < EVENT_SHARE else 0.5 * rng.random()
        ref = {"mmsi": mmsi, "first": "2026-03-01T00:00:00Z", "n": number % 97, "source": "terrestrial-aaaa"}
        evidence = [
            {
                "lat": 54.3 + number % 7,
                "lon": 10.1 + number % 11,
                "knots": 87.25,
                "at": "2026-03-01T00:00:00Z",
            }
            for _ in range(3)
        ]
        yield ref, {"mmsi": mmsi, "score": score, "severity": None, "evidence": evidence, "hops": number % 5}


def take_turns(
    contestants: Mapping[str, Callable[[], object]], repeats: int, reset: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Return the milliseconds of each contestant: all run once a round, and the first round warms up."""
    times_ms: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(repeats + 1):
        for name, contestant in contestants.items():
            reset()
            gc.collect()
            start_s = time.perf_counter()
            contestant()
            elapsed_ms = (time.perf_counter() - start_s) * 1000
            if number:
                times_ms[name].append(elapsed_ms)
    return times_ms


def line(
    bench: str, case: str, n: int, times_ms: Mapping[str, Sequence[float]], **more: object
) -> dict[str, Any]:  # Any: JSON
    """Return one result: medians, each peer's time as a multiple of ours, spreads of (max - min) / median."""
    ours = median(times_ms["ours"])
    result: dict[str, Any] = {"bench": bench, "case": case, "n": n, "ours_ms": _rounded(ours)}
    for name, times in times_ms.items():
        if name != "ours":
            result[f"{name}_ms"] = _rounded(median(times))
            result[f"speedup_vs_{name}"] = round(median(times) / ours, 2)
    spread = {name: round((max(times) - min(times)) / median(times), 2) for name, times in times_ms.items()}
    return {**result, "repeats": len(times_ms["ours"]), "spread": spread, **more}


def _rounded(ms: float) -> float:
    return round(ms, 3 if ms < 10 else 1)
