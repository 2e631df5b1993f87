"""Verdicts in the report: the table, the changes, the headline, and the notifications."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb
from rich.console import Console
from tests import sample_registry

from airflow_detection.cycle import planning
from airflow_detection.domain.specs import Mode
from airflow_detection.operators.snapshot import SnapshotReportOperator
from airflow_detection.snapshot import collector
from airflow_detection.snapshot.rendering.html import render_html
from airflow_detection.snapshot.rendering.terminal import print_report
from airflow_detection.snapshot.report import Report, Status, from_json
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.store import snapshots
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

END = datetime(2026, 3, 1, 13, tzinfo=UTC)
HOUR, STEP = timedelta(hours=1), timedelta(minutes=5)
START = END - HOUR
HISTORY = 60
LABELS = ("spoofing@1", "tracks@1", "tracks@2")
BROKE, FAILED = START + 6 * STEP, START + 8 * STEP
MANIFEST = """
insert into detection.detection_model_runs (cycle_id, cycle_started_at, version_id, model_id, role, outcome, error,
    attempt, input_count, output_count, newest_input_at, input_digest, output_digest, started_at, score_counts, canaries)
select 'fleet', %(at)s, version_id, model_id, %(role)s, %(outcome)s, %(error)s, 1, 100, 100,
       %(at)s::timestamptz - interval '10 seconds', md5(%(at)s::text), md5(%(at)s::text || version_id), %(at)s,
       %(counts)s, %(canaries)s
  from detection.detection_model_versions where model_id || '@' || version = %(label)s
