"""`airflow detection partitions`, against a real Postgres."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from datetime import UTC, datetime, timedelta

import pytest
from psycopg.conninfo import conninfo_to_dict

from airflow_detection.cli import partitions
from airflow_detection.store.connection import Connection


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


def _args(**given: object) -> Namespace:
    return Namespace(**{"max_drops": None, "recreate_expired": None, **given})


def test_the_command_line_plans_does_and_brings_back(
    database: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    partitions.partitions_plan(_args())
    planned = capsys.readouterr().out.splitlines()
    partitions.partitions_apply(_args())
    assert [line.split(" -> ")[0] for line in capsys.readouterr().out.splitlines()] == planned
    assert len(planned) == 12
    old = (datetime.now(UTC) - timedelta(days=1500)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    database.execute(
        "create table detection.ancient partition of detection.detection_model_metrics "
        f"for values from ('{old}') to ('{old + timedelta(days=20)}')"
    )
    partitions.partitions_apply(_args())
    assert re.match("detach +ancient .* -> done", capsys.readouterr().out)
    partitions.partitions_apply(_args(recreate_expired=f"{old:%Y-%m}"))
    assert f"detection_model_metrics {old:%Y-%m}: is back" in capsys.readouterr().out
    partitions.partitions_apply(_args(recreate_expired="2020-05"))
    said = "2020-05: is new and empty: no detached table has it"
    assert f"detection_model_metrics {said}" in capsys.readouterr().out
    partitions.partitions_apply(_args(recreate_expired="2020-05"))
    assert "detection_model_metrics 2020-05: was there" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        partitions.partitions_apply(_args(recreate_expired="soon"))
    assert (
        "--recreate-expired is 'soon': must be a month, YYYY-MM, or a day, YYYY-MM-DD"
        in capsys.readouterr().err
    )
