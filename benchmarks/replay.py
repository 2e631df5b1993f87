"""A challenger over past cycles of a real day of ship positions: a replay, a run of each cycle, its own time.

`each_cycle` is what the task of a backfill does for a cycle, without Airflow around it; `model` is the model
alone: its `run` and the outputs that it gives, in the replay. Milliseconds of wall a cycle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

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

MODEL_MS = """
select avg((stage_ms->>'run')::float8 + (stage_ms->>'outputs')::float8)
  from detection.detection_model_runs where is_replay
"""
ROWS = """
select r.cycle_started_at, r.input_digest, r.output_count, r.output_digest
  from detection.detection_model_runs r where is_replay order by 1
"""


def run() -> Iterator[dict[str, Any]]:  # Any: a JSON object
    """Yield the result line; fails unless both ways leave the same digests."""
    if not POSITIONS.exists():
        yield {"skipped": "the NOAA day is not here"}
        return
    with postgres() as server, connect(new_database(server)) as conn:
        db = Database(conn, SETTINGS.schema)
        migrate(db, packs=("maritime",))
        apply_file(db, REGISTRY)
        load_file(conn, POSITIONS, schema=SETTINGS.schema)
        conn.execute("analyze")
        for at in CYCLES:
            planning.open_cycle(db, "maritime", at, mode=Mode.AS_OF)
            inline.run_inline(db, SETTINGS, "maritime", at, mode=Mode.AS_OF)
        each_ms, ours_ms, model_ms, rows = [], [], [], []
        for _ in range(ROUNDS):  # in turns
            each_ms.append(_timed(lambda: _each_cycle(db)))
            rows.append(conn.execute(ROWS).fetchall())
            ours_ms.append(_timed(lambda: _replayed(db)))
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


def _timed(work: Any) -> float:  # Any: a function
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000 / len(CYCLES)


def _each_cycle(db: Database) -> None:
    for at in CYCLES:
        opened = planning.open_cycle(db, "maritime", at, mode=Mode.OVERRIDE, replay=[LABEL])
        inline.run_steps(db, SETTINGS, opened, opened.steps)
        closing.close_cycle(db, "maritime", at, mode=Mode.OVERRIDE, task_states={})


def _replayed(db: Database) -> None:
    outcomes: Sequence[Outcome] = [
        r.report.outcome for r in replay(db, SETTINGS, "maritime", [LABEL], CYCLES)
    ]
    assert set(outcomes) == {Outcome.SUCCEEDED}


def _number(conn: Connection, query: str) -> float:
    (value,) = conn.execute(query.encode()).fetchone() or (0.0,)
    return float(value)
