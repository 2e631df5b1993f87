"""The maintenance Dag and its operators, against a real Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSkipException

from airflow_detection.dags.maintenance import maintenance_dag
from airflow_detection.operators import maintenance as operators
from airflow_detection.operators.snapshot import SnapshotReportOperator
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import month_of, read_table

DAGS = Path(__file__).resolve().parents[2] / "dags"
Conn = psycopg.Connection[Any]
SWITCHES = ("ensure_partitions", "apply_retention", "aggregate_stats_hourly", "snapshot_report")


@pytest.fixture(autouse=True)
def _connection(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = psycopg.conninfo.conninfo_to_dict(dsn)
    host = str(info.pop("host", "")).replace("/", "%2F")
    user, port, name = info.get("user", "postgres"), info.get("port", ""), info["dbname"]
    login = f"{user}:{info['password']}@" if info.get("password") else f"{user}@"
    is_socket = host.startswith("%2F")
    place = f"{login}{'' if is_socket else host}{f':{port}' if port and not is_socket else ''}/{name}"
    monkeypatch.setenv(
        "AIRFLOW_CONN_DETECTION_DEFAULT", f"postgres://{place}{f'?host={host}' if is_socket else ''}"
    )


def _run(operator: operators.MaintenanceOperator) -> Any:
    return operator.execute({})  # type: ignore[typeddict-item]


def test_the_maintenance_dag_runs_hourly_and_hides_no_failure() -> None:
    space: dict[str, Any] = {"__name__": "maintenance"}
    path = DAGS / "detection_maintenance.py"
    exec(compile(path.read_text(), str(path), "exec"), space)  # noqa: S102 - a Dag file of this project
    dag = space["dag"]
    assert (dag.dag_id, dag.schedule, dag.catchup, dag.max_active_runs) == (
        "detection_maintenance", "0 * * * *", False, 1,
    )  # fmt: skip
    assert {t.task_id for t in dag.tasks} == set(SWITCHES)
    assert {t.task_id for t in dag.leaves} == {"apply_retention", "snapshot_report"}
    assert {t.trigger_rule for t in dag.tasks if t.upstream_task_ids} == {"none_failed"}, "a failure goes on"


def test_the_maintenance_dag_uses_the_connection_that_it_is_given_or_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert {t.detection_conn_id for t in maintenance_dag("upkeep").tasks} == {"upkeep"}
    monkeypatch.setenv("AIRFLOW__DETECTION__CONN_ID", "ours")
    assert {t.detection_conn_id for t in maintenance_dag().tasks} == {"ours"}


def test_the_tasks_make_months_and_then_have_nothing_to_do(database: Conn) -> None:
    first = _run(operators.EnsurePartitionsOperator(task_id="t"))
    assert first == {"done": 12}
    assert _run(operators.EnsurePartitionsOperator(task_id="t")) == {}
    assert _run(operators.ApplyRetentionOperator(task_id="t")) == {}


@pytest.mark.parametrize("flag", ["1", "0"])
def test_the_registry_flag_switches_no_upkeep_off(
    database: Conn, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREDICTION_USE_MODEL_REGISTRY", flag)
    assert _run(operators.EnsurePartitionsOperator(task_id="t")) == {"done": 12}


@pytest.mark.parametrize(
    "operator",
    [
        operators.EnsurePartitionsOperator,
        operators.ApplyRetentionOperator,
        operators.AggregateStatsOperator,
        SnapshotReportOperator,
    ],
)
def test_each_switch_turns_off_its_own_task_and_no_other(
    database: Conn, operator: type[operators.MaintenanceOperator], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AIRFLOW__DETECTION__{operator.switch.upper()}", "False")
    with pytest.raises(AirflowSkipException, match=f"{operator.switch} is off"):
        _run(operator(task_id="t"))
    if operator is not operators.EnsurePartitionsOperator:
        assert _run(operators.EnsurePartitionsOperator(task_id="t")) == {"done": 12}


def test_a_run_beside_another_is_skipped_and_no_success(dsn: str, database: Conn) -> None:
    with connect(dsn) as other:
        other.execute("select pg_advisory_lock(hashtext('detection ensure'), hashtext('detection'))")
        with pytest.raises(AirflowSkipException, match="another run holds the lock"):
            _run(operators.EnsurePartitionsOperator(task_id="t"))
    assert not read_table(Database(database, "detection"), "detection_model_metrics").partitions


def test_too_little_headroom_fails_the_task_that_only_retires(database: Conn) -> None:
    with pytest.raises(AirflowException, match="below half of what is wanted ahead"):
        _run(operators.ApplyRetentionOperator(task_id="t"))


def test_events_are_counted_once_for_their_hour_however_often(database: Conn) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    put = (
        "insert into detection.detection_events (category, severity, status, model_id, version_id, "
        "entity_id, cycle_started_at, first_seen_at, last_seen_at) "
        "values ('spoofing', 'HIGH', %s, 'm', 1, %s, %s, %s, %s)"
    )
    spots = [("OPEN", hour - timedelta(hours=2)), ("CLOSED", hour - timedelta(hours=1, microseconds=1)),
             ("OPEN", hour - timedelta(hours=1)), ("RETRACTED", hour - timedelta(hours=1)),
             ("OPEN", hour)]  # fmt: skip
    for number, (status, at) in enumerate(spots):
        database.execute(put, (status, str(number), at, at, at))
    counts = "select hour, event_count from detection.detection_stats_hourly order by hour"
    for _ in range(2):
        assert _run(operators.AggregateStatsOperator(task_id="t")) == 2
        assert database.execute(counts).fetchall() == [
            (hour - timedelta(hours=2), 2), (hour - timedelta(hours=1), 1),
        ]  # fmt: skip
    database.execute("update detection.detection_events set status = 'RETRACTED'")
    assert _run(operators.AggregateStatsOperator(task_id="t")) == 0
    assert database.execute(counts).fetchall() == []


def test_retention_takes_the_past_only(database: Conn) -> None:
    database.execute(
        "create table detection.ancient partition of detection.detection_model_metrics "
        "for values from ('2001-01-01Z') to ('2001-02-01Z')"
    )
    _run(operators.EnsurePartitionsOperator(task_id="t"))
    assert _run(operators.ApplyRetentionOperator(task_id="t")) == {"done": 1}
    left = read_table(Database(database, "detection"), "detection_model_metrics").partitions
    assert left[0].lower == month_of(datetime.now(UTC))[0]


def test_retention_writes_to_parquet_what_it_drops_where_the_policy_says_so(
    database: Conn, tmp_path: Path
) -> None:
    database.execute(
        "create table detection.ancient partition of detection.detection_model_metrics "
        "for values from ('2001-01-01Z') to ('2001-02-01Z')"
    )
    database.execute(
        "insert into detection.detection_model_metrics "
        "values ('m', 1, 'PRIMARY', false, 'k', 1, '2001-01-05Z')"
    )
    database.execute(
        "update detection.detection_partition_policies set grace = '0', retention_export = %s",
        (f"file://{tmp_path}/cold",),
    )
    _run(operators.EnsurePartitionsOperator(task_id="t"))
    assert _run(operators.ApplyRetentionOperator(task_id="t")) == {"done": 1}
    assert _run(operators.ApplyRetentionOperator(task_id="t")) == {"done": 2}, "exported and dropped"
    assert database.execute("select to_regclass('detection.ancient')").fetchone() == (None,)
    assert [path.name for path in sorted(tmp_path.glob("cold/detection_model_metrics/*/*"))] == [
        "manifest.json", "part-00000.parquet",
    ]  # fmt: skip
