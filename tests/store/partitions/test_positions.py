"""Positions have months, too; what a version reads of them stays."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from tests.conftest import clone

from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import read_table
from airflow_detection.store.partitions.plan import ActionKind, Phase, plan
from airflow_detection.store.partitions.upkeep import apply

TABLE = "ais_positions"


@pytest.fixture
def conn(server: str, template: str) -> Iterator[Connection]:
    with clone(server, template) as dsn, connect(dsn) as opened:
        yield opened


def put(conn: Connection, *instants: datetime) -> None:
    for at in instants:
        conn.execute(
            "insert into detection.ais_positions (mmsi, observed_at, lat, lon) values (366000001, %s, 1, 2)",
            (at,),
        )


def months_ago(months: int) -> datetime:
    now = datetime.now(UTC)
    month = now.year * 12 + now.month - 1 - months
    return datetime(month // 12, month % 12 + 1, 1, 12, tzinfo=UTC)


REGISTRATION = """
cycles:
  sea:
    schedule: "*/5 * * * *"
    lookback: 60m
    start_date: 2020-01-01T00:00:00Z
    input_query: select 1 as mmsi
models:
  patient:
    cycle: sea
    entrypoint: loitering
    versions:
      "1.0": {role: PRIMARY, since: 2020-01-01T00:00:00Z}
"""


def read_by_a_champion(conn: Connection, folder: Path, reach: timedelta) -> None:
    """Register a model whose champion reads positions from as far back, and has run once."""
    file = folder / "sea.yaml"
    file.write_text(REGISTRATION)
    apply_file(Database(conn, "detection"), file)
    conn.execute(
        """
        insert into detection.detection_model_runs
            (cycle_id, cycle_started_at, version_id, is_replay, model_id, role, outcome, attempt,
             started_at, duration_ms, params_digest, code_version, reads_since, history_tables)
        select 'sea', date_trunc('hour', now()), version_id, false, 'patient', 'PRIMARY', 'SUCCEEDED', 1,
               now(), 1, '', '', date_trunc('hour', now()) - %s, array['ais_positions']
          from detection.detection_model_versions
        """,
        (reach,),
    )


def test_positions_get_months_of_their_own_and_those_of_the_past_are_moved_there(conn: Connection) -> None:
    db = Database(conn, "detection")
    put(conn, months_ago(0), months_ago(2), months_ago(5))
    assert apply(db, Phase.ENSURE, now=datetime.now(UTC)).is_success
    table = read_table(db, TABLE)
    assert table.default is not None
    for months in (0, 2, 5):
        assert table.holder(months_ago(months)) is not None
    left = conn.execute("select count(*) from detection.ais_positions_default").fetchone()
    assert left == (0,)
    assert conn.execute("select count(*) from detection.ais_positions").fetchone() == (3,)
    assert plan(db, now=datetime.now(UTC), phases=(Phase.ENSURE,)) == ()


def test_a_time_far_ahead_is_stored_and_makes_no_month(conn: Connection) -> None:
    put(conn, datetime(2106, 2, 7, tzinfo=UTC))
    assert apply(Database(conn, "detection"), Phase.ENSURE, now=datetime.now(UTC)).is_success
    assert conn.execute("select count(*) from detection.ais_positions_default").fetchone() == (1,)


def test_a_position_is_stored_once_whatever_its_month(conn: Connection) -> None:
    put(conn, months_ago(3))
    apply(Database(conn, "detection"), Phase.ENSURE, now=datetime.now(UTC))
    with pytest.raises(psycopg.errors.UniqueViolation):
        put(conn, months_ago(3))


def test_retention_below_what_a_version_reads_is_refused_with_its_name(
    conn: Connection, tmp_path: Path
) -> None:
    read_by_a_champion(conn, tmp_path, timedelta(days=45))
    with pytest.raises(
        psycopg.errors.CheckViolation, match=r"ais_positions.*45 days, what patient@1\.0 reads"
    ):
        conn.execute(
            "update detection.detection_partition_policies set retention = '1 month' where table_name = %s",
            (TABLE,),
        )
    conn.execute(
        "update detection.detection_partition_policies set retention = '2 months' where table_name = %s",
        (TABLE,),
    )
    conn.execute(
        "update detection.detection_partition_policies set retention = '1 month' where table_name <> %s",
        (TABLE,),
    )


def test_a_month_that_a_version_reads_stays_whatever_the_retention(conn: Connection, tmp_path: Path) -> None:
    db, now = Database(conn, "detection"), datetime.now(UTC)
    put(conn, months_ago(4), months_ago(9))
    apply(db, Phase.ENSURE, now=now)
    conn.execute("update detection.detection_partition_policies set retention = '1 month', grace = '0'")
    conn.execute("delete from detection.detection_maintenance_log")
    read_by_a_champion(conn, tmp_path, timedelta(days=150))
    actions = {a.lower: a for a in plan(db, now=now, phases=(Phase.RETAIN,)) if a.table == TABLE}
    four, nine = (months_ago(months).replace(day=1, hour=0) for months in (4, 9))
    assert actions[four].kind is ActionKind.KEEP
    assert "patient@1.0 reads it" in actions[four].note
    assert actions[nine].kind is ActionKind.DETACH


def test_a_version_without_a_role_reads_nothing(conn: Connection, tmp_path: Path) -> None:
    read_by_a_champion(conn, tmp_path, timedelta(days=45))
    file = tmp_path / "sea.yaml"
    file.write_text(REGISTRATION.replace("{role: PRIMARY, since: 2020-01-01T00:00:00Z}", "{}"))
    apply_file(Database(conn, "detection"), file)
    conn.execute("update detection.detection_partition_policies set retention = '1 month'")
