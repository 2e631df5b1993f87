"""The report as a whole: one state of the database, each section isolated, stored once and only shown."""

from __future__ import annotations

import io
import re
import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from tests import sample_registry

from airflow_detection.snapshot import collector
from airflow_detection.snapshot.changes import new_bad_verdicts
from airflow_detection.snapshot.rendering.html import render_html
from airflow_detection.snapshot.rendering.terminal import print_report
from airflow_detection.snapshot.report import (
    Column,
    Report,
    Standing,
    Status,
    Table,
    UnknownFormat,
    from_json,
)
from airflow_detection.snapshot.section import BaseSection, Findings, Scope
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.store import snapshots
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

AT = datetime(2026, 3, 1, 13, tzinfo=UTC)
NAMES = [
    "verdicts", "feed", "cycles", "timings", "scores", "comparisons", "events", "gear_identity_collisions",
    "drift", "registry", "upkeep", "configuration",
]  # fmt: skip
EVENT = (
    "insert into detection.detection_events (category, severity, model_id, version_id, entity_id,"
    " cycle_started_at, first_seen_at, last_seen_at) values (%s, 'CRITICAL', 'm', 1, %s, %s, %s, %s)"
)


def _event(conn: Connection, category: str = "m", entity: str = "e", at: datetime | None = None) -> None:
    when = at or AT - timedelta(minutes=30)
    conn.execute(EVENT, (category, entity, when, when, when))


def _take(conn: Connection, *extra: BaseSection) -> Report:
    return collector.take(
        Database(conn, "detection"), (*sections(), *extra), start=AT - timedelta(hours=1), end=AT
    )


def test_an_empty_database_has_a_report_of_every_section_in_order(database: Connection) -> None:
    report = _take(database)
    assert [s.name for s in report.sections] == NAMES
    assert not [(s.name, s.why) for s in report.sections if s.why]
    assert not report.missed
    assert from_json(report.to_json()) == report


def test_a_stored_report_is_shown_and_not_computed_twice(database: Connection) -> None:
    stored, is_new = collector.hourly(Database(database, "detection"), sections(), at=AT)
    assert is_new
    page = render_html(stored.report)
    _event(database)
    stored_later, is_new = collector.hourly(
        Database(database, "detection"), sections(), at=AT + timedelta(minutes=59)
    )
    assert (stored_later, is_new) == (stored, False)
    assert render_html(stored_later.report) == page
    read_back = snapshots.hourly(Database(database, "detection"), AT - timedelta(hours=1))
    assert read_back is not None
    assert render_html(read_back.report) == page


class _Failing(BaseSection):
    name, title = "failing", "Failing"

    def __init__(self, statement: str) -> None:
        self.statement = statement

    def query(self, scope: Scope) -> Any:
        return scope.conn.execute(self.statement.encode()).fetchall()

    def render(self, result: Any, scope: Scope) -> Findings:
        return Findings()


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("select * from detection.nowhere", "does not exist"),
        ("delete from detection.detection_events", "read-only"),
        ("select pg_sleep(30)", "took longer than"),
    ],
)
def test_a_section_that_fails_has_the_reason_and_changes_no_other(
    database: Connection, statement: str, reason: str
) -> None:
    limits = collector.TimeBudget(section_s=0.5, report_s=5)
    report = collector.take(
        Database(database, "detection"),
        (_Failing(statement), *sections()),
        start=AT - collector.HOUR,
        end=AT,
        limits=limits,
    )
    assert report.sections[0].status is Status.NOT_COMPUTED
    assert reason in report.sections[0].why
    assert not [s.why for s in report.sections[1:] if s.why]


class _Hanging(_Failing):
    def render(self, result: Any, scope: Scope) -> Findings:
        while True:
            scope.conn.execute(self.statement.encode())


@pytest.mark.parametrize("statement", ["select 1", "select pg_sleep(0.2)"])
def test_a_section_that_hangs_is_given_up_and_outer_timers_go_on(
    database: Connection, statement: str
) -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 600)
    began = monotonic()
    try:
        report = collector.take(
            Database(database, "detection"), (_Hanging(statement), *sections()),
            start=AT - collector.HOUR, end=AT,
            limits=collector.TimeBudget(section_s=5, report_s=60),
        )  # fmt: skip
        left_s, took_s = signal.getitimer(signal.ITIMER_REAL)[0], monotonic() - began
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert report.sections[0].why == "it took longer than 5 s"
    assert not [s.why for s in report.sections[1:] if s.why]
    assert left_s == pytest.approx(600 - took_s, abs=1)


