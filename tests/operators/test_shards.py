"""Versions in shards, run by Airflow's own task runner: a mapped task, and the version's own behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests import sample_registry

from airflow_detection.domain.specs import Role

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles

pytestmark = pytest.mark.e2e

ALLOWED = {"AIRFLOW__DETECTION__ALLOWED_MODULES": "tests.sample_registry,tests.operators.sharded_models"}
QUERY = "select 'e' || n as id from generate_series(1, 9) n order by 1"


def register(conn: Any, **params: Any) -> None:
    """A sharded champion with a shadow, and a model that reads it."""
    sample_registry.put_cycle(conn, input_query=QUERY)
    entrypoint = "tests.operators.sharded_models:EachEntity"
    sample_registry.put_model(conn, "each", entrypoint=entrypoint, task_options={"shards": 3})
    sample_registry.put_model(conn, "reads", ("each",))
    sample_registry.put_version(conn, "each@1", Role.PRIMARY, **params)
    sample_registry.put_version(conn, "each@2", Role.SHADOW)
    sample_registry.put_version(conn, "reads@1", Role.PRIMARY, ids=["r"])


def entities(conn: Any, label: str) -> list[str]:
    model_id, _, version = label.partition("@")
    query = (
        "select entity_id from detection.detection_model_run_outputs o"
        " join detection.detection_model_versions v using (version_id)"
        " where v.model_id = %s and v.version = %s order by o.ctid"
    )
    return [entity for (entity,) in conn.execute(query, (model_id, version))]


@pytest.mark.parametrize("forked", [False, True])
def test_a_version_in_shards_is_a_mapped_task_and_its_own(
    database: Any, cycles: Cycles, *, forked: bool
) -> None:
    register(database)
    (run,) = cycles({"forked": forked}, **ALLOWED)
    assert run["state"] == "success"
    assert run["tasks"] == dict.fromkeys(
        ["open_cycle", "each__shards", "each", "each__2__shards", "each__2", "reads", "other_versions",
         "close_cycle"], "success",
    )  # fmt: skip
    assert entities(database, "each@1") == entities(database, "each@2") == [f"e{n}" for n in range(1, 10)]
    scores = database.execute(
        "select score from detection.detection_model_run_outputs where entity_id = 'r'"
    ).fetchall()
    assert scores == [(9.0,)], "what reads it waits for all shards"
    assert run["rendered"]["each__shards"] is None
    peaks = database.execute("select peak_memory_bytes from detection.detection_model_runs").fetchall()
    assert all(peak > 0 for (peak,) in peaks)


def test_a_failed_shard_fails_its_version_and_the_run(database: Any, cycles: Cycles) -> None:
    register(database, fails_at="e5")
    (run,) = cycles({}, **ALLOWED)
    assert run["state"] == "failed"
    tasks = run["tasks"]
    assert (tasks["each"], tasks["reads"], tasks["each__2"]) == ("upstream_failed",) * 3
    assert sample_registry.outcomes(database) == {
        "each@1": "FAILED",
        "each@2": "SKIPPED",
        "reads@1": "SKIPPED",
    }
    summary = database.execute("select summary from detection.detection_cycle_runs").fetchone()[0]
    assert (summary["executed"], summary["failed"], summary["skipped_missing_deps"]) == (0, 1, 1)
    error = database.execute(
        "select error from detection.detection_model_runs where outcome = 'FAILED'"
    ).fetchone()[0]
    assert error == "shard 1 of 3: TerminalModelError: told to fail"


def test_what_has_no_part_in_a_cycle_has_no_shard_in_it_either(database: Any, cycles: Cycles) -> None:
    register(database)
    sample_registry.put_model(database, "each", entrypoint="tests.operators.sharded_models:EachEntity",
                              task_options={"shards": 3}, is_enabled=False)  # fmt: skip
    sample_registry.put_model(database, "other")
    sample_registry.put_version(database, "other@1", Role.PRIMARY)
    (run,) = cycles({}, **ALLOWED)
    assert run["state"] == "success"
    assert {run["tasks"][t] for t in ("each__shards", "each", "each__2__shards", "each__2")} == {"skipped"}


def test_a_version_that_is_replayed_runs_its_shards_one_after_the_other(
    database: Any, cycles: Cycles
) -> None:
    register(database)
    conf = {"mode": "override", "replay": ["each@2"]}
    first, second = cycles({}, {"conf": conf}, **ALLOWED)
    assert (first["state"], second["state"]) == ("success", "success")
    assert sample_registry.outcomes(database)["each@2!"] == "SUCCEEDED"
    assert entities(database, "each@2") == 2 * [f"e{n}" for n in range(1, 10)]
