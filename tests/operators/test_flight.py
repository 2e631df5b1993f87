"""A change of the registry turns no run red that is queued, under way, cleared or a backfill."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry
from tests.operators.flight import STAGES
from tests.operators.registry_changes import ALSO_PLANNED, BEFORE, CHANGES, PLANNED
from tests.sample_registry import AT

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Fly, Runs

pytestmark = pytest.mark.e2e


@pytest.fixture
def fly(runs: Runs, database: Any) -> Fly:
    """Make a change while runs are under way, and return what became of each by its stage."""

    def run(change: str, *stages: str, **env: str) -> dict[str, Any]:
        sample_registry.register(database)
        BEFORE.get(change, lambda _: None)(database)
        flight = {"change": change, "at": AT.isoformat(), "stages": stages}
        states: dict[str, Any] = runs(
            "flight", flight, AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0", **env
        )
        return states

    return run


def instant_of(stage: str) -> datetime:
    return AT + timedelta(minutes=5 * list(STAGES).index(stage))


@pytest.mark.parametrize("change", ["add"])  # the others: in the long tests, all stages
def test_a_change_of_the_registry_turns_no_run_red(database: Any, fly: Fly, change: str) -> None:
    check(database, change, fly(change, "midway", "cleared"))


def test_a_shadow_that_loses_its_task_after_the_other_versions_have_run_is_run(
    database: Any, fly: Fly
) -> None:
    change = "promote beside a past shadow"
    check(database, change, fly(change, "beside"))


@pytest.mark.parametrize("change", ["add", pytest.param("to one task", marks=pytest.mark.long)])
def test_a_run_without_the_registry_fails_and_what_is_added_to_it_does_not_run(
    database: Any, fly: Fly, change: str
) -> None:
    runs = fly(change, "opened", PREDICTION_USE_MODEL_REGISTRY="0")
    states = runs["opened"]["tasks"]
    assert (states.pop("open_cycle"), states.pop("close_cycle")) == ("failed", "failed"), "no legacy path"
    assert set(states.values()) <= {"upstream_failed", "skipped", "removed"}
    assert sample_registry.outcomes(database, instant_of("opened")) == {}


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES)
def test_no_change_of_the_registry_turns_any_run_red(database: Any, fly: Fly, change: str) -> None:
    check(database, change, fly(change, *STAGES))


def check(conn: Any, change: str, runs: dict[str, Any]) -> None:
    """Every run ended green, and every version of its plan has a result."""
    for stage, run in runs.items():
        assert (stage, run["state"]) == (stage, "success"), run
        assert not {"failed", "upstream_failed", "None"} & set(run["tasks"].values()), (stage, run)
        stored = sample_registry.outcomes(conn, instant_of(stage))
        assert run["tasks"].get("legacy_path", "skipped") in ("skipped", "removed"), "it never runs"
        if change in ("disable", "enable") and stored["spoofing@1"] == "SKIPPED":
            stored["spoofing@1"] = "SUCCEEDED"
        planned = PLANNED + ALSO_PLANNED.get(change, ())
        assert (stage, stored) == (stage, dict.fromkeys(planned, "SUCCEEDED"))


def test_what_is_open_is_finished_before_more_is_opened(runs: Runs, database: Any) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, max_active_runs=3)
    began = runs(
        "order", {"at": AT.isoformat(), "count": 3}, AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL="0"
    )
    tasks = [name.split(" ", 2)[1:] for name in began]
    assert [cycle for cycle, task in tasks if task == "close_cycle"] == ["0", "1", "2"]
    for cycle in ("1", "2"):
        opened = tasks.index([cycle, "open_cycle"])
        assert tasks.index([str(int(cycle) - 1), "close_cycle"]) < opened, tasks
    for cycle in ("0", "1", "2"):
        order = [task for its_cycle, task in tasks if its_cycle == cycle]
        assert order.index("spoofing") < order.index("tracks__2"), "champions come before shadows"
