"""Changes of the registry that do not end: a cycle is opened all the same, or says why not."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA

from airflow_detection.cycle.planning import open_cycle
from airflow_detection.domain.specs import Mode
from airflow_detection.errors import RegistryBusy
from airflow_detection.operators.context import TERMINAL
from airflow_detection.store import registry
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database

HELD = "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted"


def stop_within_a_change(dsn: str) -> None:
    with connect(dsn) as conn, registry.with_exclusive_lock(Database(conn, SCHEMA)):
        os.kill(os.getpid(), signal.SIGSTOP)


def test_a_change_that_was_stopped_does_not_stop_a_cycle_from_being_opened(
    database: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_registry.register(database)
    monkeypatch.setattr(registry, "CHANGE_IDLE_S", 0.5)
    change = multiprocessing.get_context("fork").Process(target=stop_within_a_change, args=(dsn,))
    change.start()
    try:
        while database.execute(HELD).fetchone() != (1,):
            time.sleep(0.01)
        open_cycle(Database(database, SCHEMA), "fleet", AT, mode=Mode.AS_OF)
    finally:
        assert change.pid
        os.kill(change.pid, signal.SIGKILL)
        change.join()


def test_a_cycle_waits_a_bounded_time_for_a_change_and_may_be_tried_again(
    database: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample_registry.register(database)
    monkeypatch.setattr(registry, "LOCK_WAIT_S", 0.2)
    with connect(dsn) as other, registry.with_exclusive_lock(Database(other, SCHEMA)):
        with pytest.raises(RegistryBusy, match="another session holds a lock") as caught:
            open_cycle(Database(database, SCHEMA), "fleet", AT, mode=Mode.AS_OF)
        assert not isinstance(caught.value, TERMINAL)
    open_cycle(Database(database, SCHEMA), "fleet", AT, mode=Mode.AS_OF)
    assert database.execute("show lock_timeout").fetchone() == ("0",)


def test_the_bound_of_waiting_is_longer_than_a_stopped_change_holds_its_lock() -> None:
    assert registry.LOCK_WAIT_S > 2 * registry.CHANGE_IDLE_S
