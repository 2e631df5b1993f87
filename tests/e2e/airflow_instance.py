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
from types import MappingProxyType
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
TIMEOUT_S = 600.0
"""Ends a wait for what does not happen; how fast it is decides nothing."""
Conn = psycopg.Connection[tuple[Any, ...]]


@dataclass(slots=True, kw_only=True)
class AirflowInstance:
    """A running Airflow.

    `registry` and `metadata` are connections of the tests; Airflow reaches the registry through
    `registry_proxy`.
    """

    folder: Path
    registry: Conn
    metadata: Conn
    registry_proxy: Proxy
    supervisor: Supervisor
    env: Mapping[str, str]
    api: Airflow
    settings: Settings

    @property
    def dags(self) -> Path:
        """Directory of the Dag files."""
        return self.folder / "dags"

    def command(self, *arguments: str) -> str:
        """Run `airflow <arguments>`; it must end with 0."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=dict(self.env), cwd=self.folder, capture_output=True, text=True, check=False,
            timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        """Bring the metadata up and start the servers."""
        migration = self._program("db-migrate", "db", "migrate")
        self.supervisor.start(migration)
        self.supervisor.finish(migration)
        for name in SERVERS:
            self.start_component(name)

    def start_component(self, name: str) -> None:
        """Start a server by its name, such as `scheduler`, or `scheduler-2` for a second one."""
        self.supervisor.start(self._program(name, *COMPONENTS[name.removesuffix("-2")]))

    def _program(self, name: str, *arguments: str) -> Program:
        program = airflow_program(name, *arguments, settings=self.settings, env=self.env)
        return replace(program, stop_signal=int(signal.SIGKILL))  # the state that it leaves is not used

    def wait(self, has_happened: Callable[[], object], event: str, timeout_s: float = TIMEOUT_S) -> float:
        """Wait until `has_happened()` is true; return the seconds that took. `event` names it in an error."""
        start_s = time.monotonic()
        while not has_happened():
            self.supervisor.check()
            assert time.monotonic() < start_s + timeout_s, f"{event} did not happen\n{self.state()}"
            time.sleep(0.1)
        return time.monotonic() - start_s

    def state(self) -> str:
        """Runs, task instances and import errors, one a line, for the message of a failed test."""
        runs = self.rows("select dag_id, run_id, state from dag_run order by id")
        tasks = self.rows(
            "select dag_id, run_id, task_id, state, try_number from task_instance order by 1, 2, 3"
        )
        return "\n".join(map(str, [*runs, *tasks, *self.import_errors()]))

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query of Airflow's metadata."""
        return self.metadata.execute(query.encode(), values).fetchall()

    def has_api(self) -> bool:
        """Tell whether the API server answers and the scheduler is healthy."""
        try:
            health = self.api._once("GET", "/api/v2/monitor/health")
        except Exception:  # not up yet
            return False
        return bool(health["scheduler"]["status"] == "healthy")

    def has_dags(self, *dag_ids: str) -> bool:
        """Tell whether each of the Dags was parsed, is not stale and has no import error."""
        query = "select count(*) from dag where dag_id = any(%s) and not is_stale and not has_import_errors"
        return self.rows(query, list(dag_ids)) == [(len(dag_ids),)]

    def import_errors(self) -> list[tuple[Any, ...]]:
        """Dag files that could not be parsed, with their stack traces."""
        return self.rows("select filename, stacktrace from import_error")

    def backfill(self, dag_id: str, first: datetime, last: datetime, *arguments: str) -> None:
        """Run `airflow backfill create` for the ticks in [first, last]."""
        span = ("--from-date", first.isoformat(), "--to-date", last.isoformat())
        self.command("backfill", "create", "--dag-id", dag_id, *span, *arguments)

    def backfill_tick(self, dag_id: str, at: datetime, conf: Mapping[str, object] | None = None) -> None:
        """Backfill one tick, also one that has run, by the API: the command takes seconds."""
        body = {
            "dag_id": dag_id,
            "from_date": at.isoformat(),
            "to_date": at.isoformat(),
            "dag_run_conf": conf,
        }
        self.api._call("POST", "/api/v2/backfills", body | {"reprocess_behavior": "completed"})

    def trigger(self, dag_id: str, run_after: datetime | None = None) -> str:
        """Start a manual run without a logical date; return its id."""
        run_id = f"manual-{uuid.uuid4().hex[:8]}"
        run_time = {"run_after": run_after.isoformat()} if run_after else {}
        body = {"dag_run_id": run_id, "logical_date": None, **run_time}
        self.api._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        return run_id

    def run_states(self, dag_id: str) -> list[str]:
        """States of the Dag's runs, oldest first."""
        return [
            row[0] for row in self.rows("select state from dag_run where dag_id = %s order by id", dag_id)
        ]

    def wait_for_runs(self, dag_id: str, count: int) -> float:
        """Wait until the Dag has `count` runs and all ended in success; return the seconds that took."""
        seconds = self.wait(
            lambda: len(s := self.run_states(dag_id)) >= count and not {"queued", "running"} & set(s),
            f"the end of {count} runs of {dag_id}",
        )
        assert self.run_states(dag_id) == ["success"] * count, self.state()
        self._complete_backfills(dag_id)
        return seconds

    def _complete_backfills(self, dag_id: str) -> None:
        """Complete the Dag's backfills so that another can start: the scheduler does so only every 30 s."""
        query = "select id from backfill where dag_id = %s and completed_at is null"
        for (backfill_id,) in self.rows(query, dag_id):
            self.api._call("PUT", f"/api/v2/backfills/{backfill_id}/cancel")

    def task_states(self, dag_id: str, at: datetime) -> dict[str, str]:
        """State of each task of the run with this logical date."""
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
def airflow_instance(
    folder: Path,
    server: str,
    *,
    pooled: str | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
    **options: str,
) -> Iterator[AirflowInstance]:
    """An Airflow that is ready to start, and a migrated registry; `options` are those of `[detection]`.

    The registry is a new database of `server`, or the one that `pooled` leads to; `environment` has further
    variables of the servers.
    """
    (folder / "dags").mkdir()
    settings = Settings(state=folder, cycles=1, port=free_port(), once=True, ais=None, dsn=None)
    name = f"detection_e2e_{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        dsn = pooled or stack.enter_context(_database(server, name))
        metadata = stack.enter_context(_database(server, f"{name}_airflow"))
        registry_proxy = stack.enter_context(proxy(dsn))
        registry = stack.enter_context(connect(dsn))
        migrate(Database(registry, "detection"), packs=("maritime",))
        parameters = conninfo_to_dict(dsn) | {"host": "127.0.0.1", "port": registry_proxy.port}
        proxied = make_conninfo("", **{key: value for key, value in parameters.items() if value is not None})
        databases = Databases(owner=dsn, registry=proxied, metadata=metadata, where="")
        shared = shared_environment(settings, open_state(folder), databases)
        shared |= {
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # a task must not lose a try on a busy machine
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3",
            "AIRFLOW_CONN_DETECTION_DEFAULT": airflow_connection(proxied),
            **{f"AIRFLOW__DETECTION__{key.upper()}": value for key, value in options.items()},
            **environment,
        }
        path = [*filter(None, [os.environ.get("PYTHONPATH")]), str(CHECKOUT)]
        env = process_environment(shared) | {"PYTHONPATH": os.pathsep.join(path)}
        supervisor = stack.enter_context(Supervisor(settings.logs, folder / "supervisor.pid"))
        yield AirflowInstance(
            folder=folder,
            registry=registry,
            metadata=stack.enter_context(connect(metadata)),
            registry_proxy=registry_proxy,
            supervisor=supervisor,
            env=env,
            api=Airflow(f"http://127.0.0.1:{settings.port}"),
            settings=settings,
        )
