"""Cycles in task and inline mode converge while components, tasks, sessions and servers are killed."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests import sample_registry
from tests.e2e.airflow_instance import AirflowInstance, airflow_instance
from tests.e2e.chaos import SCHEDULERS, Chaos, RegistryPair, registry_pair

from airflow_detection.domain.specs import Execution, Role
from airflow_detection.store.connection import connect

pytestmark = [pytest.mark.e2e, pytest.mark.long]

FIRST = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CYCLES = 8
MODES = {"tasks": Execution.TASK, "inline": Execution.INLINE}
DAGS = [f"detection_{cycle_id}" for cycle_id in MODES]
KILLS = ["component", "task", "session", "task", "pooler", "component", "task", "failover",
         "component", "session", "task", "component", "task", "pooler"]  # fmt: skip
PAUSE_S = 6.0
TIMEOUT_S = 900.0
OPTIONS = {"allowed_modules": "tests.sample_registry, tests.e2e", "plan_ttl": "1"}
# An installation that finds out within seconds what it usually finds out within minutes.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "25",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "10",
    "AIRFLOW__CORE__PARALLELISM": "4",
}
DAG_FILE = '''"""The cycles' Dags, whose tasks are tried again at once: dag, airflow."""

from datetime import timedelta

from airflow_detection.dags.cycles import cycle_dags

for name, dag in cycle_dags().items():
    globals()[name] = dag
    for task in dag.tasks:
        task.retries, task.retry_delay = (20 if task.retries else 0), timedelta(seconds=2)
'''


def register(conn: Any) -> None:
    """Register in each mode a champion, a shadow beside it, and a champion that reads the first."""
    for cycle_id, execution in MODES.items():
        sample_registry.put_cycle(
            conn, cycle_id=cycle_id, schedule="*/5 * * * *", execution=execution, max_active_runs=3
        )
        slow = {"entrypoint": "tests.e2e.slow_model:Slow", "cycle_id": cycle_id}
        first, second = f"{cycle_id}_first", f"{cycle_id}_second"
        sample_registry.put_model(conn, first, **slow)
        sample_registry.put_model(conn, second, (first,), **slow)
        sample_registry.put_version(conn, f"{first}@1", Role.PRIMARY, ids=["a", "b"], sleep_s=0.5)
        sample_registry.put_version(conn, f"{first}@2", Role.SHADOW, ids=["a", "b", "c"], sleep_s=0.5)
        sample_registry.put_version(conn, f"{second}@1", Role.PRIMARY, ids=["x"], sleep_s=0.5)


def undisturbed() -> dict[tuple[str, str], list[tuple[str, float]]]:
    """Entities and scores that each version must store for each cycle: `Echo` scores what it reads."""
    return {
        **{(f"{cycle_id}_first", "1"): [("a", 0.0), ("b", 0.0)] for cycle_id in MODES},
        **{(f"{cycle_id}_first", "2"): [("a", 0.0), ("b", 0.0), ("c", 0.0)] for cycle_id in MODES},
        **{(f"{cycle_id}_second", "1"): [("x", 2.0)] for cycle_id in MODES},
    }


def stored(dsn: str) -> dict[tuple[str, str, datetime], list[tuple[str, float]]]:
    """Entities and scores of each version and cycle, and so each of them once."""
    query = (
        "select o.model_id, version, cycle_started_at,"
        " array_agg(entity_id order by entity_id), array_agg(score order by entity_id)"
        " from detection.detection_model_run_outputs o"
        " join detection.detection_model_versions using (version_id) group by 1, 2, 3"
    )
    with connect(dsn) as conn:
        rows = conn.execute(query).fetchall()
    return {
        (model, version, at.astimezone(UTC)): list(zip(entities, scores, strict=True))
        for model, version, at, entities, scores in rows
    }


def manifests(dsn: str) -> Counter[tuple[str, str, datetime]]:
    """Number of manifests that say SUCCEEDED, by model, version and cycle."""
    query = (
        "select r.model_id, version, cycle_started_at from detection.detection_model_runs r"
        " join detection.detection_model_versions using (version_id) where outcome = 'SUCCEEDED'"
    )
    with connect(dsn) as conn:
        return Counter((m, v, at.astimezone(UTC)) for m, v, at in conn.execute(query))


def all_ended(airflow: AirflowInstance) -> bool:
    states = [state for dag_id in DAGS for state in airflow.run_states(dag_id)]
    return len(states) >= CYCLES * len(DAGS) and not {"queued", "running"} & set(states)


def disturb(chaos: Chaos, pair: RegistryPair) -> None:
    """Strike again and again; after that keep the components up until every run has ended."""
    deadline, before = time.monotonic() + TIMEOUT_S, Counter[tuple[str, str, datetime]]()
    for kind in KILLS:
        time.sleep(PAUSE_S)
        chaos.keep_up()
        if kind == "failover":
            before = manifests(pair.current)
        chaos.strike(kind)
        if kind == "failover":
            assert before <= manifests(pair.current), "a committed manifest was lost"
    while not all_ended(chaos.airflow):
        chaos.keep_up()
        assert time.monotonic() < deadline, "\n".join([*chaos.log, chaos.airflow.state()])
        time.sleep(1)


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_parts_of_an_installation_leave_every_cycle_as_if_nothing_had_been(
    tmp_path_factory: pytest.TempPathFactory, server: str, seed: int
) -> None:
    with (
        registry_pair() as pair,
        airflow_instance(
            tmp_path_factory.mktemp("chaos"), server, pooled=pair.pooler.dsn, environment=IMPATIENT, **OPTIONS
        ) as airflow,
    ):
        register(airflow.registry)
        airflow.registry.close()
        (airflow.dags / "cycles.py").write_text(DAG_FILE)
        airflow.start()
        airflow.wait(lambda: airflow.has_api() and airflow.has_dags(*DAGS), "the start of Airflow")
        airflow.start_component(SCHEDULERS[1])
        last = FIRST + timedelta(minutes=5) * (CYCLES - 1)
        for dag_id in DAGS:  # before they are unpaused, see docs/operations.md
            airflow.backfill(dag_id, FIRST, last, "--max-active-runs", "3")
            airflow.api.unpause(dag_id)
        chaos = Chaos(airflow=airflow, pair=pair, seed=seed)
        disturb(chaos, pair)
        story = "\n".join([*chaos.log, airflow.state()])
        cycles = [FIRST + timedelta(minutes=5) * n for n in range(CYCLES)]
        expected = {(*label, at): rows for label, rows in undisturbed().items() for at in cycles}
        results = {key: rows for key, rows in stored(pair.current).items() if key[2] in cycles}
        assert results == expected, story
        counts = {key: count for key, count in manifests(pair.current).items() if key[2] in cycles}
        assert counts == dict.fromkeys(expected, 1), story
        for dag_id in DAGS:
            states = airflow.rows(
                "select state from dag_run where dag_id = %s and logical_date between %s and %s",
                dag_id, FIRST, last,
            )  # fmt: skip
            assert states == [("success",)] * CYCLES, story
