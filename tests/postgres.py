"""The Postgres server of tests and benchmarks: an embedded one, or one that is named instead."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from demo.embedded_postgres import MAJOR, NOT_DURABLE, running, server_program

MEMORY_BYTES = 4 * 2**30


@contextmanager
def postgres(variable: str = "DETECTION_BENCH_DSN", *, is_durable: bool = True) -> Iterator[str]:
    """Connection string of a server in which databases and schemas may be made.

    Args:
        variable: the environment variable that may name another server; its settings are left alone.
        is_durable: whether the embedded server keeps the settings that survive a loss of power.
    """
    dsn = os.environ.get(variable)
    if dsn:
        yield dsn
        return
    with embedded(int(os.environ.get("PGSERVER_POSTGRES_VERSION", MAJOR)), is_durable=is_durable) as dsn:
        yield dsn


@contextmanager
def embedded(major: int = MAJOR, *, is_durable: bool) -> Iterator[str]:
    """Connection string of an embedded server of this major version."""
    folder = Path(tempfile.mkdtemp(prefix="detection-pg-", dir=None if is_durable else _memory()))
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))  # the wheel warns without it when it is imported
    data = folder / "data"  # private to the server's user, and so is the socket in it
    try:
        program = server_program(
            data,
            log=folder / "log",
            options={
                "listen_addresses": "",
                "unix_socket_directories": str(data),
                **({} if is_durable else NOT_DURABLE),
            },
            locale="C.UTF-8",
            major=major,
        )
        dsn = f"postgresql://postgres@/postgres?host={quote(str(data), safe='/')}"
        with running(program, dsn):
            yield dsn
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _memory() -> Path | None:
    """The file system in memory, if there is one with room: a database is made there ten times as fast."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder below it is private
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < MEMORY_BYTES:
        return None
    return memory
