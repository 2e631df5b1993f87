"""Writers that a retry finds at work: a dead client's, a suspended one's, one of another login."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.conninfo import make_conninfo
from tests.store.servers import pooler

from airflow_detection.domain.inputs import SelectedOutputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, VersionSpec
from airflow_detection.errors import StaleAttempt
from airflow_detection.store import run_lock
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.partitions.create import ensure_cycle_months

AT = datetime(2026, 3, 5, 12, tzinfo=UTC)
CYCLE = Cycle(cycle_id="sea", started_at=AT, lookback=timedelta(hours=1))
MODEL = ModelSpec(model_id="spoofing", cycle_id="sea", score_key="score", entity_key="entity")
SLOW = "select pg_sleep({})::text as entity, 0.5 as score, '{{}}'::jsonb as outputs"
STATEMENTS = (
    "select count(*) from pg_stat_activity where query like '%pg_sleep%' and state = 'active'"
    " and pid <> pg_backend_pid() and datname = current_database()"
)


def select(store: PostgresStore, version: VersionSpec, seconds: float) -> None:
    """Store what a SQL model selects in so many seconds."""
    report = RunReport(version=version, outcome=Outcome.SUCCEEDED, started_at=AT)
    outputs = SelectedOutputs(
        SLOW.format(seconds), {}, lambda *_: pytest.fail("it goes through this process")
    )
    store.save(MODEL, version, CYCLE, outputs, lambda _: (report, {}))


def select_alone(dsn: str, version: VersionSpec, seconds: float) -> None:
    with connect(dsn) as conn:
        select(PostgresStore(conn, conn), version, seconds)


@contextmanager
def first_attempt(dsn: str, version: VersionSpec, conn: Connection) -> Iterator[int]:
    """Process id of an attempt whose statement takes a minute and has begun."""
    process = multiprocessing.get_context("fork").Process(target=select_alone, args=(dsn, version, 60))
    process.start()
    assert process.pid
    try:
        end = time.monotonic() + 20
        while conn.execute(STATEMENTS).fetchone() != (1,):
            assert time.monotonic() < end
            time.sleep(0.02)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.join()


@pytest.fixture
def month(database: Connection) -> Connection:
    ensure_cycle_months(Database(database, "detection"), AT)
    return database


def test_a_killed_writers_statement_ends_and_the_retry_need_not_end_it(
    month: Connection, dsn: str, registered_version: VersionSpec, caplog: pytest.LogCaptureFixture
) -> None:
    with first_attempt(dsn, registered_version, month) as pid, connect(dsn) as conn:
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        select(PostgresStore(conn, conn), registered_version, 0)
    assert time.monotonic() - began < run_lock.ORPHAN_S
    assert caplog.messages == []


def test_a_suspended_writers_session_is_ended_by_the_retry(
    month: Connection, dsn: str, registered_version: VersionSpec, caplog: pytest.LogCaptureFixture
) -> None:
    with first_attempt(dsn, registered_version, month) as pid, connect(dsn) as conn:
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        select(PostgresStore(conn, conn), registered_version, 0)
        assert time.monotonic() - began < run_lock.ORPHAN_S + 5
        assert conn.execute("show application_name").fetchone() == ("",)
        assert conn.execute("show client_connection_check_interval").fetchone() == ("0",)
    (message,) = caplog.messages
    assert message.startswith("spoofing@1: session ")
    assert message.endswith(" of attempt 1 held the run and was ended")


def test_a_killed_writer_behind_a_pooler_does_not_stop_the_retry(
    month: Connection, dsn: str, registered_version: VersionSpec
) -> None:
    with pooler(dsn) as pooled, first_attempt(pooled, registered_version, month) as pid:
        os.kill(pid, signal.SIGKILL)
        began = time.monotonic()
        with connect(pooled) as conn:
            select(PostgresStore(conn, conn), registered_version, 0)
            assert conn.execute("show application_name").fetchone() != ("airflow_detection attempt 2",)
        assert time.monotonic() - began < run_lock.ORPHAN_S + 5


def test_a_later_attempt_is_waited_for(
    month: Connection, dsn: str, registered_version: VersionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "ORPHAN_S", 0.3)
    with connect(dsn) as earlier, connect(dsn) as later:
        stores = [PostgresStore(conn, conn) for conn in (earlier, later)]
        thread = threading.Thread(target=select, args=(stores[1], registered_version, 2))
        thread.start()
        while month.execute(STATEMENTS).fetchone() != (1,):
            time.sleep(0.02)
        with pytest.raises(StaleAttempt):
            select(stores[0], registered_version, 0)
        thread.join()
    assert month.execute("select attempt from detection.detection_model_runs").fetchone() == (2,)


def test_a_session_that_may_not_be_ended_is_waited_for_with_the_reason(
    month: Connection, dsn: str, registered_version: VersionSpec, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(run_lock, "ORPHAN_S", 0.3)
    role = f"task_{uuid.uuid4().hex[:8]}"
    month.execute(f"create role {role} login")
    try:
        month.execute(f"grant all on schema detection to {role}")
        month.execute(f"grant all on all tables in schema detection to {role}")
        month.execute(f"grant all on all sequences in schema detection to {role}")
        first = threading.Thread(target=select_alone, args=(dsn, registered_version, 2))
        first.start()
        while month.execute(STATEMENTS).fetchone() != (1,):
            time.sleep(0.02)
        with connect(make_conninfo(dsn, user=role)) as conn:
            select(PostgresStore(conn, conn), registered_version, 0)
        first.join()
    finally:
        month.execute(f"drop owned by {role}")
        month.execute(f"drop role {role}")
    (message,) = caplog.messages
    assert "of attempt 1: this login may not end it, which needs membership in its role" in message
    assert month.execute("select attempt from detection.detection_model_runs").fetchone() == (2,)
