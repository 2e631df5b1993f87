"""What a team sets for its Dags: time zone, catchup, tags, owners, callbacks, deadlines; and manual runs."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
from airflow.sdk.definitions.callback import AsyncCallback, SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.trigger import CronTriggerTimetable
from tests.dags.test_cycles import cycle, model
from tests.sample_registry import SCHEMA

from airflow_detection.config import settings
from airflow_detection.dags.cycles import DagArguments, build_dag
from airflow_detection.dags.maintenance import maintenance_dag
from airflow_detection.domain import cron
from airflow_detection.domain.text import visible
from airflow_detection.errors import ConfigurationError
from airflow_detection.operators.context import cycle_of_run
from airflow_detection.plan_cache.known import KnownCycle
from airflow_detection.registration.apply import apply_file
from airflow_detection.registration.export import registration_yaml
from airflow_detection.store import registry
from airflow_detection.store.database import Database

CHANGES = {  # zone: the days before its clock goes forward, and back
    "Europe/Berlin": (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC)),
    "America/New_York": (datetime(2026, 3, 7, 12, tzinfo=UTC), datetime(2026, 10, 31, 12, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 10, 3, 6, tzinfo=UTC), datetime(2026, 4, 4, 6, tzinfo=UTC)),
}
EXPRESSIONS = (
    "*/5 * * * *",
    "30 2 * * *",
    "0 2,3 * * *",
    "15 */2 * * *",
    "30 * * * *",
    "@daily",
    "*/7 1-3 * * *",
)
FILE = """\
cycles:
  night:
    schedule: "30 2 * * *"
    timezone: Europe/Berlin
    catchup: true
    tags: [fraud, night]
    owner: fraud-team
    owner_links: {fraud-team: "https://example.org/fraud"}
    default_args: {retries: 4, retry_delay: 7, pool: heavy, queue: q, execution_timeout: 600}
    deadline: {after: 4m, callback: "tests.dags.test_habits:hears_of_it"}
    lookback: 1d
    start_date: 2026-01-01
"""


def airflows_ticks(expression: str, zone: str, start: datetime, hours: int) -> list[datetime]:
    timetable = CronTriggerTimetable(expression, timezone=zone)
    at, end, found = pendulum.instance(start), pendulum.instance(start).add(hours=hours), []
    while (at := timetable._get_next(at)) <= end:
        found.append(datetime.fromtimestamp(at.timestamp(), UTC))
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("zone", CHANGES)
def test_where_clocks_change_cycles_are_due_when_airflow_runs_them_and_none_twice(
    zone: str, expression: str
) -> None:
    schedule = cron.zoned(expression, zone)
    for start in CHANGES[zone]:
        theirs = airflows_ticks(expression, zone, start, 40)
        bounds = (start + timedelta(microseconds=1), start + timedelta(hours=40, microseconds=1))
        ours = list(islice(cron.ticks(schedule, *bounds), 1000))
        assert ours == theirs
        assert len(set(ours)) == len(ours)
        assert cron.neighbours(schedule, ours[0]) == (ours[0], cron.neighbours(schedule, ours[0])[1])


def test_a_day_of_25_hours_has_its_cycle_once_and_one_of_23_hours_an_hour_later_on_the_clock() -> None:
    spring, autumn = (
        [
            t.isoformat()
            for t in cron.ticks("CRON_TZ=Europe/Berlin 30 2 * * *", start, start + timedelta(days=1))
        ]
        for start in CHANGES["Europe/Berlin"]
    )
    assert (spring, autumn) == (["2026-03-29T01:30:00+00:00"], ["2026-10-25T01:30:00+00:00"])


def test_the_cycle_after_a_change_of_the_clock_says_so() -> None:
    schedule = "CRON_TZ=Europe/Berlin 0 2,3 * * *"
    start = CHANGES["Europe/Berlin"][0]
    ticks = list(cron.ticks(schedule, start, start + timedelta(days=2)))
    said = {tick.isoformat(): cron.clock_change(schedule, tick) for tick in ticks}
    hours = ("29T01", "30T00", "30T01")  # 02:00 and 03:00 of the 29th are the same instant
    assert list(said) == [f"2026-03-{hour}:00:00+00:00" for hour in hours]
    first, *others = said.values()
    assert first == (
        "the clock of Europe/Berlin went from UTC+01:00 to UTC+02:00 between the cycle before,"
        " 2026-03-28T02:00:00+00:00, and this one: a time that it left out, or had twice, is one cycle"
    )
    assert others == [None, None]
    assert cron.clock_change("0 2 * * *", ticks[0]) is None


def test_a_file_sets_them_and_the_dag_has_them(database: Any, tmp_path: Path) -> None:
    db, file = Database(database, SCHEMA), tmp_path / "registry.yaml"
    file.write_text(FILE)
    assert apply_file(db, file)
    assert apply_file(db, file) == []
    (spec,) = registry.cycle_specs(db)
    models = (model("m", task_options={"retries": 1}), model("n", task_options={"execution_timeout": 60}))
    known = replace(cycle(*models), spec=spec)
    dag = build_dag(known, arguments=DagArguments(allowed_prefixes=("tests",)))
    timetable: Any = dag.timetable
    assert (timetable.expression, timetable.timezone) == ("30 2 * * *", "Europe/Berlin")
    assert (dag.catchup, dag.tags) == (True, {"detection", "fraud", "night"})
    assert {task.owner for task in dag.tasks} == {"fraud-team"}
    assert dag.owner_links == {"fraud-team": "https://example.org/fraud"}
    assert {(t.pool, t.queue, t.retry_delay) for t in dag.tasks} == {("heavy", "q", timedelta(seconds=7))}
    assert {t.task_id: t.retries for t in dag.tasks if t.retries != 4} == {"m": 1}
    limits = {t.task_id: t.execution_timeout for t in dag.tasks}
    assert (limits["open_cycle"], limits["n"]) == (timedelta(minutes=10), timedelta(seconds=90))
    (serialised,) = DagSerialization.to_dict(dag)["dag"]["deadline"]
    assert "tests.dags.test_habits.hears_of_it" in str(serialised)
    assert DagSerialization.to_dict(dag) == DagSerialization.to_dict(
        build_dag(known, arguments=DagArguments(allowed_prefixes=("tests",)))
    )
    exported = tmp_path / "exported.yaml"
    exported.write_text(registration_yaml(db))
    assert "timezone: Europe/Berlin" in exported.read_text()
    assert apply_file(db, exported) == []


def hears(context: Any) -> None:
    """Stand for a team's callback."""


