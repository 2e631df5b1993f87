"""Faults of a whole installation: a registry that fails over behind a pooler, processes that are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.postgres import postgres
from tests.store.servers import Pooler, pooling, standby

if TYPE_CHECKING:
    from tests.e2e.airflow_instance import AirflowInstance

DATABASE = "chaos"
SCHEDULERS = ("scheduler", "scheduler-2")


@dataclass(slots=True, kw_only=True)
class RegistryPair:
    """A registry's server with a synchronous standby; clients reach one of the two through a pooler."""

    primary: str
    copy: str
    pooler: Pooler
    is_failed_over: bool = False

    @property
    def current(self) -> str:
        """Connection string of the server that takes writes."""
        return self.copy if self.is_failed_over else self.primary

    def fail_over(self) -> None:
        """Kill the primary and all its sessions, promote the standby, and lead the pooler there."""
        folder = Path(str(conninfo_to_dict(self.primary)["host"]))
        postmaster = int((folder / "postmaster.pid").read_text().split()[0])
        os.killpg(os.getpgid(postmaster), signal.SIGKILL)
        with psycopg.connect(self.copy, autocommit=True) as conn:
            assert conn.execute("select pg_promote(true, 60)").fetchone() == (True,)
        self.pooler.lead_to(self.copy)
        self.is_failed_over = True

    def end_session(self, choice: random.Random) -> str:
        """End the session of one of the registry's clients."""
        with psycopg.connect(self.current, autocommit=True) as conn:
            query = "select pid from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
            pids = [pid for (pid,) in conn.execute(query, [DATABASE])]
            if pids:
                conn.execute("select pg_terminate_backend(%s)", [choice.choice(sorted(pids))])
        return f"one of {len(pids)} sessions"


@contextmanager
def registry_pair() -> Iterator[RegistryPair]:
    """A primary whose commits wait for its standby, an empty database, and a pooler before it."""
    with postgres("DETECTION_CHAOS_DSN") as server:
        with psycopg.connect(server, autocommit=True) as conn:
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
        with standby(server) as copy:
            with psycopg.connect(server, autocommit=True) as conn:
                conn.execute("alter system set synchronous_standby_names = '*'")
                conn.execute("select pg_reload_conf()")
            primary, copy = (make_conninfo(dsn, dbname=DATABASE) for dsn in (server, copy))
            with pooling(primary, pool_size=20) as front:
                yield RegistryPair(primary=primary, copy=copy, pooler=front)


@dataclass(slots=True, kw_only=True)
class Chaos:
    """Kills, one at a time; what a supervisor would start again is started again.

    `log` has a line for each kill, for the message of a failed test.
    """

    airflow: AirflowInstance
    pair: RegistryPair
    seed: int
    log: list[str] = field(default_factory=list)
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def strike(self, kind: str) -> None:
        """Kill one thing of this kind."""
        kinds: dict[str, Callable[[], str]] = {
            "component": self._component,
            "task": self._task,
            "session": lambda: self.pair.end_session(self._random),
            "pooler": self._pooler,
            "failover": self._fail_over,
        }
        self.log.append(f"{time.strftime('%H:%M:%S')} {kind}: {kinds[kind]()}")

    def keep_up(self) -> None:
        """Start the components again that have ended."""
        for name in list(self.airflow.supervisor.exits):
            self.airflow.start_component(name)

    def _component(self) -> str:
        name = self._random.choice([*SCHEDULERS, "dag-processor", "api-server"])
        for process in _descendants(self.airflow.supervisor.pids[name]):  # as a container's end does
            _kill(process)
        os.kill(self.airflow.supervisor.pids[name], signal.SIGKILL)
        return name

    def _task(self) -> str:
        """Kill a task, or a process below one.

        Not a worker of the executor, which a scheduler starts: what that one has taken off the queue and not
        begun is lost to Airflow until its scheduler starts again.
        """
        workers = [w for name in SCHEDULERS for w in _children(self.airflow.supervisor.pids[name])]
        below = sorted((p for worker in workers for p in _descendants(worker.pid)), key=lambda p: p.pid)
        if not below:
            return "none"
        process = self._random.choice(below)
        title = " ".join(_title(process))[:60]
        _kill(process)
        return f"{title}, one of {len(below)}"

    def _pooler(self) -> str:
        self.pair.pooler.restart()
        return "killed and started"

    def _fail_over(self) -> str:
        self.pair.fail_over()
        return "the standby is the primary"


def _children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return list(psutil.Process(pid).children())
    return []


def _descendants(pid: int) -> Iterator[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        yield from psutil.Process(pid).children(recursive=True)


def _title(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess):
        return list(process.cmdline())
    return []


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()