def test_a_missing_table_costs_its_own_section_alone(database: Connection) -> None:
    database.execute("drop table detection.gear_identity_collisions cascade")
    report = _take(database)
    assert [s.name for s in report.sections if s.why] == ["gear_identity_collisions"]


def test_without_the_tables_of_a_pack_a_report_does_not_speak_of_it(empty_dsn: str) -> None:
    with connect(empty_dsn) as conn:
        migrate(Database(conn, "detection"))
        _event(conn)
        report = _take(conn)
    assert [s.name for s in report.sections] == [n for n in NAMES if n != "gear_identity_collisions"]
    assert not [s.why for s in report.sections if s.why]
    shown = io.StringIO()
    print_report(report.to_json(), Console(file=shown, width=200))
    for text in (shown.getvalue(), render_html(report.to_json())):
        assert not re.findall(r"\b(?:ships?|vessels?|seas?|AIS|MMSI|gear)\b", text, re.IGNORECASE)


def test_all_sections_see_one_state(dsn: str, database: Connection) -> None:
    class Writing(_Failing):
        def query(self, scope: Scope) -> Any:
            with connect(dsn) as other:
                _event(other)

    report = collector.take(
        Database(database, "detection"), (Writing(""), *sections()), start=AT - collector.HOUR, end=AT
    )
    assert report.section("events").facts[0].value == 0


def test_the_time_zone_of_the_session_changes_no_result(database: Connection) -> None:
    sample_registry.register(database)
    _event(database)
    plain = _take(database)
    database.execute("set time zone 'Australia/Lord_Howe'")
    other = _take(database)
    assert [replace(s, took_ms=0) for s in other.sections if s.name not in {"upkeep"}] == [
        replace(s, took_ms=0) for s in plain.sections if s.name not in {"upkeep"}
    ]
    assert other.taken_at.endswith("+00:00")
    assert database.execute("show time zone").fetchone() == ("Australia/Lord_Howe",)


def test_hostile_text_stays_text(database: Connection) -> None:
    _event(database, "<script>alert(1)</script>", "<img src=x onerror=alert(2)>")
    page = render_html(_take(database).to_json())
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/", "")


HOSTILE = "$x_1$ </svg><script>alert(3)</script>--> ]]> &amp; \u202e航海 ñandú"