async def hears_of_it(context: Any) -> None:
    """Stand for the callback of a deadline."""


def test_a_team_gives_arguments_to_all_dags_and_a_cycles_own_win() -> None:
    arguments = DagArguments(
        default_args={"owner": "all", "retries": 7},
        tags=("ours",),
        owner_links={"all": "https://example.org/all"},
        on_failure_callback=hears,
    )
    known = cycle(model("m", task_options={"retries": 1}))
    dag = build_dag(known, arguments=arguments)
    assert (dag.tags, dag.owner_links) == ({"detection", "ours"}, {"all": "https://example.org/all"})
    assert dag.on_failure_callback is hears
    assert {t.task_id: t.retries for t in dag.tasks}["m"] == 1
    assert {t.retries for t in dag.tasks if t.task_id != "m"} == {7}
    own = build_dag(replace(known, spec=replace(known.spec, owner="theirs")), arguments=arguments)
    assert {t.owner for t in own.tasks} == {"theirs"}
    assert DagSerialization.to_dict(dag) == DagSerialization.to_dict(build_dag(known, arguments=arguments))


def test_a_deadline_is_that_of_every_dag() -> None:
    alert = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(minutes=4),
        callback=AsyncCallback(hears_of_it),
    )
    dag = build_dag(cycle(model("m")), arguments=DagArguments(deadline=alert))
    assert dag.deadline == [alert]


def with_deadline(callback: str) -> KnownCycle:
    known = cycle(model("m"))
    return replace(known, spec=replace(known.spec, deadline={"after_s": 240, "callback": callback}))


