"""Storing outputs: the whole path of the engine, execute_values with Json, and COPY of ready bytes.

Ours makes the report, locks, deletes, encodes, copies, and writes metrics, manifest and events; the peer and
the limit only insert the rows, into the same table with the same indexes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg2
import psycopg2.extras
from tests.postgres import postgres

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.specs import Outcome
from airflow_detection.engine.job import run_version
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.store.outputs import PostgresStore
from benchmarks._workload import SCHEMA, BenchDatabase, Row, bench_database, line, rows, take_turns

SIZES = {1_000: 15, 10_000: 9, 100_000: 5}  # rows: repeats
MEMORY_ROWS = 1_000_000
INSERT = """
insert into detection.detection_model_run_outputs (cycle_duration_ms, cycle_started_at, model_id, version_id,
    role, is_replay, entity_id, score, input_ref, outputs) values %s
"""
COPY_OUT = """
copy (select cycle_duration_ms, cycle_started_at, model_id, version_id, role, is_replay, entity_id, score,
             input_ref, outputs from detection.detection_model_run_outputs) to stdout (format binary)
"""
COPY_IN = """
copy detection.detection_model_run_outputs (cycle_duration_ms, cycle_started_at, model_id, version_id, role,
    is_replay, entity_id, score, input_ref, outputs) from stdin (format binary)
"""


class Ready(BaseDetectionModel):
    """Model that has its outputs already."""

    def __init__(self, outputs: list[Row]) -> None:
        super().__init__("spoofing", "1")
        self.outputs = outputs

    def run(self, ctx: ModelContext) -> ModelResult:
        """Return them."""
        return ModelResult(outputs_per_input=self.outputs)


class Generated(Ready):
    """Model whose outputs come from a generator while they are stored."""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Return a generator."""
        return ModelResult(outputs_per_input=(pair for pair in self.outputs))


def engine(database: BenchDatabase, model: BaseDetectionModel) -> None:
    """Run and store one version as a task does."""
    store = PostgresStore(database.conn, database.reader, SCHEMA)
    report = run_version(
        database.model,
        database.version,
        database.cycle(0),
        detector=model,
        inputs=Inputs(),
        shared={},
        store=store,
    )
    assert report.outcome is Outcome.SUCCEEDED, report.error


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield a line for each number of rows, from a list and from a generator, and one for the memory."""
    with postgres() as server, bench_database(server) as database:
        psycopg2_conn = psycopg2.connect(database.dsn)
        for count, repeats in SIZES.items():
            outputs = list(rows(count))
            engine(database, Ready(outputs))
            with database.conn.cursor().copy(COPY_OUT) as copy:
                chunks = [bytes(chunk) for chunk in copy]
            ready = b"".join(chunks)
            ready_chunks = [ready[i : i + 2**18] for i in range(0, len(ready), 2**18)]
            times_ms = take_turns(
                {
                    "ours": partial(engine, database, Ready(outputs)),
                    "generator": partial(engine, database, Generated(outputs)),
                    "execute_values": partial(execute_values, psycopg2_conn, database, outputs),
                    "copy_limit": partial(_copy, database, ready_chunks),
                },
                repeats,
                lambda: reset(database),
            )
            yield line("persist", f"{count} rows", count, times_ms)
        psycopg2_conn.close()
        yield _memory(database)


def reset(database: BenchDatabase) -> None:
    """Empty the tables."""
    for table in ("model_run_outputs", "model_metrics", "model_runs", "events"):
        database.conn.execute(f"truncate detection.detection_{table}".encode())
    database.conn.execute("checkpoint")


def execute_values(
    psycopg2_conn: Any,  # Any: psycopg2 has no types
    database: BenchDatabase,
    outputs: list[Row],
    entity_key: str = "mmsi",
) -> None:
    """Store the outputs with psycopg2, in the way that the engine replaces."""
    json = psycopg2.extras.Json
    key = (1.0, database.cycle(0).started_at, "spoofing", database.version.version_id, "PRIMARY", False)
    with psycopg2_conn, psycopg2_conn.cursor() as cursor:
        psycopg2.extras.execute_values(
            cursor,
            INSERT,
            [(*key, str(out[entity_key]), out["score"], json(ref), json(out)) for ref, out in outputs],
            page_size=200,
        )


def _copy(database: BenchDatabase, chunks: list[bytes]) -> None:
    with database.conn.cursor() as cursor, cursor.copy(COPY_IN) as copy:
        for chunk in chunks:
            copy.write(chunk)


PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
"""Program that prints its peak memory in kB."""

PROBE = (
    """
import sys
from benchmarks import persist
from benchmarks._workload import BenchDatabase, rows, MODEL
from airflow_detection.domain.specs import Role, VersionSpec
from airflow_detection.store.connection import connect
class Million(persist.Ready):
    def run(self, ctx):
        return persist.ModelResult(outputs_per_input=rows(int(sys.argv[3])))
with connect(sys.argv[1]) as conn, connect(sys.argv[1]) as reader:
    version = VersionSpec(model_id="spoofing", version="1", role=Role.PRIMARY, version_id=int(sys.argv[2]))
    database = BenchDatabase(dsn="", conn=conn, reader=reader, model=MODEL, version=version)
    persist.engine(database, Million([]))
"""
    + PEAK
)


def _memory(database: BenchDatabase) -> dict[str, Any]:  # Any: JSON
    """Return the peak memory of storing a million generated outputs, above that of an idle interpreter."""
    reset(database)
    command = [sys.executable, "-c", PROBE, database.dsn, str(database.version.version_id), str(MEMORY_ROWS)]
    peak, idle = (
        int(subprocess.run(c, check=True, capture_output=True, text=True).stdout)
        for c in (command, [sys.executable, "-c", PEAK])
    )
    peak_mb = (peak - idle) / 1024
    result = {"bench": "persist", "case": "memory", "n": MEMORY_ROWS, "limit_mb": 150}
    return {**result, "above_idle_mb": round(peak_mb, 1)}