"""  # noqa: E501 - a statement
HEADLINE = (
    "1 of 3 versions is in trouble: tracks@1 SILENT_FAULT; 1 had trouble that is over: spoofing@1 FAILED"
)


def _cycle(conn: Connection, at: datetime, number: int) -> None:
    planning.open_cycle(Database(conn, sample_registry.SETTINGS.schema), "fleet", at, mode=Mode.AS_OF)
    conn.execute("update detection.detection_cycle_runs set closed_at = opened_at")
    for label in LABELS:
        failed = label == "spoofing@1" and at == FAILED
        observed = 0.2 if label == "tracks@1" and at >= BROKE else 0.9
        canary = {"name": "sail", "expected": 0.9, "observed": observed, "is_present": True, "error": None}
        counts = {"scored": 100, "null": 0, "gt0": 18 + number % 5, "gt03": 12, "gt05": 8, "gt07": 4}
        conn.execute(
            MANIFEST,
            {
                "at": at, "label": label, "role": "SHADOW" if label == "tracks@2" else "PRIMARY",
                "outcome": "FAILED" if failed else "SUCCEEDED", "error": "out of memory" if failed else None,
                "counts": Jsonb(counts), "canaries": Jsonb([canary]),
            },
        )  # fmt: skip


@pytest.fixture
def stored_runs(database: Connection) -> Connection:
    """Five calm hours; then a champion goes wrong at 12:30, and another fails once at 12:40."""
    sample_registry.register(database)
    for number in range(-HISTORY, 24):
        _cycle(database, START + number * STEP, number)
    return database


def _report(conn: Connection, end: datetime = END) -> Report:
    return collector.take(Database(conn, "detection"), sections(), start=end - HOUR, end=end)


def test_the_worst_stands_first_with_its_reason_its_course_and_what_changed(stored_runs: Connection) -> None:
    report = _report(stored_runs)
    section = report.section("verdicts")
    table, changes = section.tables
    assert [(row[0], row[2], row[3]) for row in table.rows] == [
        ("spoofing@1", "FAILED", "OK"),
        ("tracks@1", "SILENT_FAULT", "SILENT_FAULT"),
        ("tracks@2", "OK", "OK"),
    ]
    assert table.marks == (Status.ATTENTION, Status.BAD, None)
    assert [row[5] for row in table.rows] == ["out of memory", "canary sail: expected 0.9, got 0.2", ""]
    assert table.rows[0][4] == (*["OK"] * 8, "FAILED", *["OK"] * 3)
    assert table.rows[1][4] == (*["OK"] * 6, *["SILENT_FAULT"] * 6)
    assert changes.rows == (
        ("spoofing@1", "OK", "FAILED", FAILED.isoformat()),
        ("tracks@1", "OK", "SILENT_FAULT", BROKE.isoformat()),
    )
    assert section.status is report.status is Status.BAD
    assert report.headline == HEADLINE
    assert "1 of 3 versions are in trouble now; 1 had trouble that is over" in section.summary
    page = render_html(report.to_json())
    assert 'aria-label="6 OK, 6 SILENT_FAULT"' in page
    out = io.StringIO()
    print_report(report.to_json(), Console(file=out, width=160))
    assert f"{6 * '·'}{6 * '■'}" in out.getvalue()


def test_what_was_over_before_the_hour_was_out_has_changed_too(stored_runs: Connection) -> None:
    end = FAILED + 7 * STEP
    report = collector.take(Database(stored_runs, "detection"), sections(), start=FAILED + STEP, end=end)
    assert ("spoofing@1", "FAILED", "OK", (FAILED + STEP).isoformat()) in report.section("verdicts").tables[
        1
    ].rows
    report = collector.take(Database(stored_runs, "detection"), sections(), start=BROKE + STEP, end=end)
    assert [row[0] for row in report.section("verdicts").tables[1].rows] == ["spoofing@1"]


def test_the_strip_of_very_many_cycles_shows_the_gravest_of_several(stored_runs: Connection) -> None:
    report = collector.take(Database(stored_runs, "detection"), sections(), start=START - 5 * HOUR, end=END)
    strips = {row[0]: row[4] for row in report.section("verdicts").tables[0].rows}
    assert len(strips["spoofing@1"]) == 36
    assert (strips["spoofing@1"][-2], strips["tracks@1"][-3:]) == ("FAILED", ("SILENT_FAULT",) * 3)


def test_a_cycle_that_ends_after_its_report_is_in_the_next(stored_runs: Connection) -> None:
    last = END - STEP
    taken_at = END + timedelta(seconds=5)
    stored_runs.execute(
        "update detection.detection_cycle_runs set closed_at = null, opened_at = %s"
        " where cycle_started_at = %s",
        (last, last),
    )
    stored_runs.execute("delete from detection.detection_model_runs where cycle_started_at = %s", (last,))
    snapshots.save(
        Database(stored_runs, "detection"),
        _report(stored_runs).to_json() | {"taken_at": taken_at.isoformat()},
    )
    later = {"closed": END + timedelta(minutes=2), "at": last}
    _cycle(stored_runs, last, 3)
    stored_runs.execute(
        "update detection.detection_cycle_runs set opened_at = %(at)s, closed_at = %(closed)s,"
        " summary = '{\"failed\": 1}' where cycle_started_at = %(at)s",
        later,
    )
    stored_runs.execute(
        "update detection.detection_model_runs set outcome = 'FAILED', error = 'no room'"
        " where model_id = 'spoofing' and cycle_started_at = %(at)s",
        later,
    )
    report = _report(stored_runs, END + HOUR)
    assert {s.label: s.worst for s in report.standings}["spoofing@1"] == "FAILED"
    cycles = report.section("cycles")
    row = dict(zip([c.label for c in cycles.tables[0].columns], cycles.tables[0].rows[0], strict=True))
    assert (row["From before"], row["Failed"], row["Late"], row["Closed"]) == (1, 1, 1, 12)
    assert "no room" in {r[3] for r in cycles.tables[2].rows}
    snapshots.save(
        Database(stored_runs, "detection"),
        report.to_json() | {"taken_at": (END + HOUR + timedelta(seconds=5)).isoformat()},
    )
    assert _report(stored_runs, END + 2 * HOUR).section("cycles").tables[0].rows[0][-1] == 0


def test_a_calm_hour_is_well(stored_runs: Connection) -> None:
    report = _report(stored_runs, START)
    section = report.section("verdicts")
    assert section.status is Status.OK
    assert {row[2] for row in section.tables[0].rows} == {"OK"}
    assert not section.tables[1].rows
    assert not [s for s in report.standings if s.is_bad]


def test_a_change_to_a_bad_verdict_is_notified_once_and_not_every_hour(
    stored_runs: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = conninfo_to_dict(dsn)
    monkeypatch.setenv(
        "AIRFLOW_CONN_DETECTION_DEFAULT",
        json.dumps(
            {
                "conn_type": "postgres", "host": parts["host"], "login": parts.get("user"),
                "password": parts.get("password"), "schema": parts["dbname"],
                "port": int(parts["port"]) if parts.get("port") else None,
            }
        ),
    )  # fmt: skip
    notified: list[tuple[Any, ...]] = []

    def notify(context: Any) -> None:
        notified.append((context["detection_changes"], context["detection_headline"]))
        assert from_json(context["detection_report"]).section("verdicts").status is Status.BAD

    operator = SnapshotReportOperator(task_id="t", notifiers=[notify])
    for at in (START, END, END, END + HOUR):
        operator.execute({"logical_date": at})  # type: ignore[typeddict-item]
    assert notified == [
        (
            [
                "spoofing@1 (PRIMARY): OK -> FAILED",
                "tracks@1 (PRIMARY): OK -> SILENT_FAULT",
            ],
            HEADLINE,
        )
    ]
    last = from_json(
        stored_runs.execute(
            "select report from detection.detection_snapshots order by covers desc limit 1"
        ).fetchone()[0]  # type: ignore[index]  # there is one
    )
    assert {s.label: s.worst for s in last.standings}["tracks@1"] == "SILENT_FAULT"