def test_hostile_names_stay_names_in_plots_strips_and_reasons(database: Connection) -> None:
    database.execute(
        "insert into detection.detection_cycles (cycle_id, schedule, lookback, start_date)"
        " values (%s, '*/5 * * * *', '1 hour', %s)",
        (HOSTILE, AT - timedelta(days=2)),
    )
    database.execute(
        "insert into detection.detection_models (model_id, cycle_id, entrypoint) values (%s, %s, 'a:B')",
        (HOSTILE, HOSTILE),
    )
    database.execute(
        "insert into detection.detection_model_versions (model_id, version) values (%s, '1')", (HOSTILE,)
    )
    database.execute(
        "insert into detection.detection_model_runs (cycle_id, cycle_started_at, version_id, model_id, role,"
        " outcome, attempt, input_count, started_at, score_counts, error, stage_ms)"
        " select %(name)s::text, at, version_id, model_id, 'PRIMARY',"
        " case when at > %(at)s::timestamptz - interval '9 min' then 'FAILED'"
        " else 'SUCCEEDED' end::detection.detection_outcome, 1, 5, at,"
        ' \'{"scored": 5, "null": 0, "gt0": 2, "gt03": 1, "gt05": 1, "gt07": 0}\', %(name)s,'
        " jsonb_build_object(%(name)s::text, 3)"
        " from detection.detection_model_versions, generate_series(%(at)s::timestamptz - interval '5 hours',"
        " %(at)s::timestamptz - interval '1 min', interval '5 min') at",
        {"name": HOSTILE, "at": AT},
    )
    report = _take(database)
    assert not [(s.name, s.why) for s in report.sections if s.why]
    assert {"feed", "scores"} <= {s.name for s in report.sections if s.series}
    page = render_html(report.to_json())
    assert "<script" not in page
    assert page.count("</svg>") == page.count("<svg ")
    assert "航海" in page
    for svg in re.findall(r"<svg .*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)  # noqa: S314 - our own
    out = io.StringIO()
    print_report(report.to_json(), Console(file=out, width=100))
    assert "航海" in out.getvalue()


def test_a_table_of_very_many_rows_keeps_those_that_deserve_a_look() -> None:
    marks = tuple({7: Status.ATTENTION, 950: Status.BAD}.get(n) for n in range(1000))
    table = Table(
        columns=(Column(label="n"),), rows=tuple((n,) for n in range(1000)), marks=marks, left_out=3
    )
    cut = table.within(5)
    assert [row[0] for row in cut.rows] == [0, 1, 2, 7, 950]
    assert cut.marks == (None, None, None, Status.ATTENTION, Status.BAD)
    assert cut.left_out == 998
    assert table.within(1000) is table


def test_a_format_that_cannot_be_read_is_a_clear_error(database: Connection) -> None:
    stored = _take(database).to_json() | {"format_version": 99}
    assert "format 99" in render_html(stored)
    with pytest.raises(UnknownFormat, match="format 99"):
        print_report(stored, Console(file=io.StringIO()))


@pytest.mark.parametrize("width", [40, 80, 160])
def test_a_terminal_of_any_width_shows_every_section(database: Connection, width: int) -> None:
    out = io.StringIO()
    report = _take(database)
    print_report(report.to_json(), Console(file=out, width=width))
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert all(s.title.split()[0] in out.getvalue() for s in report.sections)


def test_hours_without_a_report_are_in_the_next_one(database: Connection) -> None:
    first = collector.hourly(Database(database, "detection"), sections(), at=AT)[0]
    database.execute("update detection.detection_snapshots set taken_at = %s", (AT + timedelta(seconds=9),))
    later = collector.hourly(Database(database, "detection"), sections(), at=AT + timedelta(hours=4))[0]
    missed = from_json(later.report).missed
    assert [(m.start, m.hours) for m in missed] == [(AT.isoformat(), 3)]
    assert not from_json(first.report).missed
    database.execute("update detection.detection_snapshots set taken_at = %s", (AT + timedelta(seconds=9),))
    next_one = collector.hourly(Database(database, "detection"), sections(), at=AT + timedelta(hours=5))[0]
    assert not from_json(next_one.report).missed


def test_a_turn_for_the_worse_is_reported_once() -> None:
    def report(worst: str, *, is_bad: bool) -> Report:
        one = Standing(model_id="m", version="1", role="PRIMARY", worst=worst, last=worst, is_bad=is_bad)
        return Report(
            kind="hourly", taken_at="", start="", end="", schema="", code_version="", headline="",
            sections=(), standings=(one,),
        )  # fmt: skip

    calm, broken = report("OK", is_bad=False), report("SILENT_FAULT", is_bad=True)
    assert new_bad_verdicts(broken, calm.to_json()) == ["m@1 (PRIMARY): OK -> SILENT_FAULT"]
    assert new_bad_verdicts(broken, broken.to_json()) == []
    assert new_bad_verdicts(calm, broken.to_json()) == []
    without = replace(calm, standings=())
    assert new_bad_verdicts(broken, without.to_json(), [broken.to_json(), calm.to_json()]) == []
    assert new_bad_verdicts(broken, without.to_json(), [calm.to_json(), broken.to_json()]) != []
    assert new_bad_verdicts(broken, without.to_json()) == ["m@1 (PRIMARY): unknown -> SILENT_FAULT"]


def test_drift_names_categories_on_one_side_and_keeps_late_ones_apart(database: Connection) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hour = now - timedelta(hours=2)
    for number in range(60):
        _event(database, "fits", str(number), hour)
        _event(database, "off", str(number), hour)
    _event(database, "alone", "e", hour)
    database.execute(
        "insert into detection.detection_stats_hourly (hour, category, event_count)"
        " values (%(h)s, 'fits', 59), (%(h)s, 'off', 57), (%(h)s, 'ghost', 3)",
        {"h": hour},
    )
    _event(database, "fits", "late", hour)
    report = collector.take(
        Database(database, "detection"), sections(), start=now - timedelta(hours=1), end=now
    )
    drift = report.section("drift")
    assert {(r[1], r[5]) for r in drift.tables[0].rows} == {
        ("off", "differs"), ("alone", "only in events"), ("ghost", "only in the counts"),
    }  # fmt: skip
    assert {f.label: f.value for f in drift.facts}["Late"] == 1


def test_cycles_that_never_came_are_missing_and_role_changes_are_shown(database: Connection) -> None:
    sample_registry.register(database)
    sample_registry.antedate(database, sample_registry.SINCE)
    report = _take(database)
    facts = {f.label: f.value for f in report.section("cycles").facts}
    assert (facts["Due"], facts["Missing"]) == (12, 12)
    now = datetime.now(UTC)
    report = collector.take(
        Database(database, "detection"),
        sections(),
        start=now - timedelta(hours=1),
        end=now + timedelta(minutes=1),
    )
    labels = {row[1] for row in report.section("registry").tables[0].rows}
    assert labels == {"tracks@1", "tracks@2", "spoofing@1"}
    assert len(report.section("configuration").tables[0].rows) == 3