@pytest.mark.parametrize(("name", "kind"), [("hears", SyncCallback), ("hears_of_it", AsyncCallback)])
def test_a_registered_deadline_comes_beside_those_of_the_team(name: str, kind: type) -> None:
    alert = DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        interval=timedelta(1),
        callback=AsyncCallback(hears_of_it),
    )
    for given in (alert, [alert]):
        arguments = DagArguments(deadline=given, allowed_prefixes=("tests",))
        known = with_deadline(f"tests.dags.test_habits:{name}")
        of_team, own = build_dag(known, arguments=arguments).deadline
        assert (of_team, own.interval) == (alert, timedelta(minutes=4))
        assert own.callback == kind(f"tests.dags.test_habits.{name}")


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        ("os:abort", "entry point 'os:abort' is not allowed: module 'os' is under none of ['tests']"),
        ("tests.nowhere:late", "cannot be imported: ModuleNotFoundError: No module named 'tests.nowhere'"),
        ("tests.dags.test_habits:FILE", "entry point 'tests.dags.test_habits:FILE' is not callable"),
    ],
)
def test_a_callback_that_cannot_be_called_is_said_and_the_cycle_runs_without_it(
    callback: str, reason: str
) -> None:
    dag = build_dag(with_deadline(callback), arguments=DagArguments(allowed_prefixes=("tests",)))
    assert dag.tags == {"detection", "no deadline"}
    assert (dag.deadline, dag.schedule is None) == (None, False)
    assert visible(reason) in (dag.doc_md or "").replace("\\", "")


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (
            {"default_args": {"pool": "x" * 300}},
            "default_args.pool: must be text of 1 to 256 characters, without NUL",
        ),
        (
            {"default_args": {"retries": 10**12}},
            "default_args.retries: must be a whole number from 0 to 100, not",
        ),
        ({"default_args": {"emails": "a@x.org"}}, "default_args.emails: unknown option"),
        ({"deadline": {"after": "4m"}}, "KeyError: 'callback'"),
        (
            {"deadline": {"after_s": "soon", "callback": "tests.dags.test_habits:hears"}},
            "TypeError: unsupported",
        ),
        ({"owner_links": {"us": "nowhere"}}, "ValueError: "),
    ],
)
def test_what_somebody_stored_wrong_refuses_its_own_dag_with_the_reason(
    stored: dict[str, Any], reason: str
) -> None:
    """A value that fits no column of Airflow's would stop its scheduler, an error at parse every Dag."""
    known = cycle(model("m"))
    wrong = replace(known, spec=replace(known.spec, **stored))
    dag = build_dag(wrong, arguments=DagArguments(allowed_prefixes=("tests",)))
    assert list(dag.task_dict) == ["registration_error"]
    assert reason in dag.task_dict["registration_error"].reason  # type: ignore[attr-defined]


def test_the_maintenance_dag_takes_schedule_tags_notifiers_and_what_to_do_on_trouble() -> None:
    dag = maintenance_dag(schedule="7 * * * *", tags=["ours"], notifiers=[hears], on_trouble="fail")
    report: Any = dag.task_dict["snapshot_report"]
    assert (dag.schedule, dag.tags) == ("7 * * * *", {"detection", "ours"})
    assert (report.notifiers, report.on_trouble) == ((hears,), "fail")
    with pytest.raises(ValueError, match="on_trouble is 'mail': must be one of ignore, warn, fail"):
        maintenance_dag(on_trouble="mail")  # type: ignore[arg-type]


def context(at: datetime, run_type: str = "manual", known: Any = None) -> Any:
    run = SimpleNamespace(run_type=run_type, run_after=at)
    return {"logical_date": at, "dag_run": run, "dag": build_dag(known or cycle(model("m")))}


LOG = logging.getLogger("tests.habits")
OFF_GRID = datetime(2026, 3, 1, 12, 7, 3, tzinfo=UTC)
BEFORE, AFTER = datetime(2026, 3, 1, 12, 5, tzinfo=UTC), datetime(2026, 3, 1, 12, 10, tzinfo=UTC)


def test_a_manual_run_between_two_ticks_is_refused_with_the_ticks_around_it() -> None:
    with pytest.raises(AirflowFailException) as caught:
        cycle_of_run(context(OFF_GRID), LOG)
    assert str(caught.value) == (
        "the run is for 2026-03-01T12:07:03+00:00, which is no tick of '*/5 * * * *': trigger it for"
        " 2026-03-01T12:05:00+00:00 or 2026-03-01T12:10:00+00:00, or set [detection] manual_runs to snap"
    )
    assert cycle_of_run(context(BEFORE), LOG) == BEFORE
    assert cycle_of_run(context(OFF_GRID, "scheduled"), LOG) == OFF_GRID


def test_a_manual_run_between_two_ticks_is_snapped_to_the_one_before_where_that_is_set(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__DETECTION__MANUAL_RUNS", "snap")
    assert cycle_of_run(context(OFF_GRID), LOG) == BEFORE
    assert "between two ticks: the cycle is 2026-03-01T12:05:00+00:00" in caplog.text
    monkeypatch.setenv("AIRFLOW__DETECTION__MANUAL_RUNS", "round")
    with pytest.raises(ConfigurationError, match="manual_runs is 'round': must be one of refuse, snap"):
        settings()


def test_a_manual_run_without_a_logical_date_is_for_the_last_tick() -> None:
    undated = context(OFF_GRID) | {"logical_date": None}
    assert cycle_of_run(undated, LOG) == BEFORE


def test_a_run_of_a_dag_without_a_schedule_has_any_instant() -> None:
    known = cycle(model("m"))
    off = replace(known, spec=replace(known.spec, is_enabled=False))
    assert cycle_of_run(context(OFF_GRID, known=off), LOG) == OFF_GRID
