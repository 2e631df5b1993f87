"""Each section of the report on planted data, of which the right findings follow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from psycopg.types.json import Jsonb
from tests import sample_registry

from airflow_detection.cycle import closing, planning
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.snapshot import collector
from airflow_detection.snapshot.report import Section, Status
from airflow_detection.snapshot.section import BaseSection, Findings, ProcessFacts, Scope
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.encoding import to_json
from airflow_detection.store.partitions.plan import Phase
from airflow_detection.store.partitions.upkeep import apply

END = datetime(2026, 3, 1, 13, tzinfo=UTC)
START = END - timedelta(hours=1)
DAY = START - timedelta(days=1)
STEP = timedelta(minutes=5)
MANIFEST = (
    "insert into detection.detection_model_runs (cycle_id, cycle_started_at, version_id, is_replay, model_id,"
    " role, outcome, attempt, input_count, newest_input_at, started_at, duration_ms, stage_ms, params_digest,"
    " code_version, score_counts, score_edges)"
    " select 'fleet', %(at)s, version_id, %(is_replay)s, model_id, %(role)s,"
    " %(outcome)s, 1, %(inputs)s, %(newest)s, %(at)s, %(ms)s, %(stage_ms)s, %(params_digest)s,"
    " %(code_version)s, %(counts)s, %(edges)s from detection.detection_model_versions"
    " where model_id || '@' || version = %(label)s"
)
EVENT = (
    "insert into detection.detection_events (category, severity, status, model_id, version_id, entity_id,"
    " cycle_started_at, first_seen_at, last_seen_at, closed_at) values (%(category)s, %(severity)s,"
    " %(status)s, 'tracks', 1, %(entity)s, %(first)s, %(first)s, %(last)s, %(closed)s)"
)


def _run(conn: Connection, label: str, at: datetime, **facts: Any) -> None:
    values = {
        "at": at, "label": label, "role": "PRIMARY", "outcome": "SUCCEEDED", "is_replay": False,
        "inputs": 100, "newest": at - timedelta(seconds=10), "ms": 10.0, "stage_ms": {}, "params_digest": "",
        "code_version": "", "counts": {}, "edges": {"gt0": 0, "gt03": 0.3, "gt05": 0.5, "gt07": 0.7},
    }  # fmt: skip
    values |= facts
    conn.execute(MANIFEST, values | {name: Jsonb(values[name]) for name in ("stage_ms", "counts", "edges")})


def _take(conn: Connection, name: str, **facts: Any) -> Section:
    named = [s for s in sections() if s.name == name]
    report = collector.take(Database(conn, "detection"), named, **{"start": START, "end": END, **facts})
    assert not report.sections[0].why
    return report.sections[0]


def _facts(section: Section) -> dict[str, Any]:
    return {f.label: f.value for f in section.facts}


def _rows(section: Section, number: int = 0) -> list[dict[str, Any]]:
    table = section.tables[number]
    return [dict(zip([c.label for c in table.columns], row, strict=True)) for row in table.rows]


@pytest.fixture
def registered(database: Connection) -> Connection:
    """The fleet, with nothing run."""
    sample_registry.register(database)
    return database


# --- verdicts


@pytest.mark.parametrize(("opened", "status"), [(0, Status.OK), (3, Status.ATTENTION)])
def test_cycles_without_a_single_verdict_need_a_look(
    registered: Connection, opened: int, status: Status
) -> None:
    for number in range(-1, opened):
        registered.execute(
            "insert into detection.detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest)"
            " values ('fleet', %s, 'as_of', '{}', '')",
            (START + number * STEP,),
        )
    registered.execute("update detection.detection_models set is_enabled = false")
    section = _take(registered, "verdicts")
    assert section.status is status
    assert section.summary.startswith("3 cycles ran" if opened else "no cycle was due")


def _give_a_legacy_path(conn: Connection) -> None:
    """The cycle ran when it was due before the hour, so that each of its ticks is due."""
    conn.execute("update detection.detection_cycles set legacy_entrypoint = 'legacy.path:run'")
    conn.execute(
        "insert into detection.detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest,"
        " opened_at) values ('fleet', %(at)s, 'as_of', '{}', '', %(at)s)",
        {"at": START - 2 * timedelta(hours=1)},
    )


def _expected_versions(conn: Connection, process_facts: ProcessFacts) -> set[str]:
    return {row["Version"] for row in _rows(_take(conn, "verdicts", process_facts=process_facts))}


def test_process_facts_tell_whether_a_cycle_with_a_legacy_path_runs_its_models(
    registered: Connection,
) -> None:
    _give_a_legacy_path(registered)
    labels = {"tracks@1", "tracks@2", "spoofing@1"}
    assert _expected_versions(registered, ProcessFacts(use_model_registry=True)) == labels
    assert _expected_versions(registered, ProcessFacts(use_model_registry=False)) == set()


@pytest.mark.parametrize(("flag", "count"), [("1", 3), ("0", 0)])
def test_the_flag_of_this_process_holds_where_the_process_facts_have_none(
    registered: Connection, monkeypatch: pytest.MonkeyPatch, flag: str, count: int
) -> None:
    _give_a_legacy_path(registered)
    monkeypatch.setenv("PREDICTION_USE_MODEL_REGISTRY", flag)
    assert len(_expected_versions(registered, ProcessFacts())) == count


# --- the feed


def _day_of_inputs(conn: Connection, now: Mapping[int, dict[str, Any]]) -> None:
    for number in range(-60, 12):
        before: dict[str, Any] = {"inputs": 90 + number % 20}
        _run(conn, "tracks@1", START + number * STEP, **(now.get(number, {}) if number >= 0 else before))


def test_a_fresh_and_complete_feed_is_beside_its_usual_inputs(registered: Connection) -> None:
    _day_of_inputs(registered, {})
    _run(registered, "tracks@1", START, is_replay=True, inputs=9000)
    feed = _take(registered, "feed")
    row = _rows(feed)[0]
    assert (feed.status, row["Inputs"], row["Usual"], row["Newest input"]) == (Status.OK, 100, 99.5, 10.0)
    assert row["Of usual"] == pytest.approx(100 / 99.5)
    assert _facts(feed)["Inputs read"] == 1200
    assert len(feed.series[0].at) == 72


def test_a_cycle_with_a_task_marked_successful_by_hand_needs_a_look(registered: Connection) -> None:
    db = Database(registered, sample_registry.SETTINGS.schema)
    for number in range(12):
        at = START + number * STEP
        planning.open_cycle(db, "fleet", at, mode=Mode.AS_OF)
        states = {"tracks": "success" if number == 3 else "skipped"}
        closing.close_cycle(db, "fleet", at, mode=Mode.AS_OF, task_states=states)
    registered.execute(
        "update detection.detection_cycle_runs set opened_at = cycle_started_at, closed_at = cycle_started_at"
    )
    section = _take(registered, "cycles")
    assert (section.status, _facts(section)["Marked"]) == (Status.ATTENTION, 1)
    assert _rows(section)[0]["Marked"] == 1
    assert section.tables[1].rows == (("fleet", "marked", (START + 3 * STEP).isoformat()),)


def test_cycles_with_stale_few_or_no_inputs_are_counted(registered: Connection) -> None:
    at = [START + n * STEP for n in range(12)]
    usual = np.array([90 + n % 20 for n in range(-60, 0)])
    middle = np.median(usual)
    floor = min(middle - 6 * np.median(np.abs(usual - middle)), 0.7 * middle)
    _day_of_inputs(
        registered,
        {
            3: {"newest": at[3] - timedelta(minutes=10, seconds=1)},
            4: {"newest": at[4] - timedelta(minutes=10)},
            6: {"inputs": 0, "newest": None},
            8: {"inputs": int(floor)},
            9: {"inputs": int(floor) + 1},
        },
    )
    feed = _take(registered, "feed")
    row = _rows(feed)[0]
    assert (row["Empty"], row["Stale"], row["Few"]) == (1, 1, 1)
    assert feed.status is Status.ATTENTION
    assert _facts(feed)["Newest input, oldest"] == 601.0
    registered.execute(
        "update detection.detection_model_runs set newest_input_at = %s where cycle_started_at = %s",
        (at[5], at[11]),
    )
    assert _take(registered, "feed").status is Status.BAD


def test_a_window_without_inputs_is_no_fault_of_the_feed_where_the_verdict_is_no_input(
    registered: Connection,
) -> None:
    for number in range(-60, 12):
        few: dict[str, Any] = {"inputs": 0, "newest": None} if number > 5 else {"inputs": 10 - number // 10}
        _run(registered, "tracks@1", START + number * STEP, **few)
    assert _take(registered, "feed").status is Status.BAD
    report = collector.take(Database(registered, "detection"), sections(), start=START, end=END)
    feed = report.section("feed")
    assert report.standings[-1].last == "NO_INPUT"
    assert (feed.status, _rows(feed)[0]["Empty"]) == (Status.OK, 6)
    assert feed.summary == "fleet: 6 cycles without inputs, which no verdict minds"


@pytest.mark.parametrize(
    ("schedule", "due", "says"),
    [
        ("0 0 * * *", 0, "no cycle was due"),
        ("* * * * *", 60, "no cycle read anything"),
        ("@hourly", 1, "no cycle read anything"),
        ("whenever", 0, "no cycle was due"),
    ],
)
def test_a_cycle_of_any_length_is_expected_when_it_is_due(
    registered: Connection, schedule: str, due: int, says: str
) -> None:
    registered.execute("update detection.detection_cycles set schedule = %s", (schedule,))
    sample_registry.antedate(registered, START)
    report = collector.take(Database(registered, "detection"), sections(), start=START, end=END)
    assert not [s.why for s in report.sections if s.why]
    cycles, feed = report.section("cycles"), report.section("feed")
    assert (_facts(cycles)["Due"], _facts(cycles)["Missing"]) == (due, due)
    assert feed.summary == f"fleet: {says}"
    assert (feed.status is Status.OK) == (due == 0)
    assert (cycles.status is Status.BAD) == (due > 0 or schedule == "whenever")


# --- stage timings


def test_timings_equal_numpys_and_a_slower_version_is_named(registered: Connection) -> None:
    rng = np.random.default_rng(1)
    now, before = rng.uniform(400, 500, 12), rng.uniform(80, 100, 40)
    for number, ms in enumerate([*before, *now]):
        at = START + (number - 40) * STEP
        _run(registered, "tracks@1", at, ms=ms, stage_ms={"run": ms / 2, "store": ms / 4})
        _run(registered, "tracks@2", at, role="SHADOW", ms=50.0, stage_ms={"run": 40.0})
    _run(registered, "spoofing@1", START, outcome="FAILED", ms=99_999.0)
    _run(registered, "tracks@1", START - timedelta(days=1, minutes=5), ms=99_999.0)
    timings = _take(registered, "timings")
    assert timings.status is Status.ATTENTION
    assert "tracks@1" in timings.summary
    assert "tracks@2" not in timings.summary
    versions = {r["Version"]: r for r in _rows(timings, 1)}
    row = versions["tracks@1"]
    assert (row["Runs"], row["Longest stage"]) == (12, "run")
    expected = [*np.percentile(now, [50, 95, 100]), *np.percentile(before, [50, 95])]
    assert [row[n] for n in ("p50", "p95", "Max", "Day p50", "Day p95")] == pytest.approx(expected)
    assert row["p95 / day"] == pytest.approx(expected[1] / expected[4])
    stages = {r["Stage"]: r for r in _rows(timings)}
    assert stages["store"]["p95"] == pytest.approx(np.percentile(now / 4, 95))
    assert stages["run"]["p50"] == pytest.approx(np.median([*(now / 2), *[40.0] * 12]))
    assert _facts(timings)["Longest"] == pytest.approx(now.max())


# --- score buckets


def _counts(scored: int, gt03: int, null: int = 0) -> dict[str, int]:
    return {
        "scored": scored, "null": null, "gt0": gt03 + 2, "gt03": gt03, "gt05": gt03 // 2, "gt07": gt03 // 4
    }  # fmt: skip


def test_score_buckets_are_summed_and_their_history_goes_by_the_hour(registered: Connection) -> None:
    for hour in range(24):
        for part in range(2):
            at = DAY + timedelta(hours=hour, minutes=30 * part)
            _run(registered, "tracks@1", at, counts=_counts(100, hour))
    for number in range(12):
        counts = _counts(100, 40, null=5)
        _run(registered, "tracks@1", START + number * STEP, counts=counts)
        _run(registered, "tracks@2", START + number * STEP, role="SHADOW", counts=_counts(10, 1))
        _run(registered, "tracks@1", START + number * STEP, is_replay=True, counts=_counts(9999, 9999))
    scores = _take(registered, "scores")
    rows = {r["Version"]: r for r in _rows(scores)}
    row = rows["tracks@1"]
    buckets = ("Outputs", "> 0", "MEDIUM", "HIGH", "CRITICAL", "Flagged", "Flagged above")
    assert [row[n] for n in buckets] == [1260, 504, 480, 240, 120, 240, "0.5"]
    assert row["Null"] == pytest.approx(5 / 105)
    assert row["By hour"] == pytest.approx([*(h / 100 for h in range(24)), 0.4])
    assert rows["tracks@2"]["By hour"] == (*[None] * 24, 0.1)
    assert _facts(scores)["Scored by champions"] == 1200
    assert [line.label for line in scores.series[0].lines] == ["tracks"]
    assert scores.status is Status.OK


def test_flagged_is_what_the_models_threshold_was_when_it_ran(registered: Connection) -> None:
    """Of a manifest from before models had thresholds, what scored above 0.5."""
    edges = {"gt0": 0.0, "medium": 0.3, "high": 0.5, "critical": 0.7}
    counts = {"scored": 100, "null": 0, "gt0": 60, "medium": 40, "high": 30, "critical": 20}
    _run(registered, "tracks@1", START, counts=_counts(100, 40))
    for number, (flagged, above) in enumerate(((25, 0.6), (7, 0.9)), start=1):
        at = START + number * STEP
        _run(
            registered,
            "tracks@1",
            at,
            counts={**counts, "flagged": flagged},
            edges={**edges, "flagged": above},
        )
    _run(registered, "tracks@2", START, role="SHADOW", counts=counts, edges=edges)
    scores = _take(registered, "scores")
    rows = {r["Version"]: (r["Flagged"], r["Flagged above"]) for r in _rows(scores)}
    assert rows == {"tracks@1": (20 + 25 + 7, "0.5, 0.6, 0.9"), "tracks@2": (0, "none")}
    assert scores.summary == "champions scored 300 and flagged 52"


def test_buckets_that_cannot_be_are_bad(registered: Connection) -> None:
    _run(registered, "tracks@1", START, counts=_counts(100, 10) | {"gt07": 90})
    scores = _take(registered, "scores")
    assert (scores.status, scores.tables[0].marks) == (Status.BAD, (Status.BAD,))


# --- events and collisions


def _event(conn: Connection, entity: str, first: datetime, **facts: Any) -> None:
    values = {"category": "tracks", "severity": "HIGH", "status": "OPEN", "last": first, "closed": None}
    conn.execute(EVENT, values | {"entity": entity, "first": first} | facts)


def test_events_that_began_ended_and_stay_are_counted(database: Connection) -> None:
    old, new, late = START - timedelta(hours=5), START + timedelta(minutes=1), END + timedelta(minutes=1)
    _event(database, "open since long", old)
    _event(database, "began", new)
    _event(database, "began and ended", new, status="CLOSED", closed=new + STEP)
    _event(database, "ended", old, status="CLOSED", closed=START)
    _event(database, "ended before", old, status="CLOSED", closed=START - STEP)
    _event(database, "ended since", old, status="CLOSED", closed=late)
    _event(database, "retracted", old, status="RETRACTED", closed=new)
    _event(database, "retracted before", old, status="RETRACTED", closed=old)
    _event(database, "not yet", late)
    _event(database, "worst", old - timedelta(hours=2), severity="CRITICAL", category="spoofing")
    _event(database, "worse", new, severity="CRITICAL")
    _event(database, "handled", DAY, severity="CRITICAL", status="CLOSED", closed=old)
    _event(database, "handled since", old, severity="CRITICAL", status="CLOSED", closed=late)
    events = _take(database, "events")
    facts = _facts(events)
    assert [facts[n] for n in ("New", "Closed", "Retracted", "Open")] == [3, 2, 1, 6]
    assert facts["CRITICAL and open"] == 3
    assert facts["Oldest unhandled CRITICAL"] == timedelta(hours=8).total_seconds()
    assert [r["Entity"] for r in _rows(events, 1)] == ["worst", "handled since", "worse"]
    rows = {r["Category"]: r for r in _rows(events)}
    assert [rows["tracks"][n] for n in ("New", "Open", "CRITICAL", "HIGH")] == [3, 5, 2, 3]
    bars = {line.label: line.values for line in events.series[0].lines}
    assert (bars["HIGH"][-1], bars["CRITICAL"][-1]) == (2, 1)
    assert events.status is Status.ATTENTION


def test_gear_collisions_are_counted_raw_and_open_by_severity(database: Connection) -> None:
    planted = {("CRITICAL", "OPEN"): 2, ("HIGH", "OPEN"): 3, ("HIGH", "CLOSED"): 4, ("LOW", "RETRACTED"): 1}
    for (severity, status), count in planted.items():
        for number in range(count):
            database.execute(
                "insert into detection.gear_identity_collisions (identity, severity, status, first_seen_at,"
                " last_seen_at) values (%s, %s, %s, %s, %s)",
                (f"{severity} {status} {number}", severity, status, DAY + number * STEP, START),
            )
    database.execute(
        "insert into detection.gear_identity_collisions (identity, severity, first_seen_at, last_seen_at)"
        " values ('not yet', 'CRITICAL', %(at)s, %(at)s)",
        {"at": END},
    )
    gear = _take(database, "gear_identity_collisions")
    assert _facts(gear) == {"On record": 10, "Open": 5, "CRITICAL and open": 2}
    rows = {r["Severity"]: (r["Open"], r["Closed"], r["Retracted"]) for r in _rows(gear)}
    assert rows == {"CRITICAL": (2, 0, 0), "HIGH": (3, 4, 0), "MEDIUM": (0, 0, 0), "LOW": (0, 0, 1)}
    assert [r["Identity"] for r in _rows(gear, 1)] == [
        "CRITICAL OPEN 0", "CRITICAL OPEN 1", "HIGH OPEN 0", "HIGH OPEN 1", "HIGH OPEN 2",
    ]  # fmt: skip


# --- table partitions and upkeep


def test_headroom_comes_from_the_catalog_and_too_little_is_an_alarm(database: Connection) -> None:
    now = datetime.now(UTC)
    upkeep = _take(database, "upkeep")
    assert (upkeep.status, _facts(upkeep)["Alarms"]) == (Status.BAD, 3)
    assert apply(Database(database, "detection"), Phase.ENSURE, now=now).is_success
    upkeep = _take(database, "upkeep")
    assert (upkeep.status, _facts(upkeep)["Alarms"]) == (Status.OK, 0)
    row = next(r for r in _rows(upkeep) if r["Table"] == "detection_model_metrics")
    until = datetime.fromisoformat(row["Reach until"])
    bounds = database.execute(
        "select max(substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \\(''([^'']+)''')::timestamptz)"
        " from pg_inherits i join pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'detection.detection_model_metrics'::regclass"
    ).fetchone()
    assert bounds == (until,)
    assert until > now + timedelta(days=80)
    assert row["Ahead"] == pytest.approx((until - now).total_seconds(), abs=60)


def test_the_last_result_of_each_action_of_upkeep_is_shown(database: Connection) -> None:
    log = (
        "insert into detection.detection_maintenance_log (logged_at, action, table_name, outcome, details)"
        " values (%s, %s, %s, %s, %s)"
    )
    for at, action, table, outcome in (
        (END - timedelta(days=8), "detach", "t", "failed"),
        (END - timedelta(days=2), "attach", "t", "failed"),
        (END - timedelta(hours=3), "attach", "t", "failed"),
        (END - timedelta(hours=2), "attach", "t", "done"),
        (END - timedelta(hours=2), "attach", "u", "failed"),
    ):
        database.execute(log, (at, action, table, outcome, Jsonb({"error": "no room"})))
    upkeep = _take(database, "upkeep")
    assert [(r["Table"], r["Outcome"]) for r in _rows(upkeep, 1)] == [("t", "done"), ("u", "failed")]
    assert _facts(upkeep)["Failed in the last day"] == 2
    assert "attach of u failed" in upkeep.summary
    assert upkeep.tables[1].marks == (None, Status.ATTENTION)


# --- configuration in force


def test_configuration_shows_the_roles_in_force_and_runs_with_other_params(registered: Connection) -> None:
    registered.execute(
        "insert into detection.detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest,"
        " opened_at) values ('fleet', %(at)s, 'as_of', '{}', 'digest of the plan', %(at)s),"
        " ('fleet', %(late)s, 'as_of', '{}', 'not yet', %(late)s)",
        {"at": START, "late": END},
    )
    fits = hashlib.sha256(to_json({"ids": ["a", "b"]})).hexdigest()
    _run(registered, "tracks@1", START, params_digest=fits, code_version="1.0")
    _run(registered, "spoofing@1", START, params_digest="f" * 64, code_version="1.1")
    process_facts = ProcessFacts(
        code_version="1.1", flags={"USE_MODEL_REGISTRY": "1"}, plan_read_at=END, plan_ttl_s=300.0
    )
    section = _take(registered, "configuration", process_facts=process_facts)
    rows = {r["Version"]: r for r in _rows(section)}
    assert {label: r["Role"] for label, r in rows.items()} == {
        "tracks@1": "PRIMARY", "tracks@2": "SHADOW", "spoofing@1": "PRIMARY",
    }  # fmt: skip
    assert rows["tracks@1"]["Params"] == rows["tracks@1"]["Ran with"] == fits[:12]
    assert (rows["spoofing@1"]["Ran with"], rows["tracks@2"]["Ran with"]) == ("f" * 12, None)
    assert dict(zip(rows, section.tables[0].marks, strict=True))["spoofing@1"] is Status.BAD
    assert "params other than those registered: spoofing@1" in section.summary
    assert "1.0, 1.1" in section.summary
    assert [(r["Cycle"], r["Plan"]) for r in _rows(section, 1)] == [("fleet", "digest of th")]
    facts = _facts(section)
    assert (facts["Package"], facts["USE_MODEL_REGISTRY"], facts["Plan cache"]) == ("1.1", "1", 300.0)
    assert facts["Plan file"] > 0


def test_a_role_that_began_later_is_not_in_force(registered: Connection) -> None:
    sample_registry.put_version(registered, "tracks@3", Role.CHALLENGER, since=None)
    labels = {r["Version"] for r in _rows(_take(registered, "configuration"))}
    assert labels == {"tracks@1", "tracks@2", "spoofing@1"}


# --- sections of one's own


class Ships(BaseSection):
    """Number of registered versions."""

    name, title = "ships", "Ships"

    def query(self, scope: Scope) -> int:
        """Count them."""
        row = scope.conn.execute("select count(*) from detection.detection_model_versions").fetchone()
        return int(row[0]) if row else 0

    def render(self, result: int, scope: Scope) -> Findings:
        """Return the count in a sentence."""
        del scope
        return Findings(status=Status.ATTENTION, summary=f"{result} versions")


class OwnFeed(Ships):
    """Takes the place of a built-in one."""

    name, title = "feed", "A feed of one's own"


def _own(conn: Connection, *named: str) -> list[Section]:
    loaded = sections(named, allowed_prefixes=(__name__,))
    return list(collector.take(Database(conn, "detection"), loaded, start=START, end=END).sections)


def test_a_section_of_ones_own_stands_behind_the_others_or_in_place_of_one(registered: Connection) -> None:
    *others, last = _own(registered, f"{__name__}:Ships", f"{__name__}:OwnFeed")
    assert (last.name, last.status, last.summary) == ("ships", Status.ATTENTION, "3 versions")
    assert [s.title for s in others if s.name == "feed"] == ["A feed of one's own"]
    assert len(others) == 12


@pytest.mark.parametrize(
    ("named", "reason"),
    [
        ("os:path", "is not allowed"),
        (f"{__name__}:Nothing", "cannot be imported"),
        (f"{__name__}:Connection", "is not a BaseSection with a name"),
        ("no such name", "name of entry-point group 'airflow_detection.sections'"),
        (f"{__name__}:a b", "is not of the form module:name"),
    ],
)
def test_a_section_that_cannot_be_loaded_has_the_reason(
    registered: Connection, named: str, reason: str
) -> None:
    *others, last = _own(registered, named)
    assert (last.name, last.status) == (named, Status.NOT_COMPUTED)
    assert reason in last.why
    assert not [s.why for s in others if s.why]
