"""Storing outputs: the engine's whole path beside execute_values with Json, and COPY of ready bytes.

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
from benchmarks._workload import SCHEMA, BenchDatabase, Row, line, rows, sea, take_turns

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
    """A model that has its outputs already."""

    def __init__(self, held: list[Row]) -> None:
        super().__init__("spoofing", "1")
        self.held = held

    def run(self, ctx: ModelContext) -> ModelResult:
        """Return them."""
        return ModelResult(outputs_per_input=self.held)


class Generated(Ready):
    """A model whose outputs are computed as they are stored."""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Return a generator."""
        return ModelResult(outputs_per_input=(pair for pair in self.held))


def engine(place: BenchDatabase, model: BaseDetectionModel) -> None:
    """Run and store one version as a task does."""
    store = PostgresStore(place.conn, place.reader, SCHEMA)
    report = run_version(
        place.model, place.version, place.cycle(0), detector=model, inputs=Inputs(), shared={}, store=store
    )
    assert report.outcome is Outcome.SUCCEEDED, report.error


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """A line for each number of rows, from a list and from a generator, and one for the memory."""
    with postgres() as server, sea(server) as place:
        old = psycopg2.connect(place.dsn)
        for count, repeats in SIZES.items():
            held = list(rows(count))
            engine(place, Ready(held))
            with place.conn.cursor().copy(COPY_OUT) as copy:
                chunks = [bytes(chunk) for chunk in copy]
            ready = b"".join(chunks)
            ready_chunks = [ready[i : i + 2**18] for i in range(0, len(ready), 2**18)]
            taken = take_turns(
                {
                    "ours": partial(engine, place, Ready(held)),
                    "generator": partial(engine, place, Generated(held)),
                    "execute_values": partial(execute_values, old, place, held),
                    "copy_limit": partial(_copy, place, ready_chunks),
                },
                repeats,
                lambda: reset(place),
            )
            yield line("persist", f"{count} rows", count, taken)
        old.close()
        yield _memory(place)


def reset(place: BenchDatabase) -> None:
    """Empty the tables."""
    for table in ("model_run_outputs", "model_metrics", "model_runs", "events"):
        place.conn.execute(f"truncate detection.detection_{table}".encode())
    place.conn.execute("checkpoint")


def execute_values(
    old: Any,  # Any: psycopg2 has no types
    place: BenchDatabase,
    held: list[Row],
    entity_key: str = "mmsi",
) -> None:
    """The path that the engine replaces."""
    json = psycopg2.extras.Json
    key = (1.0, place.cycle(0).started_at, "spoofing", place.version.version_id, "PRIMARY", False)
    with old, old.cursor() as cursor:
        psycopg2.extras.execute_values(
            cursor,
            INSERT,
            [(*key, str(out[entity_key]), out["score"], json(ref), json(out)) for ref, out in held],
            page_size=200,
        )


def _copy(place: BenchDatabase, chunks: list[bytes]) -> None:
    with place.conn.cursor() as cursor, cursor.copy(COPY_IN) as copy:
        for chunk in chunks:
            copy.write(chunk)


PEAK = "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
"""Prints the peak memory of a process, in kB."""

PROBE = (
    """
import sys
from benchmarks import persist
from benchmarks._workload import Sea, rows, MODEL
from airflow_detection.domain import Role, VersionSpec
from airflow_detection.store.connection import connect
class Million(persist.Ready):
    def run(self, ctx):
        return persist.ModelResult(outputs_per_input=rows(int(sys.argv[3])))
with connect(sys.argv[1]) as conn, connect(sys.argv[1]) as reader:
    version = VersionSpec(model_id="spoofing", version="1", role=Role.PRIMARY, version_id=int(sys.argv[2]))
    persist.engine(Sea(dsn="", conn=conn, reader=reader, model=MODEL, version=version), Million([]))
"""
    + PEAK
)


def _memory(place: BenchDatabase) -> dict[str, Any]:  # Any: JSON
    """Peak memory of a process that stores a million generated rows, above that of an idle interpreter."""
    reset(place)
    command = [sys.executable, "-c", PROBE, place.dsn, str(place.version.version_id), str(MEMORY_ROWS)]
    peak, idle = (
        int(subprocess.run(c, check=True, capture_output=True, text=True).stdout)
        for c in (command, [sys.executable, "-c", PEAK])
    )
    peak_mb = (peak - idle) / 1024
    facts = {"bench": "persist", "case": "memory", "n": MEMORY_ROWS, "limit_mb": 150}
    return {**facts, "above_idle_mb": round(peak_mb, 1)}
