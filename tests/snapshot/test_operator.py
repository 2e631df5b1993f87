"""The hourly task and the command line, against a real Postgres."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from psycopg.conninfo import conninfo_to_dict

from airflow_detection.cli import snapshot
from airflow_detection.config import settings, thresholds
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.errors import ConfigurationError
from airflow_detection.operators.report_setup import process_facts_of
from airflow_detection.operators.snapshot import SnapshotReportOperator
from airflow_detection.store.connection import Connection

AT = datetime(2026, 3, 1, 13, tzinfo=UTC)
STANDING = {
    "model_id": "m",
    "version": "1",
    "role": "PRIMARY",
    "last": "FAILED",
    "worst": "FAILED",
    "is_bad": True,
}


@pytest.fixture(autouse=True)
def _connection(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = conninfo_to_dict(dsn)
    value = {
        "conn_type": "postgres",
        "host": parts["host"],
        "login": parts.get("user"),
        "password": parts.get("password"),
        "port": int(parts["port"]) if parts.get("port") else None,
        "schema": parts["dbname"],
    }
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", json.dumps(value))


def _run(at: datetime, *notifiers: Any) -> dict[str, Any]:
    operator = SnapshotReportOperator(task_id="t", notifiers=notifiers)
    return operator.execute({"logical_date": at})  # type: ignore[typeddict-item]


def _report_to_notify(database: Connection) -> None:
    """Store a report in which a version turned bad, of which no notification was sent."""
    _run(AT)
    database.execute(
        "update detection.detection_snapshots set notified_at = null,"
        " report = jsonb_set(report, '{standings}', %s::jsonb)",
        (json.dumps([STANDING]),),
    )


def test_an_hour_has_one_report_however_often_its_task_runs(database: Connection) -> None:
    assert _run(AT)["snapshot_id"] == _run(AT)["snapshot_id"]
    covers = database.execute(
        "select lower(covers), upper(covers) from detection.detection_snapshots"
    ).fetchall()
    assert covers == [(AT - timedelta(hours=1), AT)]


def test_a_change_is_notified_once_even_where_a_notifier_failed_at_first(database: Connection) -> None:
    _report_to_notify(database)
    notified: list[Any] = []

    def broken(context: Any) -> None:
        raise RuntimeError("no mail today")

    with pytest.raises(RuntimeError):
        _run(AT, broken)
    for _ in range(2):
        _run(AT, lambda context: notified.append(context["detection_changes"]))
    assert notified == [["m@1 (PRIMARY): unknown -> FAILED"]]


@pytest.mark.parametrize(("role", "fails"), [("PRIMARY", True), ("SHADOW", False)])
def test_the_task_fails_or_warns_of_a_champion_in_trouble_where_that_is_asked_for(
    database: Connection, capfd: pytest.CaptureFixture[str], role: str, *, fails: bool
) -> None:
    _report_to_notify(database)
    database.execute(
        "update detection.detection_snapshots"
        " set report = jsonb_set(report, '{standings,0,role}', %s::jsonb)",
        (json.dumps(role),),
    )

    def run(on_trouble: Any) -> Any:
        operator = SnapshotReportOperator(task_id="t", on_trouble=on_trouble)
        return operator.execute({"logical_date": AT})  # type: ignore[typeddict-item]

    assert run("ignore")["changes"]
    assert "in trouble" not in "".join(capfd.readouterr())
    run("warn")
    assert ("champions in trouble: m@1 FAILED" in "".join(capfd.readouterr())) is fails
    for _ in range(2):  # a retry, and a later run for the same hour, say it again
        if fails:
            with pytest.raises(AirflowFailException, match="champions in trouble: m@1 FAILED"):
                run("fail")
        else:
            run("fail")


def test_two_tasks_at_once_take_one_report_and_notify_once(database: Connection) -> None:
    _report_to_notify(database)
    notified: list[Any] = []

    def slow(context: Any) -> None:
        time.sleep(0.5)
        notified.append(context["detection_changes"])

    with ThreadPoolExecutor(2) as pool:
        ids = {stored["snapshot_id"] for stored in pool.map(lambda _: _run(AT, slow), range(2))}
    assert (len(ids), len(notified)) == (1, 1)
    later = AT + timedelta(hours=1)
    with ThreadPoolExecutor(2) as pool:
        ids = {stored["snapshot_id"] for stored in pool.map(lambda _: _run(later), range(2))}
    assert len(ids) == 1


def test_a_version_of_a_rare_cycle_is_not_notified_twice_after_hours_without_it(database: Connection) -> None:
    notified: list[Any] = []
    for number, standings in enumerate(([STANDING], [], [STANDING])):
        at = AT + timedelta(hours=number)
        _run(at)
        database.execute(
            "update detection.detection_snapshots set notified_at = null,"
            " report = jsonb_set(report, '{standings}', %s::jsonb) where upper(covers) = %s",
            (json.dumps(standings), at),
        )
        _run(at, lambda context: notified.append(context["detection_changes"]))
    assert notified == [["m@1 (PRIMARY): unknown -> FAILED"]]


def test_thresholds_are_options(monkeypatch: pytest.MonkeyPatch) -> None:
    assert thresholds() == Thresholds()
    monkeypatch.setenv("AIRFLOW__DETECTION__VERDICT_P_VALUE", "0.01")
    monkeypatch.setenv("AIRFLOW__DETECTION__VERDICT_HISTORY_CYCLES", "20")
    expected = Thresholds(p_value=0.01, history_cycles=20)
    assert process_facts_of(settings()).thresholds == expected
    for wrong in ("2.5", "many", "0", "nan"):
        monkeypatch.setenv("AIRFLOW__DETECTION__VERDICT_HISTORY_CYCLES", wrong)
        with pytest.raises(ConfigurationError, match="verdict_history_cycles"):
            thresholds()


def _args(**given: object) -> Namespace:
    return Namespace(**{"at": AT, "diagnostic": False, "hours": 24, "json": False, "html": None, **given})


def test_the_command_line_shows_what_is_stored(
    database: Connection, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    snapshot.snapshot(_args(json=True, html=str(page)))
    first = json.loads(capsys.readouterr().out)
    assert "<!doctype html>" in page.read_text()
    snapshot.snapshot(_args(json=True))
    assert json.loads(capsys.readouterr().out) == first
    snapshot.snapshot(_args())
    assert "Verdicts" in capsys.readouterr().out
    snapshot.snapshot(_args(diagnostic=True, json=True))
    longer = json.loads(capsys.readouterr().out)
    assert (longer["kind"], longer["start"]) == ("diagnostic", (AT - timedelta(days=1)).isoformat())
    kinds = database.execute("select kind from detection.detection_snapshots order by 1").fetchall()
    assert kinds == [("diagnostic",), ("hourly",)]
