"""An Airflow with the CeleryExecutor whose workers are machines of their own, which share no file."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from demo.airflow_env import airflow_connection, process_environment
from demo.programs import Program
from demo.settings import free_port
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.e2e.airflow_instance import TIMEOUT_S, AirflowInstance, airflow_instance
from tests.e2e.machines import Machine, absent, machine
from tests.e2e.proxy import Proxy, proxy

REDIS = shutil.which("redis-server")
CONCURRENCY = 4
IMPORTS = '{"imports": ["airflow_detection.dags.preload"]}'
PASSED_ON = ("AIRFLOW__DETECTION__", "AIRFLOW__WORKERS__", "AIRFLOW__CORE__LOAD_EXAMPLES", "PREDICTION_")
"""Variables of the other servers that a worker has, too."""


@dataclass(slots=True, kw_only=True)
class Worker:
    """A Celery worker on a machine of its own, with the folders of this one start."""

    name: str
    machine: Machine
    folder: Path
    pid: int = 0

    @property
    def dags(self) -> Path:
        """Folder of its Dag files."""
        return self.folder / "dags"

    @property
    def state(self) -> Path:
        """Its `[detection] state_dir`."""
        return self.folder / "state"

    def plan(self) -> str:
        """Return the last known plan that its tasks stand on."""
        return "".join(path.read_text() for path in self.state.glob("*.jsonl"))

    def task_log(self, task_id: str) -> str:
        """Return the logs of all attempts at a task that it ran, oldest first."""
        paths = self.folder.glob(f"logs/**/task_id={task_id}/**/*.log")
        return "".join(p.read_text() for p in sorted(paths, key=lambda p: p.stat().st_mtime))


@dataclass(slots=True, kw_only=True)
class CeleryInstance:
    """A running Airflow and its workers, by name."""

    airflow: AirflowInstance
    broker_port: int
    dag_file: str
    workers: dict[str, Worker] = field(default_factory=dict)
    _stack: ExitStack

    def start_worker(self, name: str, queues: str, on: Machine | None = None) -> Worker:
        """Start a worker with new folders, on a machine of its own or on one that has no worker any more."""
        host = on or self._stack.enter_context(machine())
        worker = Worker(name=name, machine=host, folder=self.airflow.folder / name)
        for folder in (worker.dags, worker.folder / "tmp", worker.folder / "airflow"):
            folder.mkdir(parents=True)
        (worker.dags / "cycles.py").write_text(self.dag_file)
        arguments = ("celery", "worker", "--queues", queues, "--skip-serve-logs")
        program = Program(
            name=name,
            argv=host.argv([sys.executable, "-m", "airflow", *arguments]),
            env=self._environment(worker),
            cwd=str(worker.folder),
            log=str(self.airflow.settings.logs / f"{name}.log"),
        )
        worker.pid = self.airflow.supervisor.start(program)
        log = Path(program.log)
        self.airflow.wait(
            lambda: f"{host.name} ready" in log.read_text(errors="replace"), f"the start of {name}"
        )
        self.workers[name] = worker
        return worker

    def kill(self, worker: Worker) -> None:
        """Kill the worker with all that it runs; its machine stays, for another."""
        worker.machine.kill()
        while self.airflow.supervisor.exits.pop(worker.name, None) is None:
            time.sleep(0.05)
        del self.workers[worker.name]

    def _environment(self, worker: Worker) -> dict[str, str]:
        """What a worker needs: no address of the metadata, no secret with which tokens are signed."""
        services = worker.machine.services.here
        api = self._forward(services, self.airflow.settings.port)
        broker = f"redis://{services}:{self._forward(services, self.broker_port).port}"
        own = {
            "AIRFLOW_HOME": str(worker.folder / "airflow"),
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__DAGS_FOLDER": str(worker.dags),
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{services}:{api.port}/execution/",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(worker.folder / "logs"),
            "AIRFLOW__CELERY__BROKER_URL": f"{broker}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"{broker}/1",
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(CONCURRENCY),
            "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG": IMPORTS,
            "AIRFLOW__DETECTION__STATE_DIR": str(worker.state),
            "AIRFLOW_CONN_DETECTION_DEFAULT": self._connection(worker.machine.registry.here),
            "TMPDIR": str(worker.folder / "tmp"),
            "PYTHONPATH": self.airflow.env["PYTHONPATH"],
        }
        shared = {k: v for k, v in self.airflow.env.items() if k.startswith(PASSED_ON)}
        return process_environment(shared | own)

    def _forward(self, host: str, port: int) -> Proxy:
        return self._stack.enter_context(proxy(make_conninfo("", host="127.0.0.1", port=port), host))

    def _connection(self, host: str) -> str:
        """The Airflow connection of the registry as the machine reaches it, which is by no other address."""
        dsn = make_conninfo("", **self.airflow.registry_proxy.target)
        opened = self._stack.enter_context(proxy(dsn, host))
        parameters = conninfo_to_dict(dsn) | {"host": opened.host, "port": opened.port}
        return airflow_connection(make_conninfo("", **{k: v for k, v in parameters.items() if v is not None}))


@contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Port on 127.0.0.1 of a Redis that keeps nothing on disk."""
    if REDIS is None:
        absent("redis-server is not installed here: nothing shows what cycles do on Celery workers")
        raise AssertionError
    port = free_port()
    argv = [REDIS, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with (folder / "redis.log").open("ab") as log:
        process = subprocess.Popen([*argv, "--dir", str(folder)], stdout=log, stderr=log)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


@contextmanager
def celery_instance(
    folder: Path, server: str, dag_file: str, *, environment: Mapping[str, str], **options: str
) -> Iterator[CeleryInstance]:
    """An Airflow with the CeleryExecutor that is ready to start, still without a worker."""
    with ExitStack() as stack:
        port = stack.enter_context(redis(folder))
        executor = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{port}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"redis://127.0.0.1:{port}/1",
        }
        airflow = stack.enter_context(
            airflow_instance(folder, server, environment={**environment, **executor}, **options)
        )
        (airflow.dags / "cycles.py").write_text(dag_file)
        yield CeleryInstance(airflow=airflow, broker_port=port, dag_file=dag_file, _stack=stack)
