"""A challenger over past cycles of a real day of ship positions: a replay, a run of each cycle, its own time.

`each_cycle` is what the task of a backfill does for a cycle, without Airflow around it; `model` is the model
alone: its `run` and the outputs that it gives, in the replay. `backfill` is a backfill of the first
`BACKFILL_CYCLES` of them in a real Airflow with the LocalExecutor, from the start of its first run to the end
of its last. Milliseconds of wall a cycle.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from demo.settings import CHECKOUT
from tests.e2e.airflow_instance import airflow_instance
from tests.postgres import postgres

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.replay import replay
from airflow_detection.domain.specs import Mode, Outcome
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate
from benchmarks.noaa_day import DAY, POSITIONS, REGISTRY, SETTINGS, STEP, new_database

LABEL = "spoofing@2.0"
CYCLES = [DAY + timedelta(hours=12) + n * STEP for n in range(48)]
ROUNDS = 3
BACKFILLED = CYCLES[: int(os.environ.get("BACKFILL_CYCLES", "24"))]

MODEL_MS = """
select avg((stage_ms->>'run')::float8 + (stage_ms->>'outputs')::float8)
  from detection.detection_model_runs where is_replay
"""
ROWS = """
select r.cycle_started_at, r.input_digest, r.output_count, r.output_digest
  from detection.detection_model_runs r where is_replay order by 1
"""


def run() -> Iterator[dict[str, Any]]:  # Any: a JSON object
    """Yield a line without Airflow and one beside a backfill; fails unless all leave the same digests."""
    if not POSITIONS.exists():
        yield {"skipped": "the NOAA day is not here"}
        return
    with postgres() as server, connect(new_database(server)) as conn:
        db = Database(conn, SETTINGS.schema)
        migrate(db, packs=("maritime",))
        _fill(db, CYCLES)
        each_ms, ours_ms, model_ms, rows = [], [], [], []
        for _ in range(ROUNDS):  # in turns
            each_ms.append(_timed(lambda: _each_cycle(db)))
            rows.append(conn.execute(ROWS).fetchall())
            ours_ms.append(_timed(lambda: _replayed(db, CYCLES)))
            rows.append(conn.execute(ROWS).fetchall())
            model_ms.append(_number(conn, MODEL_MS))
        assert all(found == rows[0] for found in rows), "the two ways differ"
    ours, each, model = (sorted(values)[ROUNDS // 2] for values in (ours_ms, each_ms, model_ms))
    yield {
        "case": LABEL,
        "n": len(CYCLES),
        "repeats": ROUNDS,
        "spread": round(max(ours_ms) / min(ours_ms), 2),
        "ours_ms": round(ours, 1),
        "each_cycle_ms": round(each, 1),
        "model_ms": round(model, 1),
        "speedup_vs_each_cycle": round(each / ours, 2),
        "speedup_vs_model": round(model / ours, 2),
        "beyond_1.2_model_ms": round(ours - 1.2 * model, 1),
        "month_min_on_two_cores": round(ours * 8640 / 2 / 60_000, 1),
    }
    with postgres() as server:
        yield _beside_a_backfill(server)


def _fill(db: Database, cycles: Sequence[datetime]) -> None:
    """Load the day's positions, and run the champions of some cycles."""
    apply_file(db, REGISTRY)
    load_file(db.conn, POSITIONS, schema=SETTINGS.schema)
    db.conn.execute("analyze")
    for at in cycles:
        planning.open_cycle(db, "maritime", at, mode=Mode.AS_OF)
        inline.run_inline(db, SETTINGS, "maritime", at, mode=Mode.AS_OF)


def _beside_a_backfill(server: str) -> dict[str, Any]:  # Any: a JSON object
    dag_id, count = "detection_maritime", len(BACKFILLED)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        airflow_instance(Path(folder), server, plan_ttl="3600") as airflow,
    ):
        db = Database(airflow.registry, SETTINGS.schema)
        _fill(db, BACKFILLED)
        (airflow.dags / "cycles.py").write_text((CHECKOUT / "dags/detection_cycles.py").read_text())
        airflow.start()
        airflow.wait(lambda: airflow.has_api() and airflow.has_dags(dag_id), "the start of Airflow")
        conf = json.dumps({"mode": "override", "replay": [LABEL]})
        airflow.backfill(dag_id, BACKFILLED[0], BACKFILLED[-1], "--dag-run-conf", conf)
        airflow.api.unpause(dag_id)
        ended = "select count(*) from dag_run where run_type = 'backfill' and state = 'success'"
        airflow.wait(lambda: airflow.rows(ended) == [(count,)], "the end of the backfill", 3600.0)
        span = "select extract(epoch from max(end_date) - min(start_date)) from dag_run where run_type = %s"
        ((backfill_s,),) = airflow.rows(span, "backfill")
        backfilled = airflow.registry.execute(ROWS).fetchall()
        airflow.api.pause(dag_id)
        began = time.perf_counter()
        _replayed(db, BACKFILLED)
        ours = (time.perf_counter() - began) * 1000 / count
        assert airflow.registry.execute(ROWS).fetchall() == backfilled, "the two ways differ"
        assert len(backfilled) == count, backfilled
    backfill = float(backfill_s) * 1000 / count
    return {
        "case": f"{LABEL} beside a backfill",
        "n": count,
        "repeats": 1,
        "ours_ms": round(ours, 1),
        "backfill_ms": round(backfill, 1),
        "speedup_vs_backfill": round(backfill / ours, 2),
    }


def _timed(work: Any) -> float:  # Any: a function
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000 / len(CYCLES)


def _each_cycle(db: Database) -> None:
    for at in CYCLES:
        opened = planning.open_cycle(db, "maritime", at, mode=Mode.OVERRIDE, replay=[LABEL])
        inline.run_steps(db, SETTINGS, opened, opened.steps)
        closing.close_cycle(db, "maritime", at, mode=Mode.OVERRIDE, task_states={})


def _replayed(db: Database, cycles: Sequence[datetime]) -> None:
    replayed = replay(db, SETTINGS, "maritime", [LABEL], cycles)
    assert {r.report.outcome for r in replayed} == {Outcome.SUCCEEDED}


def _number(conn: Connection, query: str) -> float:
    (value,) = conn.execute(query.encode()).fetchone() or (0.0,)
    return float(value)
