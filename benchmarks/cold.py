"""A cold table partition to Parquet, beside the same file unchecked; one entity's history with an index.

`BENCH_ROWS` rows (a million unless set) of the workload, a thousand a cycle. The peer of the export copies,
parses and writes one file in one piece; ours cuts, digests, writes, reads again and compares. Memory is what
the process grew by at its peak in the first export.
"""

from __future__ import annotations

import io
import json
import os
import resource
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pyarrow import csv, parquet
from tests.postgres import postgres

from airflow_detection.operators.partition_files import partition_files
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import read_table
from airflow_detection.store.partitions.export import export_table
from airflow_detection.store.partitions.plan import Action, ActionKind, Phase
from airflow_detection.store.partitions.upkeep import apply
from benchmarks._workload import AT, BenchDatabase, bench_database, line, rows, take_turns

ROWS = int(os.environ.get("BENCH_ROWS", "1000000"))
A_CYCLE = 1_000
TABLE = "detection_model_run_outputs"
COPY_IN = """
copy detection.detection_model_run_outputs
    (cycle_started_at, model_id, version_id, role, entity_id, score, input_ref, outputs) from stdin
"""
HISTORY = """
select cycle_started_at, score, outputs from detection.detection_model_run_outputs
 where entity_id = '200000007' and model_id = 'spoofing' and cycle_started_at >= %s and cycle_started_at < %s
 order by cycle_started_at
"""


def run() -> Iterator[dict[str, Any]]:  # Any: JSON
    """Yield a line for the history, and one for the export."""
    with postgres() as server, bench_database(server) as database, TemporaryDirectory() as folder:
        _fill(database)
        yield _history(database)
        yield _export(database, Path(folder))


def _fill(database: BenchDatabase) -> None:
    with database.conn.cursor() as cursor, cursor.copy(COPY_IN) as copy:
        for number, (ref, output) in enumerate(rows(ROWS)):
            entity = 200_000_000 + number % A_CYCLE
            at = AT + number // A_CYCLE * timedelta(minutes=1)
            copy.write_row((
                at, "spoofing", database.version.version_id, "PRIMARY", str(entity), output["score"],
                json.dumps(ref | {"mmsi": entity}), json.dumps(output | {"mmsi": entity}),
            ))  # fmt: skip
    database.conn.execute(f"vacuum analyze detection.{TABLE}")


def _history(database: BenchDatabase) -> dict[str, Any]:  # Any: JSON
    span = (AT, AT + timedelta(days=31))

    def read() -> None:
        assert len(database.conn.execute(HISTORY, span).fetchall()) == ROWS // A_CYCLE

    without = take_turns({"without_index": read}, 5)
    database.conn.execute(
        "update detection.detection_partition_policies set entity_index = true where table_name = %s",
        (TABLE,),
    )
    began_s = time.perf_counter()
    report = apply(Database(database.conn), Phase.ENSURE, now=_clock(database))
    index_s = time.perf_counter() - began_s
    assert report.is_success, report.lines()
    (index_bytes,) = database.conn.execute(
        "select sum(pg_relation_size(indexrelid))::bigint from pg_index"
        " where indexrelid::regclass::text like '%\\_by\\_entity'"
    ).fetchone() or (0,)
    times = {**take_turns({"ours": read}, 5), **without}
    return line("cold", "history of an entity", ROWS, times, index_s=round(index_s, 1),
                index_bytes_a_row=round(index_bytes / ROWS, 1))  # fmt: skip


def _clock(database: BenchDatabase) -> Any:  # Any: an instant
    return (database.conn.execute("select clock_timestamp()").fetchone() or (None,))[0]


def _export(database: BenchDatabase, folder: Path) -> dict[str, Any]:  # Any: JSON
    db = Database(database.conn)
    child = next(p for p in read_table(db, TABLE).partitions if p.lower and p.lower <= AT < (p.upper or AT))
    database.conn.execute(f"alter table detection.{TABLE} detach partition detection.{child.name}")
    (table_bytes, all_bytes) = database.conn.execute(
        "select pg_table_size(%(oid)s::bigint::oid), pg_total_relation_size(%(oid)s::bigint::oid)",
        {"oid": child.oid},
    ).fetchone() or (0, 0)
    action = Action(
        kind=ActionKind.EXPORT, table=TABLE, partition=child.name, lower=child.lower, upper=child.upper,
        oid=child.oid, namespace=child.namespace,
    )  # fmt: skip
    files, sizes = partition_files(), list[int]()
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def ours() -> None:
        sizes.append(export_table(db, action, f"file://{folder}/ours", files)[1].size_bytes)

    ours()
    peak_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024

    def peer() -> None:
        content = io.BytesIO()
        text = f"copy (select * from detection.{child.name}) to stdout (format csv, header)"  # noqa: S608
        with database.conn.cursor() as cursor, cursor.copy(text) as copy:
            for row in copy:
                content.write(row)
        content.seek(0)
        table = csv.read_csv(content, parse_options=csv.ParseOptions(newlines_in_values=True))
        parquet.write_table(table, folder / "peer.parquet", compression="zstd")

    cpu_s = time.process_time()
    ours()
    cpu_s = time.process_time() - cpu_s
    times = take_turns({"ours": ours, "unchecked_parquet": peer}, 3)
    return line("cold", "export", ROWS, times, bytes_a_row=round(sizes[-1] / ROWS, 1),
                table_bytes_a_row=round(table_bytes / ROWS), with_indexes_a_row=round(all_bytes / ROWS),
                peak_memory_mb=round(peak_mb),
                cpu_s=round(cpu_s, 1))  # fmt: skip
