"""What retention removes is in Parquet before it is dropped, all of it, whoever is killed when."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import duckdb
import psycopg
import pytest
from tests.store.partition_schema import (
    METRICS,
    QUICK,
    WAITING,
    PartitionSchema,
    both_steps,
    month,
    now,
    wait_for,
)
from tests.store.servers import pooler

from airflow_detection.cli.partitions import exported_rows, write_csv
from airflow_detection.errors import StorageError
from airflow_detection.operators.partition_files import partition_files
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.partitions import export, parquet
from airflow_detection.store.partitions.create import recreate
from airflow_detection.store.partitions.export import FileAccess
from airflow_detection.store.partitions.exported_rows import (
    columns_of,
    exports_of,
    find_exports,
    read_exports,
)
from airflow_detection.store.partitions.plan import Phase, UpkeepLimits, plan
from airflow_detection.store.partitions.upkeep import UpkeepReport, apply

FILES = partition_files()
ROWS = 5_000


class Killed(BaseException):
    """Stands for a process that is gone: nothing of the package catches it."""


def want(schema: PartitionSchema, uri: str | None) -> None:
    schema.run("update @detection_partition_policies set retention_export = %s, grace = '0'", uri)


def retain(
    schema: PartitionSchema, files: FileAccess | None = FILES, limits: UpkeepLimits = QUICK
) -> UpkeepReport:
    return apply(Database(schema.conn, schema.name), Phase.RETAIN, now=now(), limits=limits, files=files)


def outcomes(report: UpkeepReport) -> list[tuple[str, str]]:
    return [(r.action.kind.value, r.outcome) for r in report.results]


@pytest.fixture
def cold(schema: PartitionSchema, monkeypatch: pytest.MonkeyPatch) -> PartitionSchema:
    """Metrics with a table partition that is detached and past its grace, and several files long."""
    monkeypatch.setattr(export, "BLOCKS", 16)
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(40)
    schema.run(
        f"insert into @{METRICS} select 'm' || n %% 3, n, 'PRIMARY', n %% 2 = 0, 'k', n / 7.0::float8, %s"
        f" from generate_series(1, {ROWS}) n",
        month(-40) + timedelta(hours=1, microseconds=1),
    )
    schema.policy(grace="0")
    schema.upkeep(Phase.RETAIN)
    return schema


def table_text(schema: PartitionSchema, table: str) -> list[Any]:
    return schema.run(f"select * from @{table} order by ctid")


def read_back(uri: str, **choice: Any) -> list[dict[str, object]]:
    found = list(find_exports(FILES, uri))
    batches = read_exports(FILES, found, **choice)
    return list(exported_rows(batches, found[0][1].columns, limit=10**9))


@both_steps
def test_a_table_is_exported_then_dropped_and_read_back(cold: PartitionSchema, tmp_path: Path) -> None:
    base = f"file://{tmp_path}"
    want(cold, base)
    stored = table_text(cold, "old_40")
    db = Database(cold.conn, cold.name)
    planned = [str(a) for a in plan(db, now=now(), phases=(Phase.RETAIN,))]
    report = retain(cold)
    assert [str(r.action) for r in report.results] == planned
    assert planned[0].endswith(f": to {base}")
    assert outcomes(report) == [("export", "done"), ("drop", "done")]
    assert not cold.table_exists("old_40")
    ((uri, found),) = exports_of(db, FILES, METRICS)
    assert (found.rows, found.lower, found.upper, found.table) == (ROWS, month(-40), month(-39), METRICS)
    assert len(found.files) > 2
    assert sum(file.rows for file in found.files) == ROWS
    details = cold.run("select details from @detection_maintenance_log where action = 'export'")[0][0]
    assert (details["rows"], details["uri"], details["sha256"]) == (ROWS, uri, found.sha256)
    rows = read_back(base)
    assert [tuple(row.values()) for row in rows] == [
        (*row[:-1], row[-1].astimezone(UTC).isoformat()) for row in stored
    ]


def test_spans_and_models_are_chosen(cold: PartitionSchema, tmp_path: Path) -> None:
    base, at = f"file://{tmp_path}", month(-40) + timedelta(hours=1, microseconds=1)
    want(cold, base)
    assert retain(cold).is_success
    assert len(read_back(base, model_id="m1")) == 1667
    assert len(read_back(base, start=at, end=at + timedelta(microseconds=1))) == ROWS
    assert read_back(base, start=at + timedelta(microseconds=1)) == []
    assert read_back(base, end=at) == []


def test_duckdb_reads_the_files(cold: PartitionSchema, tmp_path: Path) -> None:
    want(cold, f"file://{tmp_path}")
    expected = cold.run("select count(*), sum(metric_value) from @old_40")[0]
    assert retain(cold).is_success
    found = (
        duckdb.connect()
        .execute(
            "select count(*), sum(metric_value), min(cycle_started_at)"
            f" from '{tmp_path}/{METRICS}/*/*.parquet'"
        )
        .fetchone()
    )
    assert found
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1], rel=1e-12)
    assert found[2] == month(-40) + timedelta(hours=1, microseconds=1)


VALUES = """
create type @colour as enum ('red', 'dark green');
create table @odd (
    at timestamptz not null, flag boolean, small smallint, whole integer, large bigint, single real,
    double double precision, exact numeric, money numeric(20, 4), colour @colour, words text[], body jsonb,
    raw bytea, day date, naive timestamp, length interval, note text, fixed char(4), id uuid
) partition by range (at);
create table @odd_2001 partition of @odd for values from ('2001-01-01Z') to ('2001-02-01Z');
create table @odd_2900 partition of @odd for values from ('2900-01-01Z') to ('2900-02-01Z');
insert into @odd values
    ('2001-01-05T00:00:00.000001Z', true, -32768, 2147483647, -9223372036854775808, '3.4028235e38',
     5e-324, 12345678901234567890.123456789, -0.0001, 'dark green', array['a', null, 'b,"c"'],
     '{"a": [1, null, "é"], "b": "line\\nfeed"}', '\\x00ff', '1969-12-31', '1969-12-31 23:59:59.999999',
     '1 mon 2 days 03:04:05', E'quote " comma , feed \\n back \\\\ \\\\. tab \\t', 'ab',
     'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
    ('2001-01-05T00:00:00Z', false, 0, 0, 0, 'NaN', 'NaN', 'NaN', 0, 'red', '{}', 'null', '', '2001-01-01',
     '0001-01-01', '0', '', '', null),
    ('2001-01-06T23:59:59.999999Z', null, null, null, null, '-Infinity', 'Infinity', null, null, null,
     null, null, null, null, null, null, null, null, null),
    ('2001-01-07T00:00:00Z', null, null, null, null, '1e-45', 0.1, 'Infinity', null, null, null, '"\\\\"',
     null, null, null, null, '\\N', null, null);
insert into @detection_partition_policies (table_name, retention) values ('odd', '1 month')
"""


def test_every_value_comes_back_as_it_was(schema: PartitionSchema, tmp_path: Path) -> None:
    schema.run("delete from @detection_partition_policies")
    for statement in VALUES.split(";\n"):
        schema.run(statement)
    schema.run("set extra_float_digits = 0; set timezone = 'Asia/Kathmandu'")
    want(schema, f"file://{tmp_path}")
    retain(schema)
    before = schema.run(
        "select to_jsonb(o) - array['at', 'naive', 'length', 'body', 'words', 'raw'] || jsonb_build_object("
        " 'at', o.at at time zone 'UTC', 'naive', o.naive, 'body', o.body::text, 'words', o.words::text,"
        " 'raw', o.raw::text, 'exact', o.exact::text, 'money', o.money::text) from @odd_2001 o order by ctid"
    )
    floats = (
        schema.conn.cursor(binary=True)
        .execute(f"select single, double from {schema.name}.odd_2001 order by ctid")
        .fetchall()
    )
    assert outcomes(retain(schema)) == [("export", "done"), ("drop", "done")]
    found = list(find_exports(FILES, f"file://{tmp_path}"))
    rows = [row for batch in read_exports(FILES, found) for row in batch.to_pylist()]
    assert len(rows) == 4
    for row, (was,), numbers in zip(rows, before, floats, strict=True):
        assert row["at"] == datetime.fromisoformat(was["at"]).replace(tzinfo=UTC)
        assert repr((row["single"], row["double"])) == repr(numbers)
        for name in ("flag", "small", "whole", "large", "exact", "money", "colour", "note", "fixed", "id",
                     "body", "words", "raw"):  # fmt: skip
            assert row[name] == was[name], name
        assert (row["day"] and row["day"].isoformat()) == was["day"]
        assert (row["naive"] and row["naive"].isoformat()) == was["naive"]
    assert rows[0]["length"] == "P1M2DT3H4M5S"
    assert [row["note"] for row in rows][1:] == ["", None, "\\N"]


def test_a_time_that_parquet_has_not_is_refused_and_the_table_kept(
    schema: PartitionSchema, tmp_path: Path
) -> None:
    schema.run("delete from @detection_partition_policies")
    for statement in VALUES.split(";\n"):
        schema.run(statement)
    schema.run("update @odd set naive = 'infinity'")
    want(schema, f"file://{tmp_path}")
    retain(schema)
    report = retain(schema)
    assert outcomes(report) == [("export", "failed"), ("drop", "failed")]
    assert "a row cannot be written to Parquet: " in report.failed[0].details
    assert f"'odd_2001' has not been exported to file://{tmp_path}: it is kept" == report.failed[1].details
    assert schema.table_exists("odd_2001")


def test_an_export_that_breaks_off_within_its_rows_leaves_the_connection_free(
    schema: PartitionSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MAX_CHUNK_ROWS", 100)
    schema.run("delete from @detection_partition_policies")
    for statement in VALUES.split(";\n"):
        schema.run(statement)
    schema.run("update @odd set naive = 'infinity'")
    schema.run(
        "insert into @odd select o.* from @odd o, generate_series(1, 50000) where o.at < '2001-02-01Z'"
    )
    want(schema, f"file://{tmp_path}")
    retain(schema)
    assert outcomes(retain(schema)) == [("export", "failed"), ("drop", "failed")]
    assert schema.table_exists("odd_2001")


def counted(at: int, when: str, calls: list[str]) -> FileAccess:
    """Access to files that ends the process before or after its call of this number."""

    def step(name: str, call: Callable[[], Any]) -> Any:
        calls.append(name)
        if when == "before" and len(calls) == at:
            raise Killed
        result = call()
        if when == "after" and len(calls) == at:
            raise Killed
        return result

    @contextmanager
    def opened(uri: str) -> Iterator[IO[bytes]]:
        with FILES.open(uri) as file:
            step(f"open {uri.rpartition('/')[2]}", lambda: None)
            yield file

    return FileAccess(
        open=opened,
        write=lambda uri, content: step(f"write {uri.rpartition('/')[2]}", lambda: FILES.write(uri, content)),
        names=FILES.names,
    )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 3, 4, "last", "second last"])
def test_a_run_that_is_killed_anywhere_is_gone_on_with(
    cold: PartitionSchema, tmp_path: Path, when: str, at: int | str
) -> None:
    base = f"file://{tmp_path}/cold"
    want(cold, base)
    files_count = -(-cold.run("select pg_relation_size('@old_40') / 8192")[0][0] // 16)
    calls_count = 2 * files_count + 2  # each file is written and read, then the manifest
    number = {"last": calls_count, "second last": calls_count - 1}.get(str(at), at)
    calls: list[str] = []
    with pytest.raises(Killed):
        retain(cold, counted(int(number), when, calls))
    assert len(calls) == number
    assert cold.table_exists("old_40")
    assert cold.run("select count(*) from @detection_maintenance_log where action = 'export'") == [(0,)]
    assert outcomes(retain(cold)) == [("export", "done"), ("drop", "done")]
    assert len(read_back(base)) == ROWS


def test_a_run_that_is_killed_between_export_and_drop_does_not_export_again(
    cold: PartitionSchema, tmp_path: Path
) -> None:
    want(cold, f"file://{tmp_path}")
    with connect(cold.dsn) as blocker, connect(cold.dsn) as victim, blocker.transaction():
        pid = victim.info.backend_pid
        cold.run("select from @old_40 limit 1", conn=blocker)
        errors: list[BaseException] = []

        def killed() -> None:
            try:
                limits = replace(QUICK, lock_timeout=timedelta(seconds=30))
                apply(Database(victim, cold.name), Phase.RETAIN, now=now(), limits=limits, files=FILES)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=killed)
        thread.start()
        wait_for(lambda: cold.run(WAITING, pid) == [(True,)])
        cold.run("select pg_terminate_backend(%s)", pid)
        thread.join()
    assert errors
    assert cold.table_exists("old_40")
    assert outcomes(retain(cold)) == [("drop", "done")]
    assert len(read_back(f"file://{tmp_path}")) == ROWS


def test_a_server_that_ends_the_copy_leaves_the_table(cold: PartitionSchema, tmp_path: Path) -> None:
    want(cold, f"file://{tmp_path}")
    with connect(cold.dsn) as victim:

        def write(uri: str, content: IO[bytes]) -> None:
            FILES.write(uri, content)
            cold.run("select pg_terminate_backend(%s)", victim.info.backend_pid)

        with pytest.raises(Exception, match="connection"):
            apply(
                Database(victim, cold.name), Phase.RETAIN, now=now(), limits=QUICK,
                files=replace(FILES, write=write),
            )  # fmt: skip
    assert cold.table_exists("old_40")
    assert outcomes(retain(cold)) == [("export", "done"), ("drop", "done")]


@pytest.mark.parametrize("fault", ["a flipped byte", "a file cut short", "another file"])
def test_files_that_are_not_what_was_written_refuse_the_drop(
    cold: PartitionSchema, tmp_path: Path, fault: str
) -> None:
    want(cold, f"file://{tmp_path}")

    def write(uri: str, content: IO[bytes]) -> None:
        FILES.write(uri, content)
        path = Path(uri.removeprefix("file://"))
        if path.name == "part-00001.parquet":
            whole = path.read_bytes()
            path.write_bytes({
                "a flipped byte": whole[:600] + bytes([whole[600] ^ 1]) + whole[601:],
                "a file cut short": whole[:-100],
                "another file": path.with_name("part-00000.parquet").read_bytes(),
            }[fault])  # fmt: skip

    report = retain(cold, replace(FILES, write=write))
    assert outcomes(report) == [("export", "failed"), ("drop", "failed")]
    if fault == "another file":
        assert "rows of sha256" in report.failed[0].details
    assert cold.table_exists("old_40")
    assert ("export", "failed") in cold.log("action", "outcome")
    assert not list(tmp_path.rglob("manifest.json"))
    assert outcomes(retain(cold)) == [("export", "done"), ("drop", "done")]


def test_rows_that_came_after_the_export_refuse_the_drop_and_are_exported_next(
    cold: PartitionSchema, tmp_path: Path
) -> None:
    want(cold, f"file://{tmp_path}")
    late = "insert into @old_40 values ('late', 1, 'PRIMARY', false, 'k', 1, %s)"

    def write(uri: str, content: IO[bytes]) -> None:
        FILES.write(uri, content)
        if uri.endswith("manifest.json"):
            cold.run(late, month(-40))

    report = retain(cold, replace(FILES, write=write))
    assert outcomes(report) == [("export", "done"), ("drop", "failed")]
    assert report.failed[0].details == f"'old_40' has {ROWS + 1} rows, and its export {ROWS}: it is kept"
    assert outcomes(retain(cold)) == [("export", "done"), ("drop", "done")]
    assert len(read_back(f"file://{tmp_path}")) == ROWS + 1


def test_a_table_that_came_back_and_went_again_is_exported_again(
    cold: PartitionSchema, tmp_path: Path
) -> None:
    want(cold, f"file://{tmp_path}")
    retain(cold, limits=replace(QUICK, max_drops=100))
    db = Database(cold.conn, cold.name)
    recreate(db, METRICS, month(-40))
    cold.insert(month(-40))
    cold.run("delete from @detection_partition_holds")
    cold.run("update @detection_maintenance_log set logged_at = logged_at - interval '90 days'")
    assert outcomes(retain(cold)) == [("detach", "done")]
    assert outcomes(retain(cold)) == [("export", "done"), ("drop", "done")]
    assert sorted(found.rows for _, found in exports_of(db, FILES, METRICS)) == [1, ROWS]
    assert len(read_back(f"file://{tmp_path}")) == ROWS + 1, "the first export is still there"


def test_the_export_of_another_database_is_not_written_over(cold: PartitionSchema, tmp_path: Path) -> None:
    want(cold, f"file://{tmp_path}")
    cold.run("create view @looked_at as select * from @old_40")
    assert outcomes(retain(cold)) == [("export", "done"), ("drop", "failed")]
    (path,) = tmp_path.rglob("manifest.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"origin": "production"}))
    cold.run("delete from @detection_maintenance_log where action = 'export'")
    report = retain(cold)
    assert outcomes(report) == [("export", "failed"), ("drop", "failed")]
    assert report.failed[0].details.endswith("has the export of another database, production: it is kept")
    assert json.loads(path.read_text())["origin"] == "production"


def test_an_owner_who_is_no_superuser_exports(cold: PartitionSchema, tmp_path: Path) -> None:
    want(cold, f"file://{tmp_path}")
    role = f"exporter_of_{cold.name}"
    cold.run(f"create role {role} login password 'x'; grant usage, create on schema {cold.name} to {role}")
    for (name,) in cold.run(
        "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'p')",
        cold.name,
    ):
        cold.run(f"alter table @{name} owner to {role}")
    with connect(psycopg.conninfo.make_conninfo(cold.dsn, user=role, password="x")) as conn:  # noqa: S106
        report = apply(Database(conn, cold.name), Phase.RETAIN, now=now(), limits=QUICK, files=FILES)
    assert outcomes(report) == [("export", "done"), ("drop", "done")]


def test_a_folder_that_cannot_be_written_keeps_the_table(cold: PartitionSchema, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    want(cold, f"file://{tmp_path}/file")
    report = retain(cold)
    assert outcomes(report) == [("export", "failed"), ("drop", "failed")]
    assert f"file://{tmp_path}/file/{METRICS}/old_40" in report.failed[0].details
    assert cold.table_exists("old_40")


def test_without_access_to_files_nothing_is_dropped(cold: PartitionSchema, tmp_path: Path) -> None:
    want(cold, f"file://{tmp_path}")
    report = retain(cold, None)
    assert report.failed[0].details == "'old_40' cannot be exported: this run has no access to files"
    assert cold.table_exists("old_40")
    want(cold, None)
    assert outcomes(retain(cold, None)) == [("drop", "done")]


def test_without_pyarrow_one_sentence_says_what_to_install(
    cold: PartitionSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    want(cold, f"file://{tmp_path}")
    assert retain(cold).failed[0].details == (
        "Parquet files need pyarrow, which is not installed:"
        " pip install 'airflow-provider-detection[parquet]'"
    )
    assert cold.table_exists("old_40")


@pytest.mark.parametrize("name", ["a b", "ü#ß?x=1&y", "100%25", "q'uote\"", "[1]*"])
def test_a_folder_may_have_any_name(cold: PartitionSchema, tmp_path: Path, name: str) -> None:
    base = f"file://{tmp_path}/{name}/"
    want(cold, base)
    assert retain(cold).is_success
    assert (tmp_path / name / METRICS).is_dir()
    assert len(read_back(base)) == ROWS


def test_a_store_in_memory_will_do(cold: PartitionSchema) -> None:
    base = f"memory://cold-{cold.name}"
    want(cold, base)
    assert retain(cold).is_success
    assert len(read_back(f"{base}/{METRICS}")) == ROWS


def test_behind_a_pooler_it_is_exported_too(cold: PartitionSchema, tmp_path: Path) -> None:
    want(cold, f"file://{tmp_path}")
    with pooler(cold.dsn) as dsn, connect(dsn) as conn:
        report = apply(Database(conn, cold.name), Phase.RETAIN, now=now(), limits=QUICK, files=FILES)
    assert outcomes(report) == [("export", "done"), ("drop", "done")]


def test_a_table_without_rows_has_an_export_without_rows(cold: PartitionSchema, tmp_path: Path) -> None:
    cold.run("truncate @old_40")
    want(cold, f"file://{tmp_path}")
    assert retain(cold).is_success
    ((_, found),) = find_exports(FILES, f"file://{tmp_path}")
    assert (found.rows, len(found.files)) == (0, 1)
    assert read_back(f"file://{tmp_path}") == []


def test_exports_from_before_a_column_was_added_are_read_with_the_others(
    cold: PartitionSchema, tmp_path: Path
) -> None:
    want(cold, f"file://{tmp_path}")
    assert retain(cold).is_success
    cold.run(f"alter table @{METRICS} add column unit text")
    cold.add_old_months(39)
    cold.run(f"insert into @{METRICS} values ('m', 1, 'PRIMARY', false, 'k', 1, %s, 'm/s')", month(-39))
    retain(cold)
    assert retain(cold).is_success
    found = list(find_exports(FILES, f"file://{tmp_path}"))
    text = BytesIO()
    write_csv(read_exports(FILES, found), text, columns_of(found), limit=None)
    lines = text.getvalue().splitlines()
    assert lines[0].endswith(b',"cycle_started_at","unit"')
    assert sum(line.endswith(b',"m/s"') for line in lines) == 1
    assert sum(line.endswith(b",") for line in lines) == ROWS


def test_exports_of_two_tables_are_not_read_as_one(cold: PartitionSchema, tmp_path: Path) -> None:
    want(cold, f"file://{tmp_path}")
    assert retain(cold).is_success
    ((folder, found),) = find_exports(FILES, f"file://{tmp_path}")
    with pytest.raises(StorageError, match=f"several tables, {METRICS}, other: name the folder of one"):
        columns_of([(folder, found), (folder, replace(found, table="other"))])


@pytest.mark.parametrize(
    ("uri", "message"),
    [("cold", "must be the URI of a folder, such as s3://bucket/cold or file:///cold"),
     ("file://cold", "must be the URI of a folder"), ("s3://", "must be the URI of a folder"),
     ("s3://a\nb", "must be the URI of a folder"),
     ("s3://me:{}@bucket/cold".format("pw"), "holds a password: must name an Airflow connection")],
)  # fmt: skip
def test_a_folder_that_is_no_uri_is_refused_with_a_sentence(
    schema: PartitionSchema, uri: str, message: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=message) as raised:
        want(schema, uri)
    assert "secret" not in str(raised.value.diag.message_primary)
