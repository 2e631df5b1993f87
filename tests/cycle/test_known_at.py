"""A cycle that ran is opened with what is known since: it is compared, and nothing live changes."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.sql import SQL, Identifier
from tests import sample_registry
from tests.operators.executions import EXECUTIONS
from tests.sample_registry import AT, SCHEMA, SETTINGS, SINCE

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Execution, Mode, Role
from airflow_detection.engine.executor import CycleReport
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.store import cycle_runs, registry
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.roles import correct_roles

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles


def open_fleet(conn: Any, known_at: datetime | None = None, mode: Mode = Mode.AS_OF) -> OpenedCycle:
    return planning.open_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=mode, known_at=known_at)


def run(conn: Any, dsn: str, known_at: datetime | None = None, mode: Mode = Mode.AS_OF) -> OpenedCycle:
    opened = open_fleet(conn, known_at, mode)
    run_steps(conn, dsn, opened)
    closing.close_cycle(Database(conn, SETTINGS.schema), "fleet", AT, mode=opened.mode, task_states={})
    return opened


def run_steps(conn: Any, dsn: str, opened: OpenedCycle) -> None:
    for step in opened.steps:
        request = VersionRequest(
            model_id=step.model_id, version=step.version, cycle_id="fleet", started_at=AT, mode=opened.mode
        )
        assert run_version(conn, dsn, request).error is None


def run_version(conn: Any, dsn: str, request: VersionRequest) -> RunReport:
    return run_task(Database(conn, SETTINGS.schema), SETTINGS, request)


def run_inline(conn: Any, mode: Mode = Mode.AS_OF) -> CycleReport:
    return inline.run_inline(Database(conn, SETTINGS.schema), SETTINGS, "fleet", AT, mode=mode)


def correct(conn: Any) -> datetime:
    correct_roles(
        Database(conn, SCHEMA), label="tracks@2", role=Role.PRIMARY, since=SINCE, reason="it was wrong"
    )
    return registry.clock(Database(conn, SCHEMA))


CHAMPIONS = (
    "select distinct model_id || '@' || version from detection.{}"
    " join detection.detection_model_versions v using (model_id, version_id)"
    " where role = 'PRIMARY' and not is_replay order by 1"
)


def champions(conn: Any) -> dict[str, list[str]]:
    """Return the champions according to the outputs, and those according to the manifests."""
    tables = {"outputs": "detection_model_run_outputs", "manifests": "detection_model_runs"}
    return {
        name: [row[0] for row in conn.execute(SQL(CHAMPIONS).format(Identifier(table))).fetchall()]
        for name, table in tables.items()
    }


LIVE = {"outputs": ["spoofing@1", "tracks@1"], "manifests": ["spoofing@1", "tracks@1"]}


def test_a_cycle_that_ran_is_compared_with_what_is_known_since_and_as_run_repeats_what_ran(
    database: Any, dsn: str
) -> None:
    sample_registry.register(database)
    live = run(database, dsn)
    known_at = correct(database)
    comparison = run(database, dsn, known_at)
    assert [(s.label, s.role, s.is_replay) for s in comparison.steps] == [("tracks@2", Role.SHADOW, True)]
    assert champions(database) == LIVE
    assert sample_registry.outcomes(database)["tracks@2!"] == "SUCCEEDED"
    repeated = run(database, dsn, mode=Mode.AS_RUN)
    assert (repeated.digest, repeated.mode) == (live.digest, Mode.AS_RUN)
    assert champions(database) == LIVE
    assert run(database, dsn).digest == live.digest, "and as_of goes on as before"
    assert champions(database) == LIVE


def test_a_cycle_that_first_runs_with_what_is_known_since_keeps_that_plan(database: Any, dsn: str) -> None:
    sample_registry.register(database)
    known_at = correct(database)
    first = run(database, dsn, known_at)
    assert (first.mode, first.plan.primaries["tracks"].version) == (Mode.AS_OF, "2")
    corrected = {"outputs": ["spoofing@1", "tracks@2"], "manifests": ["spoofing@1", "tracks@2"]}
    assert champions(database) == corrected
    assert run(database, dsn, known_at).mode is Mode.AS_OF, "the same plan again replaces its rows"
    assert [s.label for s in run(database, dsn).steps] == ["tracks@1"]
    assert champions(database) == corrected
    assert run(database, dsn, mode=Mode.AS_RUN).digest == first.digest


def test_what_a_hand_written_dag_ran_is_live_though_no_plan_was_recorded(database: Any, dsn: str) -> None:
    sample_registry.register(database)
    for model_id in ("tracks", "spoofing"):
        run_version(database, dsn, VersionRequest(model_id=model_id, started_at=AT))
    assert run(database, dsn, correct(database)).mode is Mode.OVERRIDE
    assert champions(database) == LIVE
    assert cycle_runs.recorded_plan(Database(database, SCHEMA), "fleet", AT, Mode.AS_OF) is None


def test_a_role_that_is_taken_back_leaves_nothing_to_run_and_the_record_as_it_was(
    database: Any, dsn: str
) -> None:
    sample_registry.register(database)
    live = run(database, dsn)
    correct_roles(Database(database, SCHEMA), label="tracks@2", role=None, since=SINCE, reason="never")
    assert run(database, dsn, registry.clock(Database(database, SCHEMA))).steps == ()
    assert cycle_runs.recorded_plan(Database(database, SCHEMA), "fleet", AT, Mode.AS_OF).digest == live.digest  # type: ignore[union-attr]


@pytest.mark.parametrize("_", range(5))
def test_of_two_that_open_a_cycle_at_once_with_different_plans_one_is_live(
    database: Any, dsn: str, _: int
) -> None:
    sample_registry.register(database)
    known_at = correct(database)
    # Creates the table partitions, so that the two below do not.
    planning.open_cycle(Database(database, SETTINGS.schema), "fleet", SINCE, mode=Mode.AS_OF)
    opened: list[OpenedCycle] = []
    start = threading.Barrier(2)

    def open_at_once(known_at: datetime | None) -> None:
        with connect(dsn) as conn:
            start.wait()
            opened.append(open_fleet(conn, known_at))

    threads = [threading.Thread(target=open_at_once, args=(instant,)) for instant in (None, known_at)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(cycle.mode for cycle in opened) == [Mode.AS_OF, Mode.OVERRIDE]
    for cycle in opened:
        run_steps(database, dsn, cycle)
    assert len(champions(database)["outputs"]) == len(champions(database)["manifests"]) == 2


def test_a_recorded_plan_of_an_older_format_of_the_digest_is_recorded_anew(database: Any, dsn: str) -> None:
    sample_registry.register(database)
    run(database, dsn)
    database.execute("update detection.detection_cycle_runs set plan_digest = 'of old'")
    assert run(database, dsn).mode is Mode.AS_OF
    recorded = cycle_runs.recorded_plan(Database(database, SCHEMA), "fleet", AT, Mode.AS_OF)
    assert recorded is not None
    assert recorded.digest == ExecutionPlan.from_json(recorded.plan).digest


def test_an_inline_cycle_is_compared_too(database: Any, dsn: str) -> None:
    sample_registry.register(database)
    open_fleet(database)
    run_inline(database)
    opened = open_fleet(database, correct(database))
    report = run_inline(database, opened.mode)
    assert [(r.version.label, r.outcome) for r in report.reports] == [("tracks@2", "SUCCEEDED")]
    assert champions(database) == LIVE


@pytest.mark.e2e
@pytest.mark.parametrize("execution", EXECUTIONS)
def test_airflow_runs_the_comparison_beside_what_is_live(
    database: Any, cycles: Cycles, execution: Execution
) -> None:
    sample_registry.register(database)
    sample_registry.put_cycle(database, execution=execution)
    (live,) = cycles({})
    (comparison,) = cycles({"conf": {"known_at": correct(database).isoformat()}})
    assert (live["state"], comparison["state"]) == ("success", "success")
    succeeded = {task for task, state in comparison["tasks"].items() if state == "success"}
    assert succeeded == {
        "open_cycle",
        "close_cycle",
        "run_cycle" if execution == "inline" else "other_versions",
    }
    assert champions(database) == LIVE
    assert sample_registry.outcomes(database)["tracks@2!"] == "SUCCEEDED"
