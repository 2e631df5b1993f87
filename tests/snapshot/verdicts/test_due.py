"""Ticks at which a cycle is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tests import sample_registry

from airflow_detection.snapshot import collector
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.snapshot.verdicts.due import TICKS_DUE_AFTER_OPENED, due
from airflow_detection.snapshot.verdicts.kinds import VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

END = datetime(2026, 3, 1, 13, tzinfo=UTC)
HOUR, STEP = timedelta(hours=1), timedelta(minutes=5)
OPENED = (
    "insert into detection.detection_cycle_runs"
    " (cycle_id, cycle_started_at, mode, plan, plan_digest, opened_at, dag_run_id)"
    " select cycle_id, %s, 'as_of', '{}', 'x', %s, %s from detection.detection_cycles"
)


def open_cycle(database: Connection, at: datetime, opened_at: datetime, run_id: str = "scheduled__1") -> None:
    database.execute(OPENED, [at, opened_at, run_id])


def due_and_missing(database: Connection, end: datetime) -> tuple[object, object]:
    report = collector.take(Database(database, "detection"), sections(), start=end - HOUR, end=end)
    facts = {fact.label: fact.value for fact in report.section("cycles").facts}
    return facts["Due"], facts["Missing"]


def never_opened(database: Connection, end: datetime) -> set[datetime]:
    judged = verdicts(Database(database, "detection"), start=end - HOUR, end=end, use_model_registry=True)
    return {v.cycle_started_at for v in judged if v.kind is VerdictKind.DID_NOT_RUN}


def test_a_cycle_is_due_from_the_first_that_ran_when_it_was_due(database: Connection) -> None:
    sample_registry.register(database)
    first = END - timedelta(minutes=40)
    open_cycle(database, first, first + timedelta(seconds=9))
    assert due_and_missing(database, END) == (8, 7)
    assert due_and_missing(database, END - HOUR) == (0, 0)
    assert due_and_missing(database, END + 24 * HOUR) == (12, 12)
    assert never_opened(database, END) == {first + n * STEP for n in range(1, 8)}


@pytest.mark.parametrize(
    ("lag", "run_id"), [(timedelta(days=300), "manual__1"), (timedelta(minutes=90), "backfill__1")]
)
def test_after_a_backfill_of_the_past_the_present_is_not_due(
    database: Connection, lag: timedelta, run_id: str
) -> None:
    """Ticks between its cycles or just after them are: it may have gaps, and may have been ended."""
    sample_registry.register(database)
    first = END - timedelta(minutes=40)
    for at in (first, first + 3 * STEP):
        open_cycle(database, at, at + lag, run_id)
    assert due_and_missing(database, END) == (8, 6)
    assert never_opened(database, END) == {first + n * STEP for n in range(1, 8)} - {first + 3 * STEP}
    assert due_and_missing(database, END + 3 * HOUR) == (0, 0)
    assert never_opened(database, END + 3 * HOUR) == set()


def test_no_cycle_is_due_before_it_was_registered(database: Connection) -> None:
    """Roles and start dates lie in the past, so that it can be backfilled, or run by hand."""
    sample_registry.register(database)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    last = now - timedelta(minutes=now.minute % 5)
    assert due_and_missing(database, last) == (0, 0), "it has never run"
    open_cycle(database, last - 12 * HOUR, now, "manual__1")
    for end in (last, last - 3 * HOUR):
        assert due_and_missing(database, end) == (0, 0)
        assert never_opened(database, end) == set()
    open_cycle(database, last - 4 * STEP, last - 4 * STEP, "scheduled__1")
    assert due_and_missing(database, last) == (4, 3)


def test_due_ticks_begin_and_end_at_their_bounds() -> None:
    live = END - timedelta(minutes=20)
    times = due("*/5 * * * *", END - HOUR, END, live_since=live, opened=[])
    assert times == [live + n * STEP for n in range(4)]
    past = due("*/5 * * * *", END - HOUR, END + HOUR, live_since=None, opened=[END - HOUR])
    assert past == [END - HOUR + n * STEP for n in range(TICKS_DUE_AFTER_OPENED + 1)]
    assert due("*/5 * * * *", END - HOUR, END, live_since=None, opened=[]) == []
