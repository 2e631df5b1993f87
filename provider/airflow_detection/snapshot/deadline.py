"""An end to a section that hangs: its statements have a time limit of their own, its Python has this one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from psycopg.pq import TransactionStatus

from airflow_detection.snapshot.section import SectionTimeout
from airflow_detection.store.connection import Connection

GRACE_S, AGAIN_S = 0.5, 0.5
"""The server ends a statement first; what goes on after the end is told again."""


@contextmanager
def deadline(conn: Connection, limit_s: float) -> Iterator[None]:
    """Let what is inside take no longer; a statement that is under way is cancelled: `conn` stays usable.

    In the main thread only, where a task and the command line are. A timer that was set before, such as that
    of a task's execution timeout, goes on; if it ends sooner, it is left alone.

    Raises:
        SectionTimeout: it took longer.
    """
    outer_s = signal.getitimer(signal.ITIMER_REAL)[0]
    allowed_s = limit_s + GRACE_S
    if threading.current_thread() is not threading.main_thread() or 0 < outer_s <= allowed_s:
        yield
        return

    def ring(*_: object) -> None:
        if conn.info.transaction_status is TransactionStatus.ACTIVE:
            conn.cancel()
        else:
            raise SectionTimeout(limit_s)

    began = monotonic()
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, allowed_s, AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer_s:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, outer_s - (monotonic() - began)))
