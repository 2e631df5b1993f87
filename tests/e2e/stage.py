"""A real Airflow for tests: scheduler, Dag processor and API server over one Postgres."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from demo.airflow_env import (
    COMPONENTS,
    airflow_connection,
    airflow_program,
    process_environment,
    shared_environment,
)
from demo.api import Airflow
from demo.postgres import Databases
from demo.programs import Program, Supervisor
from demo.settings import CHECKOUT, Settings, free_port
from demo.state import open_state
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.e2e.proxy import Proxy, proxy

from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

SERVERS = ("api-server", "scheduler", "dag-processor")
TIMEOUT_S = 180.0
Conn = psycopg.Connection[tuple[Any, ...]]


@dataclass(slots=True, kw_only=True)
class AirflowStage:
    """A running Airflow. `registry` and `metadata` are connections of the tests' own; Airflow reaches the
    registry through `door`."""

    folder: Path
    registry: Conn
    metadata: Conn
    door: Proxy
    keeper: Supervisor
    env: Mapping[str, str]
    api: Airflow
    settings: Settings

    @property
    def dags(self) -> Path:
        """Where the Dag files are."""
        return self.folder / "dags"

    def command(self, *words: str) -> str:
        """Run `airflow <words>`; it must end with 0."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *words],
            env=dict(self.env), cwd=self.folder, capture_output=True, text=True, check=False,
            timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Bring the metadata up and start the servers."""
        migration = self._program("db-migrate", "db", "migrate")
        self.keeper.start(migration)
        self.keeper.finish(migration)
        for name in SERVERS:
            self.keeper.start(self._program(name, *COMPONENTS[name]))

    def _program(self, name: str, *words: str) -> Program:
        program = airflow_program(name, *words, settings=self.settings, env=self.env)
        return replace(program, stop_signal=int(signal.SIGKILL))  # nothing that it leaves is used again

    def wait(self, what: Callable[[], object], told: str, timeout_s: float = TIMEOUT_S) -> float:
        """Wait until `what()` is true; returns the seconds that took."""
        began = time.monotonic()
        while not what():
            self.keeper.check()
            assert time.monotonic() < began + timeout_s, f"{told} did not happen\n{self.state()}"
            time.sleep(0.1)
        return time.monotonic() - began

    def state(self) -> str:
        """What there is to know when a test has failed."""
        runs = self.rows("select dag_id, run_id, state from dag_run order by id")
        tasks = self.rows(
            "select dag_id, run_id, task_id, state, try_number from task_instance order by 1, 2, 3"
        )
        return "\n".join(map(str, [*runs, *tasks, *self.import_errors()]))

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask Airflow's metadata."""
        return self.metadata.execute(query.encode(), values).fetchall()

    def has_api(self) -> bool:
        """Whether the API server and the scheduler are at work."""
        try:
            health = self.api._once("GET", "/api/v2/monitor/health")
        except Exception:  # not up yet
            return False
        return bool(health["scheduler"]["status"] == "healthy")

    def has_dags(self, *dag_ids: str) -> bool:
        """Whether each of the Dags was parsed and stands."""
        query = "select count(*) from dag where dag_id = any(%s) and not is_stale and not has_import_errors"
        return self.rows(query, list(dag_ids)) == [(len(dag_ids),)]

    def import_errors(self) -> list[tuple[Any, ...]]:
        """The Dag files that could not be parsed."""
        return self.rows("select filename, stacktrace from import_error")

    def backfill(self, dag_id: str, first: datetime, last: datetime, *words: str) -> None:
        """`airflow backfill create` for the ticks in [first, last]."""
        span = ("--from-date", first.isoformat(), "--to-date", last.isoformat())
        self.command("backfill", "create", "--dag-id", dag_id, *span, *words)

    def backfill_of(self, dag_id: str, at: datetime, conf: Mapping[str, object] | None = None) -> None:
        """The same for one tick, again if it has run, by the API: the command takes seconds."""
        body = {
            "dag_id": dag_id,
            "from_date": at.isoformat(),
            "to_date": at.isoformat(),
            "dag_run_conf": conf,
        }
        self.api._call("POST", "/api/v2/backfills", body | {"reprocess_behavior": "completed"})

    def trigger(self, dag_id: str, run_after: datetime | None = None) -> str:
        """Start a manual run without a logical date; returns its id."""
        run_id = f"manual-{uuid.uuid4().hex[:8]}"
        due = {"run_after": run_after.isoformat()} if run_after else {}
        body = {"dag_run_id": run_id, "logical_date": None, **due}
        self.api._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        return run_id

    def run_states(self, dag_id: str) -> list[str]:
        """The states of the Dag's runs, oldest first."""
        return [
            row[0] for row in self.rows("select state from dag_run where dag_id = %s order by id", dag_id)
        ]

    def wait_for_runs(self, dag_id: str, count: int) -> float:
        """Wait until the Dag has `count` runs and all have ended, which must be in success."""
        seconds = self.wait(
            lambda: len(s := self.run_states(dag_id)) >= count and not {"queued", "running"} & set(s),
            f"the end of {count} runs of {dag_id}",
        )
        assert self.run_states(dag_id) == ["success"] * count, self.state()
        self._complete_backfills(dag_id)
        return seconds

    def _complete_backfills(self, dag_id: str) -> None:
        """Make room for the next one: the scheduler notices only every 30 s that all runs have ended."""
        query = "select id from backfill where dag_id = %s and completed_at is null"
        for (backfill_id,) in self.rows(query, dag_id):
            self.api._call("PUT", f"/api/v2/backfills/{backfill_id}/cancel")

    def task_states(self, dag_id: str, at: datetime) -> dict[str, str]:
        """The state of each task of the run with this logical date."""
        query = (
            "select task_id, t.state from task_instance t join dag_run r using (dag_id, run_id)"
            " where dag_id = %s and logical_date = %s"
        )
        return dict(self.rows(query, dag_id, at))


