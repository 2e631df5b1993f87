"""The sensor that waits for a model's outputs, against a real Postgres."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
from tests import sample_registry
from tests.operators.airflow_runs import airflow_uri
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.specs import Mode
from airflow_detection.sensors.output import DetectionOutputSensor
from airflow_detection.store.database import Database
from airflow_detection.triggers.output import DetectionOutputTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

CONTEXT: Context = {"logical_date": AT}  # type: ignore[typeddict-item]


@pytest.fixture(autouse=True)
def connection(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))


@pytest.fixture
def fleet(database: Any) -> Database:
    sample_registry.register(database, shadow={"fail": "terminal"})
    return Database(database, SCHEMA)


def run_cycle(db: Database, mode: Mode = Mode.AS_OF) -> None:
    planning.open_cycle(db, "fleet", AT, mode=mode)
    inline.run_inline(db, SETTINGS, "fleet", AT, mode=mode)


def poke(**arguments: Any) -> Any:
    return DetectionOutputSensor(task_id="wait", **arguments).poke(CONTEXT)


def test_it_waits_for_the_champion_of_the_cycle(fleet: Database) -> None:
    assert not poke(model_id="tracks").is_done
    run_cycle(fleet)
    found = poke(model_id="tracks")
    assert found.is_done
    run = found.xcom_value
    assert run.pop("duration_ms") >= 0
    assert run == {
        "cycle_id": "fleet",
        "version": "1",
        "role": "PRIMARY",
        "outcome": "SUCCEEDED",
        "input_count": 0,
        "output_count": 2,
    }
    assert not poke(model_id="tracks", cycle_started_at=AT + timedelta(minutes=5)).is_done
    assert poke(model_id="tracks", cycle_started_at="2026-03-01T13:05:00+01:00").is_done


def test_a_version_is_waited_for_by_its_outcome(fleet: Database) -> None:
    run_cycle(fleet)
    assert not poke(model_id="tracks", version="2").is_done
    found = poke(model_id="tracks", version="2", outcomes=["FAILED", "SKIPPED"])
    assert (found.is_done, found.xcom_value["outcome"]) == (True, "FAILED")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"model_id": "trakcs"}, "trakcs"),
        ({"model_id": "tracks", "cycle_started_at": "2026-03-01T12:05:00"}, "has no time zone"),
        (
            {"model_id": "tracks", "cycle_started_at": "yesterday"},
            "cycle_started_at is 'yesterday': must be an instant such as 2026-01-31T00:00:00Z$",
        ),
        ({"model_id": "tracks", "cycle_started_at": 7}, "cycle_started_at is 7: must be an instant such as"),
    ],
)
def test_what_can_never_be_is_refused_at_once(
    fleet: Database, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(AirflowFailException, match=reason):
        poke(**arguments)


def test_an_outcome_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'DONE' is not a valid Outcome"):
        poke(model_id="tracks", outcomes=["DONE"])


def test_deferred_it_waits_in_the_triggerer_and_returns_the_run(fleet: Database) -> None:
    sensor = DetectionOutputSensor(
        task_id="wait", model_id="tracks", deferrable=True, poke_interval=0.05, timeout=60
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(CONTEXT)
    assert deferred.value.timeout == timedelta(minutes=1)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "airflow_detection.triggers.output.DetectionOutputTrigger"
    trigger = DetectionOutputTrigger(**arguments)

    async def fire() -> Any:
        waiting = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await asyncio.to_thread(run_cycle, fleet)
        return await waiting

    event = asyncio.run(fire())
    assert sensor.execute_complete(CONTEXT, event.payload)["version"] == "1"
    assert sensor.execute(CONTEXT)["version"] == "1", "what is there is not waited for"


def test_a_trigger_goes_on_while_the_registry_does_not_answer(
    fleet: Database, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cycle(fleet)
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri("host=127.0.0.1 port=1 dbname=none"))
    trigger = DetectionOutputTrigger(
        detection_conn_id="detection_default", poll_s=0.05, model_id="tracks", version=None,
        cycle_started_at=AT.isoformat(), outcomes=["SUCCEEDED"],
        until=(datetime.now(UTC) + timedelta(seconds=60)).isoformat(),
    )  # fmt: skip

    async def fire() -> Any:
        waiting = asyncio.ensure_future(anext(trigger.run()))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
        return await waiting

    assert asyncio.run(fire()).payload["outcome"] == "SUCCEEDED"
