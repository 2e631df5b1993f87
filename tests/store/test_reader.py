"""Models read, and only read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_detection.errors import ConfigurationError, RegistryUnavailable, TerminalModelError
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.queries import load_queries, named
from airflow_detection.store.reader import Reader

START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def reader(database: Connection) -> Reader:
    database.execute("create table detection.seen (id int, at timestamptz, details jsonb)")
    database.execute(
        "insert into detection.seen select n, timestamptz '2026-01-01Z' + n * interval '6 hours', "
        "jsonb_build_object('n', array[n]) from generate_series(0, 7) n"
    )
    return Reader(Database(database, "detection"), {"window_start": START, "window_end": END})


def test_a_query_sees_the_window_and_its_own_params(reader: Reader) -> None:
    inputs = reader.query(
        "select id, at::text || ' 100% :no' as label, details from seen "
        "where at >= :window_start and at < :window_end and id % 2 = :rest order by id;",
        {"rest": 1},
    )
    assert inputs["id"] == (1, 3)
    assert inputs["label"][0].endswith("100% :no")
    assert inputs["details"][0]["n"] == (1,)
    with pytest.raises(TypeError):
        inputs["details"][0]["n"] = 2


def test_the_window_cannot_be_overridden(reader: Reader) -> None:
    assert reader.query("select :window_start as s", {"window_start": END})["s"] == (START,)


def test_a_query_tells_its_tables_and_is_not_run(reader: Reader, database: Connection) -> None:
    database.execute(
        "create schema ships;"
        "create table ships.at (id int, at timestamptz) partition by range (at);"
        "create table ships.at_2026 partition of ships.at for values from ('2026-01-01Z') to ('2027-01-01Z');"
        "create table ships.flags (id int);"
        "create table ships.flags_of_one (check (id = 1)) inherits (ships.flags);"
        "create view ships.known as select id from ships.flags where id = 1;"
        "create function ships.wait() returns int language sql volatile as $$select 1 from pg_sleep(60)$$"
    )
    query = (
        "with first as materialized (select id from ships.at where at < :window_start) "
        "select seen.id, ships.wait() as n from seen join first using (id) "
        "where exists (select from ships.known where known.id = seen.id) and seen.id not in (select id from"
        " ships.at_2026 where at >= :window_end);"
    )
    assert reader.tables(query) == ["detection.seen", "ships.at", "ships.flags"]
    assert reader.tables("select :window_start as at") == []
    for text, reason in (
        ("select id from nowhere", "nowhere"),
        ("select 1; commit; drop table detection.seen", "multiple commands"),
    ):
        with pytest.raises(TerminalModelError, match=reason):
            reader.tables(text)
    assert reader.query("select count(*) as n from seen")["n"] == (8,)


def test_a_query_leaves_no_lock_behind(reader: Reader, database: Connection) -> None:
    reader.query("select pg_advisory_lock(1)::text as locked, pg_advisory_lock_shared(2)::text as shared")
    with pytest.raises(TerminalModelError):
        reader.query("select pg_advisory_lock(3)::text as locked, 1 / 0")
    count_locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    assert database.execute(count_locks).fetchone() == (0,)


def test_a_query_without_rows_keeps_its_columns(reader: Reader) -> None:
    inputs = reader.query("select id, at from seen where false")
    assert (list(inputs.columns), len(inputs)) == (["id", "at"], 0)


def test_more_rows_than_one_batch_are_all_read(reader: Reader) -> None:
    assert sum(reader.query("select n from generate_series(1, 12345) n")["n"]) == 12345 * 12346 // 2


@pytest.mark.parametrize(
    "text",
    [
        "insert into seen (id) values (99)",
        "update seen set id = 99",
        "delete from seen",
        "drop table seen",
        "truncate seen",
        "commit",
        "select 1; drop table seen",
        "select 1; commit; drop table seen",
        "with deleted as (delete from seen returning id) select * from deleted",
        "select nextval('detection_attempts')",
        "select * from seen for update",
        "select set_config('transaction_read_only', 'off', true)",
        "select pg_catalog.query_to_xml('delete from seen', true, true, '')",
        "copy seen to stdout",
        "call nothing()",
        "select :unknown",
        "select 1 as a, 2 as a",
        "select no_such_column from seen",
        "",
    ],
)
def test_what_is_not_a_plain_select_is_refused(reader: Reader, database: Connection, text: str) -> None:
    with pytest.raises(TerminalModelError):
        reader.query(text)
    assert database.execute("select count(*), max(id) from detection.seen").fetchone() == (8, 7)
    assert reader.query("select 1 as one")["one"] == (1,)


def test_a_query_leaves_no_setting_behind(reader: Reader, database: Connection) -> None:
    before = database.execute("show search_path").fetchone()
    reader.query(
        "select set_config('search_path', 'pg_temp', false), set_config('TimeZone', 'Asia/Tokyo', false) as z"
    )
    assert database.execute("show search_path").fetchone() == before
    assert database.execute("show timezone").fetchone() == ("UTC",)


def test_a_query_beyond_the_timeout_is_worth_a_retry(dsn: str) -> None:
    with connect(dsn) as conn:
        with pytest.raises(RegistryUnavailable, match="timeout"):
            Reader(Database(conn, "detection"), {}, timeout_s=0.05).query("select pg_sleep(5)")
        assert Reader(Database(conn, "detection"), {}).query("select 1 as one")["one"] == (1,)


def test_a_server_that_is_not_there_is_the_registry_being_unavailable() -> None:
    with pytest.raises(RegistryUnavailable):
        connect("host=127.0.0.1 port=1 dbname=x", connect_timeout_s=2)


def test_a_malformed_connection_string_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        connect("no such thing")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select :a, :b_2", "select %(a)s, %(b_2)s"),
        ("select x::text, 5 % 2", "select x::text, 5 %% 2"),
        ("select ':a' || 'it''s :a' || \":a\"", "select ':a' || 'it''s :a' || \":a\""),
        ("select e'\\':a' || :a", "select e'\\':a' || %(a)s"),
        ("select $$ :a $$, $t$ :a $$ $t$, :a", "select $$ :a $$, $t$ :a $$ $t$, %(a)s"),
        ("-- :a 'quote\nselect :a", "-- :a 'quote\nselect %(a)s"),
        ("/* :a /* :a */ ' */ select :a", "/* :a /* :a */ ' */ select %(a)s"),
        ("select '100%', a[1:2], :a", "select '100%%', a[1:2], %(a)s"),
    ],
)
def test_only_real_parameters_are_replaced(text: str, expected: str) -> None:
    assert named(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("select id\n  from sen", 'relation "sen" does not exist (line 2, column 8 of the query)'),
        (
            "\n-- 50 % of it: 'all'\nselect id, :window_start, :window_end, :window_start /* :x */ from sen",
            'relation "sen" does not exist (line 3, column 68 of the query)',
        ),
        (
            "select idd from seen",
            (
                'column "idd" does not exist (line 1, column 8 of the query);'
                ' Perhaps you meant to reference the column "seen.id"'
            ),
        ),
        ("select id frm seen where", 'syntax error at or near "seen" (line 1, column 15 of the query)'),
        (
            "select id from seen where id = any(",
            "syntax error at end of input (line 1, column 36 of the query)",
        ),
        ("select 1 / 0 as x", "division by zero"),
        ("select id + :window_end as é, 'ü' || :nix(1) from seen", "query parameter missing: nix"),
    ],
)
def test_a_refused_query_is_one_line_with_the_place_in_it(reader: Reader, text: str, reason: str) -> None:
    for ask in (reader.query, reader.columns, reader.read):
        with pytest.raises(TerminalModelError) as refused:
            ask(text)
        assert str(refused.value) == f"the query was refused: {reason}"


def test_queries_of_a_table_that_has_none_are_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="no_such_table"):
        load_queries("no_such_table", "detection")