@contextmanager
def _database(server: str, name: str) -> Iterator[str]:
    with psycopg.connect(server, autocommit=True) as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@contextmanager
def stage(folder: Path, server: str, **options: str) -> Iterator[AirflowStage]:
    """An Airflow that is ready to start, and a migrated registry; `options` are those of `[detection]`."""
    (folder / "dags").mkdir()
    settings = Settings(state=folder, cycles=1, port=free_port(), once=True, ais=None, dsn=None)
    name = f"detection_e2e_{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        dsn = stack.enter_context(_database(server, name))
        metadata = stack.enter_context(_database(server, f"{name}_airflow"))
        door = stack.enter_context(proxy(dsn))
        registry = stack.enter_context(connect(dsn))
        migrate(Database(registry, "detection"))
        facts = conninfo_to_dict(dsn) | {"host": "127.0.0.1", "port": door.port}
        through = make_conninfo("", **{key: value for key, value in facts.items() if value is not None})
        databases = Databases(registry=through, metadata=metadata, where="")
        shared = shared_environment(settings, open_state(folder), databases)
        shared |= {
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # a busy machine must not cost a task its try
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3",
            "AIRFLOW_CONN_DETECTION_DEFAULT": airflow_connection(through),
            **{f"AIRFLOW__DETECTION__{key.upper()}": value for key, value in options.items()},
        }
        path = [*filter(None, [os.environ.get("PYTHONPATH")]), str(CHECKOUT)]
        env = process_environment(shared) | {"PYTHONPATH": os.pathsep.join(path)}
        keeper = stack.enter_context(Supervisor(settings.logs, folder / "keeper.pid"))
        yield AirflowStage(
            folder=folder,
            registry=registry,
            metadata=stack.enter_context(connect(metadata)),
            door=door,
            keeper=keeper,
            env=env,
            api=Airflow(f"http://127.0.0.1:{settings.port}"),
            settings=settings,
        )
