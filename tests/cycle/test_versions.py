"""Cycles from opening to summary, against a real Postgres and without Airflow."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest, find_step
from airflow_detection.domain.reports import CycleSummary, RunReport
from airflow_detection.domain.specs import Execution, Mode, Outcome, Role
from airflow_detection.engine import entrypoints
from airflow_detection.engine.executor import CycleReport
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import (
    ClockBehind,
    EntryPointError,
    NotInPlan,
    PlanError,
    RegistrationError,
    TerminalModelError,
)
from airflow_detection.operators.context import terminal_errors
from airflow_detection.store import roles
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database


class LosesWriter(BaseDetectionModel):
    """Computes until every other session of the database was ended, as a server ends idle ones."""

    def run(self, ctx: ModelContext) -> ModelResult:
        with connect(ctx.params["dsn"]) as conn:
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                " and pid <> pg_backend_pid() and backend_type = 'client backend'"
            )
        if ctx.params.get("raises"):
            raise TerminalModelError("told to fail")
        return ModelResult(outputs_per_input=[({}, {"id": "a", "score": 1.0})])


@pytest.fixture
def reader(dsn: str) -> Any:
    """The connection that champions read with."""
    with connect(dsn) as conn:
        yield conn


def open_fleet(conn: Any, at: datetime = AT, mode: Mode = Mode.AS_OF, **options: Any) -> planning.OpenedCycle:
    return planning.open_cycle(Database(conn, SETTINGS.schema), "fleet", at, mode=mode, **options)


def run(
    conn: Any,
    reader: Any,
    model: str,
    version: str | None = None,
    mode: Mode = Mode.AS_OF,
    *,
    at: datetime = AT,
    cycle_id: str | None = "fleet",
) -> RunReport:
    request = VersionRequest(model_id=model, version=version, cycle_id=cycle_id, started_at=at, mode=mode)
    return run_task(Database(conn, SETTINGS.schema), SETTINGS, request)


def run_inline(conn: Any, mode: Mode = Mode.AS_OF, **options: Any) -> CycleReport:
    return inline.run_inline(Database(conn, SETTINGS.schema), SETTINGS, "fleet", AT, mode=mode, **options)


def close_fleet(conn: Any, mode: Mode = Mode.AS_OF, **states: str) -> CycleSummary:
    return closing.close_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=mode, task_states=states)


def test_a_whole_cycle_runs_champions_shadows_and_dependents(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    steps = [(s.label, s.role) for s in open_fleet(database).steps]
    assert steps == [
        ("tracks@1", Role.PRIMARY),
        ("tracks@2", Role.SHADOW),
        ("spoofing@1", Role.PRIMARY),
    ]
    reports = [run(database, reader, "tracks"), run(database, reader, "tracks", "2")]
    reports.append(run(database, reader, "spoofing"))
    assert [r.output_count for r in reports] == [2, 3, 1]
    summary = close_fleet(database)
    assert (summary.executed, summary.shadow_ran, summary.failed) == (2, 1, 0)
    scores = database.execute(
        "select score from detection.detection_model_run_outputs where model_id = 'spoofing'"
    ).fetchall()
    assert scores == [(2.0,)], "spoofing sees the champion's two outputs, never the shadow's three"


def test_a_failed_champion_stops_its_dependents_and_its_shadows(database: Any, reader: Any) -> None:
    sample_registry.register(database, tracks={"fail": "terminal"})
    open_fleet(database)
    failed = run(database, reader, "tracks")
    assert (failed.outcome, failed.is_transient) == (Outcome.FAILED, False)
    assert run(database, reader, "spoofing").outcome is Outcome.SKIPPED
    assert run(database, reader, "tracks", "2").outcome is Outcome.SKIPPED
    summary = close_fleet(database, tracks="failed")
    assert (summary.failed, summary.skipped_missing_deps, summary.executed) == (1, 1, 0)
    assert sample_registry.outcomes(database) == {
        "spoofing@1": "SKIPPED",
        "tracks@1": "FAILED",
        "tracks@2": "SKIPPED",
    }


@pytest.mark.parametrize("is_failure", [False, True])
def test_a_connection_that_is_lost_while_a_champion_computes_costs_no_result(
    database: Any, dsn: str, *, is_failure: bool
) -> None:
    sample_registry.register(database)
    entrypoint = "tests.cycle.test_versions:LosesWriter"
    sample_registry.put_model(database, "lone", entrypoint=entrypoint)
    sample_registry.put_version(database, "lone@1", Role.PRIMARY, dsn=dsn, raises=is_failure)
    open_fleet(database)
    request = VersionRequest(model_id="lone", cycle_id="fleet", started_at=AT)
    settings = replace(SETTINGS, allowed_prefixes=("tests.cycle.test_versions",))
    with connect(dsn) as writer:
        report = run_task(Database(writer, SCHEMA), settings, request)
        assert writer.closed
    with connect(dsn) as conn:
        assert report.outcome.value == sample_registry.outcomes(conn)["lone@1"]
        assert (report.outcome, report.error) == (
            (Outcome.FAILED, "TerminalModelError: told to fail") if is_failure else (Outcome.SUCCEEDED, None)
        )


def test_a_failed_shadow_stops_nothing(database: Any, reader: Any) -> None:
    sample_registry.register(database, shadow={"fail": "transient"})
    open_fleet(database)
    run(database, reader, "tracks")
    assert run(database, reader, "tracks", "2").is_transient
    assert run(database, reader, "spoofing").outcome is Outcome.SUCCEEDED
    assert close_fleet(database).shadow_failed == 1


def test_a_model_of_a_hand_written_dag_needs_no_opened_cycle(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    report = run(database, reader, "tracks", cycle_id=None)
    assert report.outcome is Outcome.SUCCEEDED
    assert run(database, reader, "tracks", "1").outcome is Outcome.SUCCEEDED, "the champion by its version"


def test_an_unknown_version_is_named_with_the_cycle(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(PlanError, match="'tracks' with version '9'"):
        run(database, reader, "tracks", "9")


@pytest.mark.parametrize(
    ("label", "is_not_in_plan"), [("tracks@3", True), ("added@1", True), ("tracks@9", False)]
)
def test_a_registered_version_that_an_opened_cycle_was_not_planned_with_is_told_apart(
    database: Any,
    label: str,
    is_not_in_plan: bool,  # noqa: FBT001
) -> None:
    sample_registry.register(database)
    open_fleet(database)
    sample_registry.put_model(database, "added")
    for added in ("tracks@3", "added@1"):
        sample_registry.put_version(database, added, Role.PRIMARY, since=None)
    model_id, _, version = label.partition("@")
    for is_opened in (True, False):
        request = VersionRequest(
            model_id=model_id, version=version, cycle_id="fleet", started_at=AT, is_opened=is_opened
        )
        with pytest.raises(PlanError) as error:
            find_step(Database(database, SCHEMA), request)
        assert isinstance(error.value, NotInPlan) == (is_opened and is_not_in_plan)


def test_a_task_that_left_no_manifest_is_noted_when_the_cycle_closes(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    open_fleet(database)
    run(database, reader, "tracks")
    summary = close_fleet(database, tracks="success", spoofing="failed", tracks__2="upstream_failed")
    assert (summary.executed, summary.failed, summary.shadow_ran) == (1, 1, 0)
    assert sample_registry.outcomes(database) == {
        "spoofing@1": "FAILED",
        "tracks@1": "SUCCEEDED",
        "tracks@2": "SKIPPED",
    }


@pytest.mark.parametrize(
    ("states", "marked"),
    [
        ({"tracks": "success", "spoofing": "skipped", "tracks__2": "success"}, ("tracks@1", "tracks@2")),
        ({"run_cycle": "success"}, ("tracks@1", "tracks@2", "spoofing@1")),
        ({"tracks": "skipped", "other_versions": "skipped"}, ()),
    ],
)
def test_a_task_that_was_marked_successful_by_hand_is_named_in_the_summary(
    database: Any, states: dict[str, str], marked: tuple[str, ...]
) -> None:
    sample_registry.register(database)
    open_fleet(database)
    summary = close_fleet(database, **states)
    assert (summary.executed, summary.marked_successful) == (0, marked)
    stored = database.execute("select summary from detection.detection_cycle_runs").fetchone()[0]
    assert stored["marked_successful"] == list(marked)


def test_what_has_a_result_or_is_switched_off_was_not_marked(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    open_fleet(database)
    run(database, reader, "tracks")
    sample_registry.put_model(database, "spoofing", ("tracks",), is_enabled=False)
    assert close_fleet(database, tracks="success", spoofing="success").marked_successful == ()


def test_a_cycle_ahead_of_the_registrys_clock_is_tried_again(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    ahead = datetime.now(UTC) + timedelta(minutes=1)
    for attempt in (open_fleet, lambda conn, at: run(conn, reader, "tracks", at=at)):
        with pytest.raises(ClockBehind, match="s in the future of the registry's clock"), terminal_errors():
            attempt(database, ahead)


def test_a_planned_cycle_runs_again_where_the_clock_has_stepped_back(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    open_fleet(database)
    (ahead,) = database.execute(
        "update detection.detection_cycle_runs set cycle_started_at = now() + interval '2 min'"
        " returning cycle_started_at"
    ).fetchone()
    started = time.monotonic()
    for at in (ahead, ahead - timedelta(seconds=30)):
        open_fleet(database, at)
        assert run(database, reader, "tracks", at=at).outcome is Outcome.SUCCEEDED
    assert time.monotonic() - started < 20


def test_a_past_cycle_runs_the_champion_of_its_time(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    roles.assign_role(Database(database, SCHEMA), model_id="tracks", version="2", role=Role.PRIMARY)
    past = open_fleet(database).plan
    assert past.primaries["tracks"].version == "1"
    soon = datetime.now(UTC) + timedelta(seconds=0.5)  # the registry's clock may be a little behind
    now = open_fleet(database, at=soon).plan
    assert now.primaries["tracks"].version == "2"


def test_a_cycle_in_the_future_gets_no_plan_because_it_could_still_change(database: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(ClockBehind, match="s in the future of the registry's clock"):
        open_fleet(database, at=datetime.now(UTC) + timedelta(hours=1))
    assert database.execute("select from detection.detection_cycle_runs").fetchall() == []


def test_as_run_repeats_the_recorded_plan_and_nothing_else(database: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(PlanError, match="no plan was recorded"):
        open_fleet(database, mode=Mode.AS_RUN)
    first = open_fleet(database)
    assert open_fleet(database, mode=Mode.AS_RUN).digest == first.digest


def test_a_replay_runs_beside_what_was_live_and_changes_none_of_it(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    open_fleet(database)
    for model, version in (("tracks", None), ("tracks", "2"), ("spoofing", None)):
        run(database, reader, model, version)
    live = sample_registry.outcomes(database)
    sample_registry.put_version(database, "spoofing@next", ids=["y", "z"])
    replay = open_fleet(database, mode=Mode.OVERRIDE, replay=["spoofing@next"])
    assert [s.label for s in replay.steps] == ["spoofing@next"]
    report = run_inline(database, Mode.OVERRIDE)
    assert [r.output_count for r in report.reports] == [2]
    assert sample_registry.outcomes(database) == live | {"spoofing@next!": "SUCCEEDED"}
    assert close_fleet(database, mode=Mode.OVERRIDE).shadow_ran == 1


def test_a_model_without_any_role_yet_can_be_replayed(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    open_fleet(database)
    run(database, reader, "tracks")
    sample_registry.put_model(database, "loitering", ("tracks",))
    sample_registry.put_version(database, "loitering@1", ids=["q"])
    replay = open_fleet(database, mode=Mode.OVERRIDE, replay=["loitering@1"])
    assert [s.label for s in replay.steps] == ["loitering@1"]
    assert run(database, reader, "loitering", "1", Mode.OVERRIDE).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("mode", "replay", "reason"),
    [
        (Mode.OVERRIDE, [], "needs versions"),
        (Mode.OVERRIDE, ["tracks@9"], "tracks@9"),
        (Mode.OVERRIDE, ["other@1"], "not versions of cycle"),
        (Mode.AS_OF, ["tracks@2"], "needs mode 'override'"),
    ],
)
def test_a_replay_that_cannot_be_is_refused(
    database: Any, mode: Mode, replay: list[str], reason: str
) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, cycle_id="other")
    sample_registry.put_model(database, "other", cycle_id="other")
    sample_registry.put_version(database, "other@1", Role.PRIMARY)
    with pytest.raises(PlanError, match=reason):
        open_fleet(database, mode=mode, replay=replay)


def test_a_broken_model_fails_with_the_reason_and_the_others_run(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "lost", ("trakcs",))
    sample_registry.put_version(database, "lost@1", Role.PRIMARY)
    open_fleet(database)
    with pytest.raises(RegistrationError, match="the nearest name is 'tracks'"):
        run(database, reader, "lost")
    assert run(database, reader, "tracks").outcome is Outcome.SUCCEEDED
    assert close_fleet(database, lost="failed").failed == 1


def test_an_entry_point_that_is_not_allowed_is_a_failure_with_a_manifest(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_version(database, "tracks@evil", Role.CHALLENGER, entrypoint="os:system", since=None)
    at = datetime.now(UTC)
    open_fleet(database, at=at)
    for version in (None, "evil"):
        report = run(database, reader, "tracks", version, at=at)
    assert report.outcome is Outcome.FAILED
    assert "EntryPointError" in str(report.error)
    assert sample_registry.outcomes(database, at)["tracks@evil"] == "FAILED"


def test_a_model_that_is_switched_off_is_skipped_with_its_dependents(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "tracks", is_enabled=False)
    open_fleet(database)
    assert "switched off" in str(run(database, reader, "tracks").error)
    assert run(database, reader, "spoofing").outcome is Outcome.SKIPPED
    assert close_fleet(database).failed == 0


def test_a_transient_failure_of_the_input_query_can_be_tried_again(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, input_query="select 1 as n where :window_end > :window_start")
    open_fleet(database)
    assert run(database, reader, "tracks").input_count == 1
    sample_registry.put_cycle(database, input_query="select no_such_column")
    assert run(database, reader, "spoofing").input_count == 1
    open_fleet(database, at=(now := datetime.now(UTC)))
    report = run(database, reader, "tracks", at=now)
    assert (report.outcome, report.is_transient) == (Outcome.FAILED, False)
    assert "no_such_column" in str(report.error)


def test_an_inline_cycle_stores_the_same_as_one_task_each(database: Any, reader: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, execution=Execution.INLINE)
    open_fleet(database)
    report = run_inline(database, concurrent_shadows=True)
    assert [r.outcome for r in report.reports] == [Outcome.SUCCEEDED] * 3
    assert close_fleet(database) == report.summary


def test_a_cycle_that_was_not_opened_cannot_be_closed(database: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(PlanError, match="was not opened"):
        close_fleet(database)


@pytest.mark.parametrize(
    "entrypoint",
    ["os:system", "tests.sample_registry", "tests.sample_registry_other:x", "tests.sample_registry:nothing"],
)
def test_only_functions_of_allowed_modules_are_a_legacy_path(entrypoint: str) -> None:
    with pytest.raises(EntryPointError):
        entrypoints.load_function(entrypoint, ("tests.sample_registry",))
