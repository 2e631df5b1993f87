"""Lock of one run (a version in a cycle) while it is written, and the end of an orphan that holds it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from airflow_detection.store.database import Database

log = logging.getLogger(__name__)

ORPHAN_S = 5.0
"""Seconds that an earlier attempt may still hold the lock: the server notices a dead client within two."""

_POLL_S = 0.1


def lock_run(
    db: Database,
    run: Mapping[str, Any],  # Any: a statement's params
    label: str,
    *,
    statement: str = "try_lock",
) -> None:
    """Lock a run, or a shard of it, until the open transaction ends.

    An earlier attempt at it that holds the lock is at an end, or will be overwritten: after ORPHAN_S its
    session is ended. A later one is waited for, and so is one that this login has no right to end.

    Args:
        run: the params that identify the run, and `attempt`.
        label: names the run in the log.
        statement: tries the lock: `try_lock` that of a run, `try_lock_shard` that of one of its shards.
    """
    queries = db.queries("detection_model_runs")
    end = time.monotonic() + ORPHAN_S
    while True:
        key, is_locked, *_ = db.conn.execute(queries[statement], run).fetchone() or (0, False)
        if is_locked:
            return
        if time.monotonic() >= end:
            break
        time.sleep(_POLL_S)
    _end_orphan(db, {"key": key}, run["attempt"], label)
    db.conn.execute(queries["lock"], {"key": key})


def _end_orphan(db: Database, lock: Mapping[str, int], attempt: int, label: str) -> None:
    queries = db.queries("detection_model_runs")
    for pid, holder in db.conn.execute(queries["holder"], lock).fetchall():
        if holder is None or holder >= attempt:
            log.warning("%s: waiting for session %d, which writes the same run", label, pid)
            continue
        try:
            with db.conn.transaction():
                db.conn.execute(queries["end_holder"], {**lock, "pid": pid})
        except psycopg.errors.InsufficientPrivilege:
            log.warning(
                "%s: waiting for session %d of attempt %d: this login may not end it, which needs "
                "membership in its role or in pg_signal_backend", label, pid, holder,
            )  # fmt: skip
        else:
            log.warning("%s: session %d of attempt %d held the run and was ended", label, pid, holder)
