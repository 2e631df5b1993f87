"""A cycle from opening to summary, against a real Postgres and without Airflow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.specs import Execution, Mode, Outcome, Role
from airflow_detection.engine import entrypoints
from airflow_detection.errors import EntryPointError, PlanError, RegistrationError
from airflow_detection.store import roles
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database


@pytest.fixture
def second(dsn: str) -> Any:
    with connect(dsn) as conn:
        yield conn


def opened(conn: Any, at: datetime = AT, mode: Mode = Mode.AS_OF, **facts: Any) -> planning.OpenedCycle:
    return planning.open_cycle(Database(conn, SETTINGS.schema), "fleet", at, mode=mode, **facts)


def ran(conn: Any, second: Any, model: str, version: str | None = None, mode: Mode = Mode.AS_OF) -> Any:
    return run_task(
        Database(conn, SETTINGS.schema),
        lambda: second,
        SETTINGS,
        VersionRequest(cycle_id="fleet", started_at=AT, model_id=model, version=version, mode=mode),
    )


def closed(conn: Any, mode: Mode = Mode.AS_OF, **states: str) -> Any:
    return closing.close_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=mode, task_states=states)


def test_a_whole_cycle_runs_champions_shadows_and_dependents(database: Any, second: Any) -> None:
    sample_registry.register(database)
    steps = [(s.label, s.role) for s in opened(database).steps]
    assert steps == [
        ("tracks@1", Role.PRIMARY),
        ("tracks@2", Role.SHADOW),
        ("spoofing@1", Role.PRIMARY),
    ]
    reports = [ran(database, second, "tracks"), ran(database, second, "tracks", "2")]
    reports.append(ran(database, second, "spoofing"))
    assert [r.output_count for r in reports] == [2, 3, 1]
    summary = closed(database)
    assert (summary.executed, summary.shadow_ran, summary.failed) == (2, 1, 0)
    scores = database.execute(
        "select score from detection.detection_model_run_outputs where model_id = 'spoofing'"
    ).fetchall()
    assert scores == [(2.0,)], "spoofing sees the champion's two outputs, never the shadow's three"


def test_a_failed_champion_stops_its_dependents_and_its_shadows(database: Any, second: Any) -> None:
    sample_registry.register(database, tracks={"fail": "terminal"})
    opened(database)
    failed = ran(database, second, "tracks")
    assert (failed.outcome, failed.is_transient) == (Outcome.FAILED, False)
    assert ran(database, second, "spoofing").outcome is Outcome.SKIPPED
    assert ran(database, second, "tracks", "2").outcome is Outcome.SKIPPED
    summary = closed(database, tracks="failed")
    assert (summary.failed, summary.skipped_missing_deps, summary.executed) == (1, 1, 0)
    assert sample_registry.outcomes(database) == {
        "spoofing@1": "SKIPPED",
        "tracks@1": "FAILED",
        "tracks@2": "SKIPPED",
    }


def test_a_failed_shadow_stops_nothing(database: Any, second: Any) -> None:
    sample_registry.register(database, shadow={"fail": "transient"})
    opened(database)
    ran(database, second, "tracks")
    assert ran(database, second, "tracks", "2").is_transient
    assert ran(database, second, "spoofing").outcome is Outcome.SUCCEEDED
    assert closed(database).shadow_failed == 1


def test_a_model_of_a_hand_written_dag_needs_no_opened_cycle(database: Any, second: Any) -> None:
    sample_registry.register(database)
    report = run_task(
        Database(database, SETTINGS.schema),
        lambda: second,
        SETTINGS,
        VersionRequest(cycle_id=None, started_at=AT, model_id="tracks", version=None, mode=Mode.AS_OF),
    )
    assert report.outcome is Outcome.SUCCEEDED
    assert ran(database, second, "tracks", "1").outcome is Outcome.SUCCEEDED, "the champion by its version"


def test_an_unknown_version_is_named_with_the_cycle(database: Any, second: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(PlanError, match="'tracks' with version '9'"):
        ran(database, second, "tracks", "9")


def test_a_task_that_left_no_manifest_is_noted_when_the_cycle_closes(database: Any, second: Any) -> None:
    sample_registry.register(database)
    opened(database)
    ran(database, second, "tracks")
    summary = closed(database, tracks="success", spoofing="failed", tracks__2="upstream_failed")
    assert (summary.executed, summary.failed, summary.shadow_ran) == (1, 1, 0)
    assert sample_registry.outcomes(database) == {
        "spoofing@1": "FAILED",
        "tracks@1": "SUCCEEDED",
        "tracks@2": "SKIPPED",
    }


def test_a_past_cycle_runs_the_champion_of_its_time(database: Any, second: Any) -> None:
    sample_registry.register(database)
    roles.assign_role(Database(database, SCHEMA), model_id="tracks", version="2", role=Role.PRIMARY)
    past = opened(database).plan
    assert past.primaries["tracks"].version == "1"
    now = opened(
        database, at=datetime.now(UTC) + timedelta(seconds=0.5)
    ).plan  # a clock that is a little behind
    assert now.primaries["tracks"].version == "2"


def test_a_cycle_in_the_future_gets_no_plan_because_it_could_still_change(database: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(PlanError, match="lies in the future"):
        opened(database, at=datetime.now(UTC) + timedelta(hours=1))


def test_as_run_repeats_the_recorded_plan_and_nothing_else(database: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(PlanError, match="no plan was recorded"):
        opened(database, mode=Mode.AS_RUN)
    first = opened(database)
    assert opened(database, mode=Mode.AS_RUN).digest == first.digest


def test_a_replay_runs_beside_what_was_live_and_changes_none_of_it(database: Any, second: Any) -> None:
    sample_registry.register(database)
    opened(database)
    for model, version in (("tracks", None), ("tracks", "2"), ("spoofing", None)):
        ran(database, second, model, version)
    live = sample_registry.outcomes(database)
    sample_registry.put_version(database, "spoofing@next", ids=["y", "z"])
    replay = opened(database, mode=Mode.OVERRIDE, replay=["spoofing@next"])
    assert [s.label for s in replay.steps] == ["spoofing@next"]
    report = inline.run_inline(Database(database, SETTINGS.schema), SETTINGS, "fleet", AT, mode=Mode.OVERRIDE)
    assert [r.output_count for r in report.reports] == [2]
    assert sample_registry.outcomes(database) == live | {"spoofing@next!": "SUCCEEDED"}
    assert closed(database, mode=Mode.OVERRIDE).shadow_ran == 1


def test_a_model_without_any_role_yet_can_be_replayed(database: Any, second: Any) -> None:
    sample_registry.register(database)
    opened(database)
    ran(database, second, "tracks")
    sample_registry.put_model(database, "loitering", ("tracks",))
    sample_registry.put_version(database, "loitering@1", ids=["q"])
    replay = opened(database, mode=Mode.OVERRIDE, replay=["loitering@1"])
    assert [s.label for s in replay.steps] == ["loitering@1"]
    assert ran(database, second, "loitering", "1", Mode.OVERRIDE).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("mode", "replay", "fact"),
    [
        (Mode.OVERRIDE, [], "needs versions"),
        (Mode.OVERRIDE, ["tracks@9"], "tracks@9"),
        (Mode.OVERRIDE, ["other@1"], "not versions of cycle"),
        (Mode.AS_OF, ["tracks@2"], "needs mode 'override'"),
    ],
)
def test_a_replay_that_cannot_be_is_refused(database: Any, mode: Mode, replay: list[str], fact: str) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, cycle_id="other")
    sample_registry.put_model(database, "other", cycle_id="other")
    sample_registry.put_version(database, "other@1", Role.PRIMARY)
    with pytest.raises(PlanError, match=fact):
        opened(database, mode=mode, replay=replay)


def test_a_broken_model_fails_with_the_reason_and_the_others_run(database: Any, second: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "lost", ("trakcs",))
    sample_registry.put_version(database, "lost@1", Role.PRIMARY)
    opened(database)
    with pytest.raises(RegistrationError, match="the nearest name is 'tracks'"):
        ran(database, second, "lost")
    assert ran(database, second, "tracks").outcome is Outcome.SUCCEEDED
    assert closed(database, lost="failed").failed == 1


def test_an_entry_point_that_is_not_allowed_is_a_failure_with_a_manifest(database: Any, second: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_version(database, "tracks@evil", Role.CHALLENGER, entrypoint="os:system", since=None)
    at = datetime.now(UTC)
    opened(database, at=at)
    for version in (None, "evil"):
        report = run_task(
            Database(database, SETTINGS.schema),
            lambda: second,
            SETTINGS,
            VersionRequest(
                cycle_id="fleet", started_at=at, model_id="tracks", version=version, mode=Mode.AS_OF
            ),
        )
    assert report.outcome is Outcome.FAILED
    assert "EntryPointError" in str(report.error)
    assert sample_registry.outcomes(database, at)["tracks@evil"] == "FAILED"


def test_a_model_that_is_switched_off_is_skipped_with_its_dependents(database: Any, second: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "tracks", is_enabled=False)
    opened(database)
    assert "switched off" in str(ran(database, second, "tracks").error)
    assert ran(database, second, "spoofing").outcome is Outcome.SKIPPED
    assert closed(database).failed == 0


def test_a_transient_failure_of_the_input_query_can_be_tried_again(database: Any, second: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, input_query="select 1 as n where :window_end > :window_start")
    opened(database)
    assert ran(database, second, "tracks").input_count == 1
    sample_registry.put_cycle(database, input_query="select no_such_column")
    report = ran(database, second, "spoofing")
    assert (report.outcome, report.is_transient) == (Outcome.FAILED, False)
    assert "no_such_column" in str(report.error)


def test_an_inline_cycle_stores_the_same_as_one_task_each(database: Any, second: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, execution=Execution.INLINE)
    opened(database)
    report = inline.run_inline(
        Database(database, SETTINGS.schema), SETTINGS, "fleet", AT, mode=Mode.AS_OF, concurrent_shadows=True
    )
    assert [r.outcome for r in report.reports] == [Outcome.SUCCEEDED] * 3
    assert closed(database) == report.summary


def test_a_cycle_that_was_not_opened_cannot_be_closed(database: Any) -> None:
    sample_registry.register(database)
    with pytest.raises(PlanError, match="was not opened"):
        closed(database)


@pytest.mark.parametrize(
    "entrypoint",
    ["os:system", "tests.sample_registry", "tests.sample_registry_other:x", "tests.sample_registry:nothing"],
)
def test_only_functions_of_allowed_modules_are_a_legacy_path(entrypoint: str) -> None:
    with pytest.raises(EntryPointError):
        entrypoints.load_function(entrypoint, ("tests.sample_registry",))
