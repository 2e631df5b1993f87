"""Cycles on Celery workers that share no file: a worker dies, is cut off, and learns what was registered."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing as closing_db
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests import sample_registry
from tests.e2e.celery_workers import CONCURRENCY, CeleryInstance, Worker, celery_instance

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.celery]

DAG_ID = "detection_fleet"
STEP = timedelta(minutes=5)
HEARTBEAT_S, DETECTION_S, PLAN_TTL_S = 20.0, 5.0, 5.0
CUT_S = 40.0
QUEUE, POOL, SLOTS = "heavy", "scarce", 2
MODULES = "tests.sample_registry, tests.e2e"
# An installation that finds out within seconds what it usually finds out within minutes.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": f"{HEARTBEAT_S:.0f}",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": f"{DETECTION_S:.0f}",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}
DAG_FILE = '''"""The cycles' Dags, whose tasks are tried again at once: dag, airflow."""

from datetime import timedelta

from airflow_detection.dags.cycles import cycle_dags

for name, dag in cycle_dags().items():
    globals()[name] = dag
    for task in dag.tasks:
        task.retries, task.retry_delay = (20 if task.retries else 0), timedelta(seconds=2)
'''
FOLDERS = ("AIRFLOW_HOME", "TMPDIR", "AIRFLOW__CORE__DAGS_FOLDER", "AIRFLOW__DETECTION__STATE_DIR")
# What a run left, but for when and at which attempt.
OUTPUTS = """
select o.cycle_started_at, o.model_id, v.version, o.role::text, o.is_replay, o.entity_id,
       o.score, o.outputs, o.input_ref
  from detection.detection_model_run_outputs o join detection.detection_model_versions v using (version_id)
 where o.cycle_started_at between %s and %s order by 1, 2, 3, 6
"""
MANIFESTS = """
select r.cycle_started_at, r.model_id, v.version, r.role::text, r.is_replay, r.outcome::text,
       r.input_count, r.output_count, r.input_digest, r.output_digest
  from detection.detection_model_runs r join detection.detection_model_versions v using (version_id)
 where r.cycle_started_at between %s and %s order by 1, 2, 3
"""


def register(conn: Any) -> None:
    """Register champions and shadows, one behind the other, and one in a queue and a pool of its own.

    Its ticks are those of one day of the past: none is due while the tests run.
    """
    sample_registry.put_cycle(conn, schedule="*/5 * 1 3 *", max_active_runs=3)
    slow = {"entrypoint": "tests.e2e.slow_model:Slow"}
    sample_registry.put_model(conn, "tracks", **slow)
    sample_registry.put_model(conn, "spoofing", ("tracks",), **slow)
    put_radar(conn, queue=QUEUE, pool=POOL)
    sample_registry.put_model(conn, "risk", ("radar", "spoofing"), **slow)
    for label, role, ids in (
        ("tracks@1", Role.PRIMARY, ["a", "b"]),
        ("tracks@2", Role.SHADOW, ["a", "b", "c"]),
        ("spoofing@1", Role.PRIMARY, ["x"]),
        ("radar@1", Role.PRIMARY, [str(n) for n in range(200)]),
        ("radar@2", Role.SHADOW, [str(n) for n in range(300)]),
        ("risk@1", Role.PRIMARY, ["y"]),
    ):
        sample_registry.put_version(conn, label, role, ids=ids, sleep_s=0.5)


def put_radar(conn: Any, **task_options: Any) -> None:
    """Register the model of its own queue with these task options."""
    sample_registry.put_model(
        conn, "radar", entrypoint="tests.e2e.slow_model:Slow", task_options=task_options
    )


def put_tracks(conn: Any, **task_options: Any) -> None:
    """Register the first model of the common queue with these task options."""
    sample_registry.put_model(
        conn, "tracks", entrypoint="tests.e2e.slow_model:Slow", task_options=task_options
    )


@pytest.fixture(scope="module")
def celery(tmp_path_factory: pytest.TempPathFactory, server: str) -> Iterator[CeleryInstance]:
    """An Airflow and two workers: `common` serves the common queue, `both` that of `radar`, too."""
    folder = tmp_path_factory.mktemp("celery")
    options = {"allowed_modules": MODULES, "plan_ttl": str(PLAN_TTL_S)}
    with celery_instance(folder, server, DAG_FILE, environment=IMPATIENT, **options) as started:
        airflow = started.airflow
        register(airflow.registry)
        airflow.start()
        airflow.start_component("triggerer")
        airflow.wait(lambda: airflow.has_api() and airflow.has_dags(DAG_ID), "the start of Airflow")
        airflow.api._call("POST", "/api/v2/pools", {"name": POOL, "slots": SLOTS, "include_deferred": False})
        started.start_worker("common", "default")
        started.start_worker("both", f"default,{QUEUE}")
        airflow.api.unpause(DAG_ID)
        yield started


@pytest.fixture(scope="module")
def one_machine(server: str) -> Iterator[Connection]:
    """A registry like that of the workers, whose cycles run in this process one after the other."""
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute("create database detection_one_machine")
        dsn = make_conninfo(server, dbname="detection_one_machine")
        with connect(dsn) as conn:
            migrate(Database(conn, "detection"), packs=("maritime",))
            register(conn)
            yield conn
        admin.execute("drop database detection_one_machine with (force)")


def at(hour: int, tick: int = 0) -> datetime:
    """An instant of the day on which there are cycles."""
    return datetime(2026, 3, 1, hour, tzinfo=UTC) + tick * STEP


def left_by(conn: Connection, first: datetime, last: datetime) -> dict[str, list[tuple[Any, ...]]]:
    """Outputs and manifests of the cycles in [first, last]."""
    return {
        "outputs": conn.execute(OUTPUTS, [first, last]).fetchall(),
        "manifests": conn.execute(MANIFESTS, [first, last]).fetchall(),
    }


def left_by_one_machine(
    conn: Connection, first: datetime, last: datetime
) -> dict[str, list[tuple[Any, ...]]]:
    db, settings = Database(conn, "detection"), Settings(allowed_prefixes=tuple(MODULES.split(", ")))
    cycle = first
    while cycle <= last:
        planning.open_cycle(db, "fleet", cycle, mode=Mode.AS_OF)
        inline.run_inline(db, settings, "fleet", cycle, mode=Mode.AS_OF)
        closing.close_cycle(db, "fleet", cycle, mode=Mode.AS_OF, task_states={})
        cycle += STEP
    return left_by(conn, first, last)


def states(celery: CeleryInstance, first: datetime, last: datetime) -> list[str]:
    query = "select state from dag_run where dag_id = %s and logical_date between %s and %s"
    return [state for (state,) in celery.airflow.rows(query, DAG_ID, first, last)]


def wait_for_cycles(celery: CeleryInstance, first: datetime, last: datetime) -> float:
    """Wait until each cycle of [first, last] has ended well; return the seconds that took."""
    count = (last - first) // STEP + 1
    seconds = celery.airflow.wait(
        lambda: len(s := states(celery, first, last)) == count and not {"queued", "running"} & set(s),
        f"the end of {count} cycles",
    )
    assert states(celery, first, last) == ["success"] * count, celery.airflow.state()
    celery.airflow._complete_backfills(DAG_ID)
    return seconds


def running_on(celery: CeleryInstance, worker: Worker, *task_ids: str) -> dict[str, int]:
    """Ids of the task instances that run on a worker now, and which attempt each is."""
    query = (
        "select id::text, try_number from task_instance where state = 'running' and hostname = %s"
        " and (task_id = any(%s) or %s)"
    )
    return dict(celery.airflow.rows(query, worker.machine.name, list(task_ids), not task_ids))


def still_running(celery: CeleryInstance, attempts: Mapping[str, int]) -> int:
    """How many of these attempts Airflow still takes to be running."""
    query = "select id::text, try_number from task_instance where state = 'running' and id::text = any(%s)"
    now = dict(celery.airflow.rows(query, list(attempts)))
    return sum(now.get(key) == attempt for key, attempt in attempts.items())


def wait_until_busy(celery: CeleryInstance, worker: Worker) -> dict[str, int]:
    """Wait until a version of `radar` is under way on the worker; return what it runs."""
    celery.airflow.wait(
        lambda: running_on(celery, worker, "radar", "radar__2"), f"a task of radar on {worker.name}"
    )
    return running_on(celery, worker)


def test_workers_know_neither_the_metadata_nor_the_secret_of_tokens(celery: CeleryInstance) -> None:
    secret = celery.airflow.env["AIRFLOW__API_AUTH__JWT_SECRET"]
    metadata = celery.airflow.metadata.info.dbname
    folders = set()
    for worker in celery.workers.values():
        pids = worker.machine.pids()
        assert len(pids) > CONCURRENCY, "the worker and its pool"
        for pid in pids:
            environment = environment_of(pid)
            assert not [k for k in environment if "SQL_ALCHEMY" in k or "SECRET" in k or "FERNET" in k]
            assert not [k for k, v in environment.items() if secret in v or metadata in v]
            folders |= {environment[name] for name in FOLDERS if name in environment}
            assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
        with closing_db(sqlite3.connect(worker.folder / "airflow" / "airflow.db")) as own:
            assert not own.execute("select name from sqlite_master").fetchall(), "the default's, and empty"
    assert len(folders) == len(FOLDERS) * len(celery.workers)


def environment_of(pid: int) -> dict[str, str]:
    """Environment of a process, but for what its title has overwritten."""
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_worker_that_dies_in_a_backfill_leaves_what_one_machine_leaves(
    celery: CeleryInstance, one_machine: Connection
) -> None:
    airflow, first, last = celery.airflow, at(12), at(12, 11)
    airflow.api.backfill(DAG_ID, first, last, max_active_runs=3)
    airflow.wait(lambda: states(celery, first, last).count("success") >= 2, "the end of two cycles")
    dead = celery.workers["both"]
    attempts = wait_until_busy(celery, dead)
    celery.kill(dead)
    ended_s = airflow.wait(lambda: not still_running(celery, attempts), "the end of the dead worker's tasks")
    celery.start_worker("another", QUEUE, on=dead.machine)
    took_s = wait_for_cycles(celery, first, last)
    print(
        f"after {ended_s:.1f} s the dead worker's tasks had ended, {took_s:.1f} s later all cycles were green"
    )
    assert ended_s < HEARTBEAT_S + 2 * DETECTION_S + 20, "its own bounds, and room for a busy machine"
    assert left_by(airflow.registry, first, last) == left_by_one_machine(one_machine, first, last)
    ran_on = airflow.rows(
        "select distinct hostname from task_instance where dag_id = %s and task_id like 'radar%%'"
        " and state = 'success'", DAG_ID,
    )  # fmt: skip
    assert ran_on == [(dead.machine.name,)], "a queue is served by its own workers alone"


def heavy_worker(celery: CeleryInstance) -> Worker:
    """The worker that serves the queue of `radar` alone; it takes the place of the one that served both."""
    if "both" in celery.workers:
        celery.kill(celery.workers["both"])
    return celery.workers.get("another") or celery.start_worker("another", QUEUE)


def backfill_under_way(
    celery: CeleryInstance, first: datetime, last: datetime, worker: Worker
) -> dict[str, int]:
    """Backfill the cycles, and wait until a version of `radar` is under way; return what the worker runs."""
    celery.airflow.api.backfill(DAG_ID, first, last, max_active_runs=3)
    return wait_until_busy(celery, worker)


def of_radar(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row for row in rows if row[1] == "radar"]


def test_a_worker_that_is_cut_off_from_the_registry_goes_on_when_it_is_back(
    celery: CeleryInstance, one_machine: Connection
) -> None:
    airflow, first, last = celery.airflow, at(13), at(13, 5)
    worker = heavy_worker(celery)
    backfill_under_way(celery, first, last, worker)
    worker.machine.registry.cut()
    time.sleep(1)  # what had arrived is written
    left = left_by(airflow.registry, first, last)["manifests"]
    time.sleep(CUT_S)
    assert of_radar(left_by(airflow.registry, first, last)["manifests"]) == of_radar(left), "nothing arrives"
    worker.machine.registry.mend()
    wait_for_cycles(celery, first, last)
    assert left_by(airflow.registry, first, last) == left_by_one_machine(one_machine, first, last)


def test_a_worker_that_is_cut_off_from_all_loses_its_tasks_and_writes_nothing_late(
    celery: CeleryInstance, one_machine: Connection
) -> None:
    airflow, first, last = celery.airflow, at(14), at(14, 5)
    worker = heavy_worker(celery)
    spare = celery.start_worker("spare", QUEUE)
    attempts = backfill_under_way(celery, first, last, worker)
    links = (worker.machine.services, worker.machine.registry)
    for link in links:
        link.cut()
    airflow.wait(lambda: not still_running(celery, attempts), "the end of the tasks of the worker cut off")
    airflow.wait(lambda: running_on(celery, spare), "a second attempt on the other worker")
    for link in links:
        link.mend()
    wait_for_cycles(celery, first, last)
    assert left_by(airflow.registry, first, last) == left_by_one_machine(one_machine, first, last)
    celery.kill(spare)


def task_states(celery: CeleryInstance, cycle: datetime) -> dict[str, tuple[str, str]]:
    """State and host of each task of a cycle that has ended."""
    query = (
        "select task_id, t.state, hostname from task_instance t join dag_run r using (dag_id, run_id)"
        " where dag_id = %s and logical_date = %s"
    )
    celery.airflow.wait(
        lambda: (s := states(celery, cycle, cycle)) and not {"queued", "running"} & set(s), "the cycle's end"
    )
    celery.airflow._complete_backfills(DAG_ID)
    return {task: (state, host) for task, state, host in celery.airflow.rows(query, DAG_ID, cycle)}


def ran(celery: CeleryInstance, cycle: datetime) -> dict[str, tuple[str, str]]:
    celery.airflow.backfill_tick(DAG_ID, cycle)
    return task_states(celery, cycle)


def test_a_changed_registration_reaches_the_workers_of_each_queue_within_the_ttl(
    celery: CeleryInstance,
) -> None:
    """A worker parses for itself: it never sees the plan file of the Dag processor."""
    conn, common, heavy = celery.airflow.registry, celery.workers["common"], heavy_worker(celery)
    before = ran(celery, at(15))
    assert {state for state, _ in before.values()} == {"success"}
    assert (before["tracks"][1], before["radar"][1]) == (common.machine.name, heavy.machine.name)
    put_tracks(conn, quueue="x")
    put_radar(conn, queue=QUEUE, pool=POOL, retrys=1)
    time.sleep(PLAN_TTL_S)
    refused = ran(celery, at(15, 1))
    assert {refused[task][0] for task in ("tracks", "radar")} == {"failed"}
    assert "model 'tracks': task_options: quueue: unknown option" in common.task_log("tracks")
    logs = heavy.task_log("radar") + common.task_log(
        "radar"
    )  # its queue is unknown once the Dag was made anew
    assert "model 'radar': task_options: retrys: unknown option" in logs
    put_tracks(conn)
    put_radar(conn, queue=QUEUE, pool=POOL, execution_timeout=0.2, retries=0)
    time.sleep(PLAN_TTL_S)
    celery.airflow.wait(lambda: queue_of_radar(celery) == QUEUE, "the Dag with the queue again")
    ended = ran(celery, at(15, 2))
    assert (ended["tracks"][0], ended["radar"][0]) == ("success", "failed")
    assert "radar@1: TransientModelError: it had not ended after 0.2 s" in heavy.task_log("radar")
    assert '"execution_timeout":0.2' in heavy.plan(), "read for the task itself"
    put_radar(conn, pool=POOL)
    celery.airflow.wait(lambda: queue_of_radar(celery) == "default", "the Dag with the new queue")
    moved = ran(celery, at(15, 3))
    assert {state for state, _ in moved.values()} == {"success"}
    assert moved["radar"][1] == common.machine.name


def queue_of_radar(celery: CeleryInstance) -> str:
    """The queue of `radar` in the Dag that the scheduler knows."""
    task = celery.airflow.api._call("GET", f"/api/v2/dags/{DAG_ID}/tasks/radar")
    return str(task["queue"])


def test_a_worker_says_that_it_stands_on_an_old_plan_while_the_registry_does_not_answer(
    celery: CeleryInstance,
) -> None:
    common = celery.workers["common"]
    ran(celery, at(16))
    time.sleep(PLAN_TTL_S)
    common.machine.registry.cut()
    celery.airflow.backfill_tick(DAG_ID, at(16, 1))
    celery.airflow.wait(
        lambda: "the registry does not answer, Dags stand on the plan of" in common.task_log("open_cycle"),
        "a task on the last known plan",
    )
    common.machine.registry.mend()
    assert {state for state, _ in task_states(celery, at(16, 1)).values()} == {"success"}
