"""Models and Dags of the cycle benchmark: a model with an empty body, a Dag of no-ops of the same shape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.store.database import Database

CHAMPIONS, SHADOWS = 12, 8
NOOP_DAG = '''"""A Dag of no-ops for the benchmark."""

from airflow.sdk import DAG, BaseOperator

from benchmarks._empty_models import edges


class Noop(BaseOperator):
    def execute(self, context):
        return None


with DAG("noop", schedule=None, catchup=False, max_active_runs=1) as dag:
    tasks = {}
    for upstream, name in edges():
        tasks[name] = Noop(task_id=name)
        if upstream:
            tasks[upstream] >> tasks[name]
    last = Noop(task_id="close_cycle", trigger_rule="all_done")
    for task in tasks.values():
        task >> last
'''


class Empty(BaseDetectionModel):
    """Model that returns no outputs, at once."""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Return no outputs."""
        return ModelResult()


def upstreams_of(number: int) -> tuple[str, ...]:
    """Return the upstream of champion `number`: none for the first four, else the one four places before."""
    return (f"m{number - 4}",) if number >= 4 else ()


def edges() -> Iterator[tuple[str | None, str]]:
    """Yield (upstream, task id) of every task but the last, upstreams first."""
    yield None, "open_cycle"
    for number in range(CHAMPIONS):
        yield (*upstreams_of(number), "open_cycle")[0], f"m{number}"
    for number in range(SHADOWS):
        yield f"m{number}", f"m{number}__2"


def register(conn: Any, schema: str, cycle_id: str, prefix: str, execution: Any) -> None:
    """Register the cycle with its champions and shadows; model ids begin with `prefix`."""
    from datetime import UTC, datetime, timedelta

    from airflow_detection.domain.specs import CycleSpec, ModelSpec, Role
    from airflow_detection.store import registry, roles

    since = datetime(2026, 1, 1, tzinfo=UTC)
    spec = CycleSpec(
        cycle_id=cycle_id,
        schedule="*/5 * 1 3 *",  # manual runs of the benchmark are ticks of it
        lookback=timedelta(hours=1),
        start_date=since,
        execution=execution,
    )
    registry.put_cycle(Database(conn, schema), spec)
    for number in range(CHAMPIONS):
        model = ModelSpec(
            model_id=f"{prefix}{number}",
            cycle_id=cycle_id,
            entrypoint="benchmarks._empty_models:Empty",
            depends_on=tuple(name.replace("m", prefix) for name in upstreams_of(number)),
        )
        registry.put_model(Database(conn, schema), model)
        for version, role in (("1", Role.PRIMARY), ("2", Role.SHADOW)):
            if role is Role.PRIMARY or number < SHADOWS:
                db = Database(conn, schema)
                registry.put_version(db, model_id=model.model_id, version=version, params={})
                roles.assign_role(db, model_id=model.model_id, version=version, role=role, since=since)


def write_dags(folder: Path, checkout: Path) -> None:
    """Put the Dag files of the benchmark into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "noop.py").write_text(NOOP_DAG)
    (folder / "detection_cycles.py").write_text((checkout / "dags" / "detection_cycles.py").read_text())
