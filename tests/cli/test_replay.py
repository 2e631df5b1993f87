"""`airflow detection replay` in the real Airflow CLI, and the tasks of the Dag that does the same."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from tests import sample_registry
from tests.operators.airflow_runs import airflow_uri
from tests.sample_registry import AT

from airflow_detection.cycle import inline, planning
from airflow_detection.dags.replay import replay_dag
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.operators.replay import ReplayOperator, ReplayPartsOperator
from airflow_detection.store.database import Database

if TYPE_CHECKING:
    from tests.cli.commands import Cli
    from tests.cli.test_cli import Connection

ALLOWED = {"AIRFLOW__DETECTION__ALLOWED_MODULES": "tests.sample_registry"}
STEP = timedelta(minutes=5)
CYCLES = [AT + n * STEP for n in range(4)]
RANGE = ["--from", CYCLES[0].isoformat(), "--to", (CYCLES[-1] + STEP).isoformat()]


@pytest.fixture
def ran(database: Connection) -> Connection:
    """Four cycles that a champion ran, and two versions that never ran."""
    sample_registry.put_cycle(database)
    sample_registry.put_model(database, "tracks")
    sample_registry.put_version(database, "tracks@1", Role.PRIMARY, ids=["a"])
    sample_registry.put_version(database, "tracks@2", ids=["a", "b"])
    sample_registry.put_version(database, "tracks@3", fail="terminal")
    db = Database(database, "detection")
    for at in CYCLES:
        planning.open_cycle(db, "fleet", at, mode=Mode.AS_OF)
        inline.run_inline(db, sample_registry.SETTINGS, "fleet", at, mode=Mode.AS_OF)
    return database


def replayed(conn: Connection) -> list[Any]:
    return conn.execute(
        "select version, count(*), min(cycle_started_at), max(cycle_started_at)"
        " from detection.detection_model_runs join detection.detection_model_versions using (version_id)"
        " where is_replay group by 1 order by 1"
    ).fetchall()


def test_the_command_replays_what_has_no_replay_and_tells_how_it_ended(cli: Cli, ran: Connection) -> None:
    part = ["--from", CYCLES[0].isoformat(), "--to", CYCLES[2].isoformat()]
    command = ["replay", "fleet", "--versions", "tracks@2"]
    first, rest, none, again, wrong, failed = cli(
        [*command, *part],
        [*command, *RANGE, "--jobs", "2"],
        [*command, *RANGE],
        [*command, *part, "--again"],
        ["replay", "fleet", "--versions", "tracks@4", *RANGE],
        ["replay", "fleet", "--versions", "tracks@3", "tracks@2", *RANGE],
        **ALLOWED,
    )
    assert first.out == (
        "2 cycles ran, 0 of them are replayed already: 2 to replay\ntracks@2: 2 SUCCEEDED\n"
    ), first.err
    assert rest.out == "4 cycles ran, 2 of them are replayed already: 2 to replay\ntracks@2: 2 SUCCEEDED\n"
    assert (none.code, none.out) == (0, "4 cycles ran, 4 of them are replayed already: 0 to replay\n")
    assert again.out == "2 cycles ran, 0 of them are replayed already: 2 to replay\ntracks@2: 2 SUCCEEDED\n"
    assert (wrong.code, wrong.err) == (
        1,
        "version 'tracks@4' is not registered; the nearest name is 'tracks@3'\n",
    )
    assert (failed.code, failed.out.splitlines()[1:]) == (1, ["tracks@2: 4 SUCCEEDED", "tracks@3: 4 FAILED"])
    assert failed.err.splitlines()[-1] == "tracks@3 FAILED in 4 cycles: TerminalModelError: told to fail"
    assert replayed(ran) == [("2", 4, CYCLES[0], CYCLES[-1]), ("3", 4, CYCLES[0], CYCLES[-1])]


def test_the_command_refuses_a_time_in_which_nothing_ran(cli: Cli, ran: Connection) -> None:
    command = ["replay", "fleet", "--versions", "tracks@2"]
    nowhere, turned, unknown = cli(
        [*command, "--from", "2026-01-01", "--to", "2026-01-02"],
        [*command, "--from", "2026-01-02", "--to", "2026-01-01"],
        ["replay", "flot", "--versions", "tracks@2", *RANGE],
    )
    span = "from 2026-01-01T00:00:00+00:00 to 2026-01-02T00:00:00+00:00"
    reason = "a replay reads what its champions have stored"
    assert (nowhere.code, nowhere.err) == (1, f"no cycle of 'fleet' ran {span}: {reason}\n")
    assert turned.err == "--from 2026-01-02T00:00:00+00:00 must be before --to 2026-01-01T00:00:00+00:00\n"
    assert (unknown.code, "flot" in unknown.err, "Traceback" in unknown.err) == (1, True, False)


def context(try_number: int = 1, **params: Any) -> Any:  # Any: Airflow's context
    class TaskInstance:
        pass

    ti = TaskInstance()
    ti.try_number = try_number  # type: ignore[attr-defined]
    given = {"cycle": "fleet", "versions": ["tracks@2"], "again": False} | params
    return {"params": given, "ti": ti}


def test_the_dag_replays_a_task_a_day(
    ran: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name, value in ALLOWED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    monkeypatch.setenv("AIRFLOW__DETECTION__STATE_DIR", str(tmp_path))
    dag = replay_dag()
    assert {t.task_id for t in dag.leaves} == {"replay"}
    span = {"start": "2026-02-28T00:00:00Z", "end": "2026-03-02T00:00:00Z"}
    (part,) = ReplayPartsOperator(task_id="parts").execute(context(**span))
    assert part == {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-02T00:00:00+00:00"}
    operator = ReplayOperator(task_id="replay", part=part)
    assert operator.execute(context()) == {"succeeded": 4, "skipped": 0, "failed": 0}
    with pytest.raises(AirflowSkipException, match="each of 4 cycles has its replay already"):
        operator.execute(context())
    assert operator.execute(context(again=True))["succeeded"] == 4
    with pytest.raises(AirflowSkipException):  # tried again, it goes on where it was
        operator.execute(context(again=True, try_number=2))
    with pytest.raises(AirflowFailException, match="told to fail"):
        operator.execute(context(versions=["tracks@3"]))
    for wrong, reason in (
        ({**span, "end": span["start"]}, "must be before end"),
        ({**span, "start": "yesterday"}, "start is 'yesterday': must be an instant such as"),
        ({**span, "start": "2026-02-28"}, "start has no time zone: 2026-02-28"),
        ({"start": "2025-01-01T00:00:00Z", "end": "2025-01-02T00:00:00Z"}, "no cycle of 'fleet' ran"),
        ({**span, "versions": ["tracks@4"]}, "'tracks@4' is not registered"),
    ):
        with pytest.raises(AirflowFailException, match=reason):
            ReplayPartsOperator(task_id="parts").execute(context(**wrong))
