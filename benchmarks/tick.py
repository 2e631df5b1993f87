"""One tick of many cycles with empty models in a real Airflow with the LocalExecutor, beside no-op tasks.

All cycles are due at the same instant. `tasks` has a task a version, `inline` a cycle in one task;
`noop_dag` is as many no-op tasks as `tasks`, in as many Dags, each in a file of its own: a task parses one
Dag in each mode. `TICK_CYCLES` and `TICK_MODELS` set the size. Milliseconds are from the start of the first
run to the end of the last. Seconds of CPU are those of Airflow's processes, and of Postgres with the
metadata and the registry, divided by the number of tasks.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
from demo.settings import CHECKOUT
from psycopg.conninfo import conninfo_to_dict
from tests.e2e.airflow_instance import AirflowInstance, airflow_instance
from tests.postgres import postgres

from airflow_detection.domain.specs import CycleSpec, Execution, ModelSpec, Role
from airflow_detection.store import registry, roles
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

CYCLES, MODELS = int(os.environ.get("TICK_CYCLES", "100")), int(os.environ.get("TICK_MODELS", "10"))
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
SCHEDULE = "0 0 1 1 *"
TIMEOUT_S = 7200.0
IDLE_S = 15.0
"""Until the components have nothing left to do of their start."""
MODES = {"tasks": Execution.TASK, "inline": Execution.INLINE}
FIGURES = ("tasks_a_s", "cpu_s_a_task", "postgres_cpu_s_a_task")
KINDS = ("tasks", "noop_dag", "inline")
DAG_FILE = CHECKOUT / "dags" / "detection_cycles.py"
NOOP_FILE = '''"""A Dag of no-op tasks, of the shape of a cycle's."""

from datetime import datetime, timezone

from airflow.sdk import DAG, BaseOperator, CronTriggerTimetable


class Noop(BaseOperator):
    def execute(self, context):
        return None


with DAG(
    "{dag_id}",
    schedule=CronTriggerTimetable("{schedule}", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
):
    first, other = Noop(task_id="open_cycle"), Noop(task_id="other_versions")
    models = [Noop(task_id=f"m{{n}}") for n in range({models})]
    first >> models >> other >> Noop(task_id="close_cycle")
'''


def dag_ids(kind: str) -> list[str]:
    """Return the Dags of a kind."""
    return [f"{kind if kind == 'noop_dag' else f'detection_{kind}'}_{number}" for number in range(CYCLES)]


def register(conn: Connection) -> None:
    """Register the cycles of each mode, with models that depend on none and give no outputs."""
    db = Database(conn, "detection")
    for mode, execution in MODES.items():
        for number in range(CYCLES):
            cycle_id = f"{mode}_{number}"
            spec = CycleSpec(
                cycle_id=cycle_id,
                schedule=SCHEDULE,
                lookback=timedelta(hours=1),
                start_date=SINCE,
                execution=execution,
            )
            registry.put_cycle(db, spec)
            for model in range(MODELS):
                model_id = f"{cycle_id}_m{model}"
                registry.put_model(
                    db,
                    ModelSpec(
                        model_id=model_id, cycle_id=cycle_id, entrypoint="benchmarks._empty_models:Empty"
                    ),
                )
                registry.put_version(db, model_id=model_id, version="1", params={})
                roles.assign_role(db, model_id=model_id, version="1", role=Role.PRIMARY, since=SINCE)


def cpu_s(pids: Sequence[int]) -> float:
    """Return the seconds of CPU of processes and their descendants, also of those that have ended."""
    total = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                total += sum(process.cpu_times()[:4])  # its own, and those of children that it waited for
            except psutil.NoSuchProcess:
                continue
    return total


def run() -> Iterator[dict[str, Any]]:  # Any: a JSON object
    """Yield a line for each mode of execution."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, postgres() as server:
        quiet = {
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "3600",
        }
        options = {"allowed_modules": "benchmarks", "plan_ttl": "3600"}
        with airflow_instance(Path(folder), server, environment=quiet, **options) as airflow:
            register(airflow.registry)
            (airflow.dags / "cycles.py").write_text(DAG_FILE.read_text())
            for dag_id in dag_ids("noop_dag"):
                text = NOOP_FILE.format(dag_id=dag_id, models=MODELS, schedule=SCHEDULE)
                (airflow.dags / f"{dag_id}.py").write_text(text)
            airflow.start()
            every = [dag_id for kind in KINDS for dag_id in dag_ids(kind)]
            airflow.wait(lambda: airflow.has_api() and airflow.has_dags(*every), "the start of Airflow")
            time.sleep(IDLE_S)
            data = Path(str(conninfo_to_dict(server)["host"])) / "postmaster.pid"
            postmaster = int(data.read_text().split()[0])
            results = {kind: _tick(airflow, kind, postmaster) for kind in KINDS}
            _check(airflow)
    noop = results["noop_dag"]
    for mode in MODES:
        ours = results[mode]
        yield {
            "case": mode,
            "n": ours["tasks"],
            "cycles": CYCLES,
            "models": MODELS,
            "repeats": 1,
            "ours_ms": ours["ms"],
            "noop_dag_ms": noop["ms"],
            "speedup_vs_noop_dag": round(noop["ms"] / ours["ms"], 3),
            **{key: ours[key] for key in FIGURES},
            **{f"noop_dag_{key}": noop[key] for key in FIGURES},
        }


def _tick(airflow: AirflowInstance, kind: str, postmaster: int) -> dict[str, float]:
    """Let all Dags of a kind be due, and wait until their runs have ended."""
    pids, ids = list(airflow.supervisor.pids.values()), dag_ids(kind)
    alive = [pid for pid in pids if psutil.pid_exists(pid)]
    before = (cpu_s(alive), cpu_s([postmaster]))
    pattern = ids[0].rpartition("_")[0] + "_%"
    airflow.api._call(  # noqa: SLF001
        "PATCH",
        f"/api/v2/dags?update_mask=is_paused&limit=1000&dag_id_pattern={pattern}",
        {"is_paused": False},
    )
    query = "select count(*) from dag_run where dag_id = any(%s) and state = 'success'"
    airflow.wait(lambda: airflow.rows(query, ids) == [(CYCLES,)], f"the end of {kind}", TIMEOUT_S)
    after = (cpu_s(alive), cpu_s([postmaster]))
    ((tasks, seconds),) = airflow.rows(
        "select (select count(*) from task_instance where dag_id = any(%s) and state = 'success'),"
        " extract(epoch from max(end_date) - min(start_date)) from dag_run where dag_id = any(%s)",
        ids, ids,
    )  # fmt: skip
    return {
        "tasks": tasks,
        "ms": round(float(seconds) * 1000),
        "tasks_a_s": round(tasks / float(seconds), 2),
        "cpu_s_a_task": round((after[0] - before[0]) / tasks, 3),
        "postgres_cpu_s_a_task": round((after[1] - before[1]) / tasks, 3),
    }


def _check(airflow: AirflowInstance) -> None:
    """Check that every version has succeeded, once."""
    query = "select count(*) from detection.detection_model_runs where outcome = 'SUCCEEDED'"
    assert airflow.registry.execute(query).fetchone() == (len(MODES) * CYCLES * MODELS,)
