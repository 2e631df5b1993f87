"""What a cycle reads is a history: a past cycle is run again with the settings that were in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import inline, legacy, planning
from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.specs import CycleSettings, Execution, Mode
from airflow_detection.errors import RegistrationError
from airflow_detection.store import registry
from airflow_detection.store.database import Database

OLD = CycleSettings(
    lookback=timedelta(hours=1),
    input_query="select :window_start::timestamptz as at, n from generate_series(1, 2) n",
    time_key="at",
)
NEW = CycleSettings(lookback=timedelta(hours=2), input_query="select 1 as n", time_key=None)


def put(conn: Any, settings: CycleSettings, **fields: Any) -> None:
    sample_registry.put_cycle(
        conn,
        lookback=settings.lookback,
        input_query=settings.input_query,
        time_key=settings.time_key,
        **fields,
    )


def update(conn: Any, settings: CycleSettings) -> None:
    conn.execute(
        "update detection.detection_cycles set lookback = %s, input_query = %s, time_key = %s",
        (settings.lookback, settings.input_query, settings.time_key),
    )


def open_fleet(
    conn: Any, at: datetime = AT, mode: Mode = Mode.AS_OF, known_at: datetime | None = None
) -> OpenedCycle:
    return planning.open_cycle(Database(conn, SCHEMA), "fleet", at, mode=mode, known_at=known_at)


def settings_at(conn: Any, at: datetime | None, known_at: datetime | None = None) -> CycleSettings:
    return registry.settings_at(Database(conn, SCHEMA), "fleet", at, known_at)


@pytest.fixture
def ran(database: Any) -> Any:
    """A fleet that has been planned once; what it reads may change from then on."""
    sample_registry.register(database)
    put(database, OLD)
    open_fleet(database)
    return database


@pytest.mark.parametrize("change", [put, update])
def test_a_change_holds_from_now_on_and_never_for_what_is_past(
    ran: Any, change: Callable[[Any, CycleSettings], None]
) -> None:
    change(ran, NEW)
    assert settings_at(ran, None) == NEW
    for at in (AT - timedelta(days=400), AT, AT + timedelta(minutes=5)):
        assert settings_at(ran, at) == OLD


def test_settings_of_a_cycle_that_was_never_planned_hold_since_ever(database: Any) -> None:
    sample_registry.register(database)
    put(database, OLD)
    put(database, NEW)
    assert settings_at(database, AT) == NEW


def test_what_changes_no_setting_leaves_the_history_alone(ran: Any) -> None:
    count = "select count(*) from detection.detection_cycle_settings"
    before = ran.execute(count).fetchone()
    put(ran, OLD, description="another", schedule="0 * * * *", execution=Execution.INLINE)
    assert ran.execute(count).fetchone() == before


def test_a_past_cycle_and_a_cleared_one_read_what_was_in_force(ran: Any) -> None:
    put(ran, NEW)
    for at in (AT, AT - timedelta(days=30)):  # planned before the change, and never
        opened = open_fleet(ran, at)
        assert (opened.cycle.lookback, opened.spec.input_query) == (OLD.lookback, OLD.input_query)
        request = VersionRequest(model_id="tracks", cycle_id="fleet", started_at=at)
        report = run_task(Database(ran, SCHEMA), SETTINGS, request)
        assert (report.error, report.input_count) == (None, 2)
        (newest,) = ran.execute(
            "select newest_input_at from detection.detection_model_runs where cycle_started_at = %s", (at,)
        ).fetchone()
        assert newest == at - OLD.lookback


def test_an_inline_cycle_of_the_past_reads_what_was_in_force(ran: Any) -> None:
    put(ran, NEW, execution=Execution.INLINE)
    report = inline.run_inline(Database(ran, SCHEMA), SETTINGS, "fleet", AT, mode=Mode.AS_OF)
    assert {r.input_count for r in report.reports} == {2}


def test_the_recorded_plan_carries_the_settings_and_as_run_repeats_them(ran: Any) -> None:
    (plan,) = ran.execute("select plan from detection.detection_cycle_runs").fetchone()
    assert plan["settings"] == {
        "lookback_s": 3600.0,
        "input_query": OLD.input_query,
        "time_key": "at",
    }
    put(ran, NEW)
    first = open_fleet(ran)
    again = open_fleet(ran, mode=Mode.AS_RUN)
    assert (again.plan.settings, again.digest) == (OLD, first.digest)
    assert again.cycle.window.start == AT - OLD.lookback


def test_a_plan_that_was_recorded_without_settings_takes_those_in_force(ran: Any) -> None:
    ran.execute("update detection.detection_cycle_runs set plan = plan - 'settings', plan_digest = 'of old'")
    put(ran, NEW)
    planned = planning.planned_cycle(Database(ran, SCHEMA), "fleet", AT, mode=Mode.AS_OF)
    assert (planned.spec.input_query, planned.cycle.lookback) == (OLD.input_query, OLD.lookback)
    assert open_fleet(ran).mode is Mode.AS_OF
    (plan,) = ran.execute("select plan from detection.detection_cycle_runs").fetchone()
    assert plan["settings"]["input_query"] == OLD.input_query


def test_a_correction_is_known_from_its_record_on_and_runs_beside_what_ran(ran: Any) -> None:
    (now,) = ran.execute(
        "insert into detection.detection_cycle_settings (cycle_id, lookback, input_query, reason)"
        " values ('fleet', %s, %s, 'the table has another name') returning clock_timestamp()",
        (NEW.lookback, NEW.input_query),
    ).fetchone()
    assert (settings_at(ran, AT), settings_at(ran, AT, now)) == (OLD, NEW)
    opened = open_fleet(ran, known_at=now)
    assert (opened.mode, opened.spec.input_query) == (Mode.OVERRIDE, NEW.input_query)
    assert {s.label for s in opened.steps} == {"tracks@1", "tracks@2", "spoofing@1"}
    assert all(s.is_replay for s in opened.steps)
    never_ran = open_fleet(ran, AT + timedelta(minutes=5), known_at=now)
    assert (never_ran.mode, never_ran.plan.settings) == (Mode.AS_OF, NEW)


def test_a_change_takes_effect_behind_what_was_planned_where_the_clock_has_stepped_back(ran: Any) -> None:
    ahead = (
        "update detection.detection_cycle_runs set cycle_started_at = now() + %s returning cycle_started_at"
    )
    (at,) = ran.execute(ahead, (timedelta(minutes=2),)).fetchone()
    put(ran, NEW)
    assert (settings_at(ran, at), settings_at(ran, at + timedelta(seconds=1))) == (OLD, NEW)
    ran.execute(ahead, (timedelta(days=1),))
    with pytest.raises(RegistrationError, match=r"clock is at .*, more than an hour behind"):
        put(ran, OLD)
    put(ran, NEW, description="the other settings can change")


def test_the_history_is_append_only(ran: Any) -> None:
    for statement in ("update {} set lookback = '1 day'", "delete from {}"):
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            ran.execute(statement.format("detection.detection_cycle_settings"))


def test_the_legacy_path_gets_the_window_of_its_time(ran: Any) -> None:
    put(ran, NEW, legacy_entrypoint="tests.sample_registry:legacy")
    call: Any = legacy.legacy_function(Database(ran, SCHEMA), SETTINGS, "fleet", AT)
    assert call.args[0].lookback == OLD.lookback


def test_plans_with_other_settings_have_other_digests(ran: Any) -> None:
    first = open_fleet(ran)
    put(ran, NEW)
    (now,) = ran.execute("select clock_timestamp()").fetchone()
    later = open_fleet(ran, now)
    assert later.digest != first.digest
    assert json.dumps(later.plan.to_json())
