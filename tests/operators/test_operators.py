"""Cycles run by Airflow's own task runner, against a real Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA

from airflow_detection.domain.specs import Execution, Role
from airflow_detection.store import roles
from airflow_detection.store.database import Database

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles

pytestmark = pytest.mark.e2e


def test_a_cycle_runs_and_its_shadow_cannot_turn_it_red(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database, shadow={"fail": "terminal"})
    (run,) = cycles({})
    assert run["state"] == "success"
    assert run["tasks"] == {
        "open_cycle": "success",
        "tracks": "success",
        "tracks__2": "failed",
        "spoofing": "success",
        "other_versions": "success",
        "close_cycle": "success",
    }
    summary = database.execute("select summary from detection.detection_cycle_runs").fetchone()[0]
    assert (summary["executed"], summary["shadow_failed"]) == (2, 1)


def test_a_failed_champion_fails_the_run_and_stops_its_dependents(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database, tracks={"fail": "terminal"})
    sample_registry.put_model(database, "alone")
    sample_registry.put_version(database, "alone@1", Role.PRIMARY, ids=["z"])
    (run,) = cycles({})
    tasks = run["tasks"]
    assert run["state"] == "failed"
    assert (tasks["tracks"], tasks["spoofing"], tasks["tracks__2"]) == (
        "failed",
        "upstream_failed",
        "upstream_failed",
    )
    assert (tasks["alone"], tasks["close_cycle"]) == ("success", "failed")
    assert sample_registry.outcomes(database) == {
        "alone@1": "SUCCEEDED",
        "spoofing@1": "SKIPPED",
        "tracks@1": "FAILED",
        "tracks@2": "SKIPPED",
    }


def test_with_the_flag_off_only_the_legacy_path_runs(database: Any, cycles: Cycles, tmp_path: Path) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, legacy_entrypoint="tests.sample_registry:legacy")
    off, on = cycles(
        {"env": {"PREDICTION_USE_MODEL_REGISTRY": "0"}},
        {"env": {"PREDICTION_USE_MODEL_REGISTRY": "1"}, "at": (AT + timedelta(minutes=5)).isoformat()},
    )
    ran = {task for task, state in off["tasks"].items() if state == "success"}
    assert ran == {"open_cycle", "legacy_path", "close_cycle"}
    assert (on["tasks"]["legacy_path"], on["tasks"]["tracks"]) == ("skipped", "success")
    assert (tmp_path / "legacy").read_text() == f"fleet {AT.isoformat()}\n"
    assert sample_registry.outcomes(database) == {}


def test_a_cycle_in_which_nothing_would_run_fails_with_the_reason_and_keeps_no_plan(
    database: Any, cycles: Cycles, capsys: pytest.CaptureFixture[str]
) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, start_date=sample_registry.SINCE - timedelta(days=30))
    early = (sample_registry.SINCE - timedelta(days=1)).isoformat()
    off, before = cycles(
        {"env": {"PREDICTION_USE_MODEL_REGISTRY": "0"}},
        {"env": {"PREDICTION_USE_MODEL_REGISTRY": "1"}, "at": early},
    )
    for run in (off, before):
        assert (run["state"], run["tasks"]["open_cycle"]) == ("failed", "failed")
        assert "success" not in run["tasks"].values()
    printed = capsys.readouterr().out
    assert "cycle 'fleet' runs nothing: the model registry is off and it has no legacy_entrypoint" in printed
    assert "set PREDICTION_USE_MODEL_REGISTRY=1" in printed
    assert (
        "nothing would run in cycle 'fleet' at 2025-12-31T00:00:00+00:00: no version held a role then"
        in printed
    )
    assert database.execute("select count(*) from detection.detection_cycle_runs").fetchone() == (0,)
    assert sample_registry.outcomes(database) == {}


def test_a_failing_legacy_path_fails_the_run(database: Any, cycles: Cycles, tmp_path: Path) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, legacy_entrypoint="tests.sample_registry:nothing_here")
    (run,) = cycles({}, PREDICTION_USE_MODEL_REGISTRY="off")
    assert (run["state"], run["tasks"]["legacy_path"]) == ("failed", "failed")


def test_a_past_shadow_without_a_task_runs_with_the_other_versions(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database)
    roles.assign_role(Database(database, SCHEMA), model_id="tracks", version="2", role=None)
    (run,) = cycles({})
    assert "tracks__2" not in run["tasks"]
    assert run["tasks"]["other_versions"] == "success"
    assert sample_registry.outcomes(database)["tracks@2"] == "SUCCEEDED"


def test_a_past_cycle_keeps_the_order_of_its_time(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "spoofing", ())
    sample_registry.put_model(database, "tracks", ("spoofing",))
    (run,) = cycles({})
    assert run["state"] == "success"
    assert (run["tasks"]["spoofing"], run["tasks"]["other_versions"]) == ("skipped", "success")
    assert set(sample_registry.outcomes(database).values()) == {"SUCCEEDED"}


def test_a_replay_runs_beside_the_live_results(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database)
    sample_registry.put_version(database, "spoofing@next", ids=["y"])
    live, replay = cycles({}, {"conf": {"mode": "override", "replay": ["spoofing@next"]}})
    assert (live["state"], replay["state"]) == ("success", "success")
    assert replay["tasks"]["tracks"] == "skipped"
    assert sample_registry.outcomes(database)["spoofing@next!"] == "SUCCEEDED"


def test_a_replay_without_a_result_fails_the_run_with_the_reason(
    database: Any, cycles: Cycles, capsys: pytest.CaptureFixture[str]
) -> None:
    sample_registry.register(database)
    sample_registry.put_version(database, "spoofing@next", ids=["y"])
    sample_registry.put_version(database, "tracks@bad", fail="terminal")
    never_ran = {"conf": {"mode": "override", "replay": ["spoofing@next"]}}
    failing = {"conf": {"mode": "override", "replay": ["spoofing@next", "tracks@bad"]}}
    later = (AT + timedelta(minutes=5)).isoformat()
    ended = cycles(never_ran, {"at": later}, failing | {"at": later})
    assert [run["state"] for run in ended] == ["failed", "success", "failed"]
    assert ended[0]["tasks"]["close_cycle"] == ended[2]["tasks"]["close_cycle"] == "failed"
    printed = capsys.readouterr().out
    reason = "the champion of 'tracks' has no result in this cycle: not run"
    assert f"not replayed: spoofing@next SKIPPED: {reason}" in printed
    assert "not replayed: tracks@bad FAILED: TerminalModelError: told to fail" in printed
    summaries = database.execute(
        "select summary->'shadow_ran', summary->'shadow_failed', summary->'shadow_skipped',"
        " summary->'not_replayed' from detection.detection_cycle_runs where mode = 'override'"
        " order by cycle_started_at"
    ).fetchall()
    assert [row[:3] for row in summaries] == [(0, 0, 1), (1, 1, 0)]
    assert [list(row[3]) for row in summaries] == [["spoofing@next"], ["tracks@bad"]]


def test_a_plan_that_cannot_be_given_fails_the_run(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database)
    (run,) = cycles({"conf": {"mode": "override", "replay": ["spoofing@unknown"]}})
    assert run["state"] == "failed"
    assert (run["tasks"]["open_cycle"], run["tasks"]["tracks"]) == ("failed", "upstream_failed")


def test_a_broken_model_is_a_task_that_fails_and_the_others_run(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "lost", ("trakcs",))
    sample_registry.put_version(database, "lost@1", Role.PRIMARY)
    sample_registry.put_model(database, "odd", task_options={"colour": "red"})
    sample_registry.put_version(database, "odd@1", Role.PRIMARY)
    (run,) = cycles({})
    tasks = run["tasks"]
    assert run["state"] == "failed"
    assert (tasks["lost"], tasks["odd"], tasks["tracks"], tasks["spoofing"]) == (
        "failed",
        "failed",
        "success",
        "success",
    )


def test_a_cycle_can_run_in_one_task(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database, shadow={"fail": "terminal"})
    sample_registry.put_cycle(database, execution=Execution.INLINE)
    (run,) = cycles({}, PREDICTION_CONCURRENT_SHADOWS="1")
    assert (run["state"], run["tasks"]["run_cycle"]) == ("success", "success")
    assert sample_registry.outcomes(database) == {
        "spoofing@1": "SUCCEEDED",
        "tracks@1": "SUCCEEDED",
        "tracks@2": "FAILED",
    }


def test_a_switched_off_model_is_skipped_and_the_run_is_green(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database)
    sample_registry.put_model(database, "spoofing", ("tracks",), is_enabled=False)
    (run,) = cycles({})
    assert (run["state"], run["tasks"]["spoofing"], run["tasks"]["tracks"]) == (
        "success",
        "skipped",
        "success",
    )


def test_a_run_without_a_logical_date_is_the_last_tick_when_it_was_due(database: Any, cycles: Cycles) -> None:
    sample_registry.register(database)
    before = datetime.now(UTC) - timedelta(minutes=5)
    (run,) = cycles({"at": None})
    assert run["state"] == "success"
    started = database.execute("select cycle_started_at from detection.detection_cycle_runs").fetchone()[0]
    assert before < started < datetime.now(UTC)
    assert (started.minute % 5, started.second, started.microsecond) == (0, 0, 0)


def test_registrations_that_cannot_run_are_one_failed_task_each_and_the_rest_stands(
    database: Any, cycles: Cycles
) -> None:
    sample_registry.register(database)
    for model_id, entrypoint in (
        ("gone", "tests.sample_registry:NoSuchClass"),
        ("absent", "tests.fleet_of_old:Echo"),
    ):
        sample_registry.put_model(database, model_id, entrypoint=entrypoint)
        sample_registry.put_version(database, f"{model_id}@1", Role.PRIMARY)
    sample_registry.put_model(database, "behind", ("gone",))
    sample_registry.put_version(database, "behind@1", Role.PRIMARY)
    (run,) = cycles({})
    assert run["tasks"] == {
        "open_cycle": "success",
        "tracks": "success",
        "tracks__2": "success",
        "spoofing": "success",
        "absent": "failed",
        "gone": "failed",
        "behind": "upstream_failed",
        "other_versions": "success",
        "close_cycle": "failed",
    }
    errors = dict(
        database.execute(
            "select model_id, error from detection.detection_model_runs"
            " join detection.detection_model_versions using (model_id, version_id) where error is not null"
        ).fetchall()
    )
    assert "'tests.sample_registry:NoSuchClass'" in errors["gone"]
    assert "'tests.fleet_of_old:Echo'" in errors["absent"]
