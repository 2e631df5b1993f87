"""Since when a cycle is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests import fleet

from airflow_detection.snapshot import reporter
from airflow_detection.snapshot.sections import sections
from airflow_detection.store.connection import Connection

END = datetime(2026, 3, 1, 13, tzinfo=UTC)
OPENED = (
    "insert into detection.detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest)"
    " select cycle_id, %s, 'as_of', '{}', 'x' from detection.detection_cycles"
)


def test_a_cycle_is_due_from_the_first_that_was_ever_opened(database: Connection) -> None:
    fleet.register(database)
    hour = timedelta(hours=1)
    database.execute(OPENED, [END - timedelta(minutes=40)])
    report = reporter.take(database, "detection", sections(), start=END - hour, end=END)
    facts = {fact.label: fact.value for fact in report.section("cycles").facts}
    assert (facts["Due"], facts["Missing"]) == (8, 7)
    report = reporter.take(database, "detection", sections(), start=END - 2 * hour, end=END - hour)
    facts = {fact.label: fact.value for fact in report.section("cycles").facts}
    assert (facts["Due"], facts["Missing"]) == (0, 0)
