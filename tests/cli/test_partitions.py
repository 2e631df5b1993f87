"""`airflow detection partitions`, against a real Postgres."""

from __future__ import annotations

import json
import re
import shutil
import sys
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from airflow_detection.cli import check, partitions
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


OLD = datetime(2021, 3, 1, tzinfo=UTC)


@pytest.fixture
def exported(database: Connection, tmp_path: Path) -> str:
    """The folder of an exported month of outputs, of which the table is gone."""
    database.execute("update detection.detection_partition_policies set grace = '0'")
    database.execute(
        "create table detection.ancient partition of detection.detection_model_run_outputs "
        f"for values from ('{OLD}') to ('{OLD + timedelta(days=31)}')"
    )
    database.execute(
        "insert into detection.detection_model_run_outputs "
        "(cycle_started_at, model_id, version_id, role, is_replay, entity_id, score, input_ref, outputs) "
        "select %s + n * interval '1 hour', 'm' || n %% 2, 1, 'PRIMARY', n %% 3 = 0, nullif('e' || n, 'e7'), "
        "n / 7.0, '{}', jsonb_build_object('note', E'a \"b\"\n, c', 'n', n) from generate_series(0, 599) n",
        (OLD,),
    )
    database.execute("create table detection.kept as select * from detection.ancient")
    database.execute(
        "update detection.detection_partition_policies set retention_export = %s", (f"file://{tmp_path}",)
    )
    database.execute("delete from detection.detection_partition_policies where table_name = 'ais_positions'")
    partitions.partitions_apply(_args())
    partitions.partitions_apply(_args())
    assert database.execute("select to_regclass('detection.ancient')").fetchone() == (None,)
    return f"file://{tmp_path}"


def _read(source: str, **given: object) -> None:
    chosen = {"month": None, "day": None, "start": None, "end": None, "model": None, "limit": None}
    partitions.partitions_read(Namespace(**{**chosen, "source": source, "output": "json", **given}))


def test_exported_rows_are_read_by_folder_and_by_table(
    exported: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    _read("detection_model_run_outputs", day="2021-03-02", model="m1")
    rows = json.loads(capsys.readouterr().out)
    assert [row["cycle_started_at"] for row in rows] == [
        f"2021-03-02T{hour:02}:00:00+00:00" for hour in range(1, 24, 2)
    ]
    assert rows[0]["outputs"] == {"note": 'a "b"\n, c', "n": 25}
    _read(exported, month="2021-03", limit=3)
    assert len(json.loads(capsys.readouterr().out)) == 3
    _read(exported, start=OLD + timedelta(hours=599))
    assert [row["entity_id"] for row in json.loads(capsys.readouterr().out)] == ["e599"]
    _read(exported, month="2021-04", output="table")
    assert "No data found" in capsys.readouterr().out


def test_a_span_that_is_given_twice_and_a_folder_without_exports_are_told(
    exported: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, said in (
        ({"month": "2021-03", "day": "2021-03-02"}, "--month, --day and --from with --to exclude each other"),
        ({"day": "2021-03"}, "--day is '2021-03': must be a day, YYYY-MM-DD"),
        ({"source": f"{exported}/nowhere"}, "nowhere has no export"),
        ({"source": "detection_model_metrics"}, "detection_model_metrics has no export"),
    ):
        with pytest.raises(SystemExit):
            _read(**{"source": exported, **given})  # type: ignore[arg-type]
        assert said in capsys.readouterr().err
    shutil.rmtree(tmp_path / "detection_model_run_outputs")
    with pytest.raises(SystemExit):
        _read("detection_model_run_outputs")
    assert "has no manifest any more" in capsys.readouterr().err


def test_csv_is_what_copy_takes_back_into_a_month_that_is_brought_back(
    exported: str, database: Connection, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    partitions.partitions_apply(_args(recreate_expired="2021-03"))
    capfdbinary.readouterr()
    _read(exported, output="csv")
    text = capfdbinary.readouterr().out
    with (
        database.cursor() as cursor,
        cursor.copy(
            "copy detection.detection_model_run_outputs from stdin (format csv, header match)"
        ) as copy,
    ):
        copy.write(text)
    kept, back = ("select * from detection.kept", "select * from detection.detection_model_run_outputs")
    for one, other in ((kept, back), (back, kept)):
        assert database.execute(f"{one} except all {other}").fetchall() == []
    _read(exported, output="csv", limit=2)
    assert capfdbinary.readouterr().out.count(b"2021-03-01") == 2


def test_check_names_policies_that_upkeep_cannot_follow(
    database: Connection, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute(
        "update detection.detection_partition_policies set retention_export = 'nosuch://cold/x' "
        "where table_name = 'detection_model_metrics'"
    )
    database.execute(
        "insert into detection.detection_partition_policies (table_name) values ('detection_events')"
    )
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SystemExit):
        check.check(Namespace())
    told = capsys.readouterr().err
    place = "policy of table partitions of"
    assert f"{place} detection_events: table 'detection_events' does not exist, or is not partitioned" in told
    assert f"{place} detection_model_metrics: Parquet files need pyarrow, which is not installed: pip" in told
    assert f"{place} detection_model_metrics: retention_export 'nosuch://cold/x': " in told


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
    told = [line for line in capsys.readouterr().out.splitlines() if "metrics" in line]
    assert told == [
        f"detection_model_metrics {old:%Y-%m-%d}: is back",
        f"detection_model_metrics {old:%Y-%m}-21: is new and empty: no detached table has it",
    ]
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
