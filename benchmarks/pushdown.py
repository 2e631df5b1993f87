"""An SQL model of 100,000 rows beside the same rows through Python: the engine's way, and execute_values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import psycopg2
from tests.postgres import postgres

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import ModelSpec, Outcome
from airflow_detection.engine.job import run_version
from airflow_detection.engine.model import BaseDetectionModel
from airflow_detection.engine.sql_model import SqlDetectionModel
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.reader import Reader
from benchmarks._workload import SCHEMA, BenchDatabase, Row, bench_database, line, take_turns
from benchmarks.persist import Ready, execute_values, reset

ROWS, REPEATS = 100_000, 5
MODEL = ModelSpec(model_id="spoofing", cycle_id="bench", score_key="score", entity_key="entity")
SOURCE = """
create table detection.sightings as
select 200000000 + n as mmsi, case when n % 100 = 0 then 0.9 else 0.25 end::float8 as score,
       jsonb_build_object('evidence', repeat('x', 230), 'hops', n % 5, 'knots', 87.25) as outputs
  from generate_series(1, 100000) n
"""


class Pushed(SqlDetectionModel):
    """SQL model whose outputs are the rows of a table."""

    statement: ClassVar[str] = "select mmsi as entity, score, outputs from sightings"


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield one line."""
    with (
        postgres() as server,
        bench_database(server) as database,
        contextlib.closing(psycopg2.connect(database.dsn)) as psycopg2_conn,
    ):
        database.conn.execute(SOURCE)
        database.conn.execute("vacuum analyze detection.sightings")
        _engine(database, Pushed("spoofing", "1"))
        stored = database.conn.execute(
            "select entity_id, outputs from detection.detection_model_run_outputs"
        ).fetchall()
        ready: list[Row] = [({"entity": entity}, {"entity": entity, **outputs}) for entity, outputs in stored]
        contestants = {
            "ours": partial(_engine, database, Pushed("spoofing", "1")),
            "execute_values": partial(execute_values, psycopg2_conn, database, ready, "entity"),
            "through_python": partial(_engine, database, Ready(ready)),
        }
        times_ms = take_turns(contestants, REPEATS, lambda: reset(database))
        yield line("pushdown", f"{ROWS} rows", ROWS, times_ms)


def _engine(database: BenchDatabase, model: BaseDetectionModel) -> None:
    cycle = database.cycle(0)
    params: JsonMapping = {"window_start": cycle.window.start, "window_end": cycle.window.end}
    report = run_version(
        MODEL, database.version, cycle, detector=model, inputs=Inputs(), shared={},
        store=PostgresStore(database.conn, database.reader, SCHEMA),
        database=Reader(Database(database.reader, SCHEMA), params),
    )  # fmt: skip
    assert report.outcome is Outcome.SUCCEEDED, report.error
