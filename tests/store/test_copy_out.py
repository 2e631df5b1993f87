"""A cycle's inputs are read by COPY into arrays, and are what the driver gives row by row."""

from __future__ import annotations

import gc
import math
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Json, Jsonb

from airflow_detection.errors import RegistryUnavailable, TerminalModelError
from airflow_detection.store import columns, copy_out
from airflow_detection.store.columns import ArrayColumns
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.floats import shortest_doubles
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.reader import Reader

START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {
    "flag": "bool", "small": "int2", "number": "int4", "large": "int8", "ratio": "float8", "share": "float4",
    "at": "timestamptz", "name": "text", "code": "char(7)", "short": "varchar(9)", "amount": "numeric",
    "day": "date", "clock": "timetz", "plain": "timestamp", "span": "interval", "raw": "bytea",
    "doc": "jsonb", "json": "json", "list": "int[]", "texts": "text[]", "net": "inet",
    "mood": "detection.mood", "id": "uuid", "kind": '"char"', "pair": "detection.pair",
    "bounds": "int4range", "host": "cidr",
}  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
INSTANTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
VALUES: dict[str, st.SearchStrategy[object]] = {
    "flag": st.booleans(),
    "small": st.integers(-(2**15), 2**15 - 1),
    "number": st.integers(-(2**31), 2**31 - 1),
    "large": st.integers(-(2**63), 2**63 - 1),
    "ratio": st.floats(),
    "share": st.floats(width=32),
    "at": INSTANTS,
    "name": TEXT,
    "code": st.text("abö ", max_size=7),
    "short": st.text("abö \\\n", max_size=9),
    "amount": st.decimals(-1000, 1000) | st.just(Decimal("NaN")),
    "day": st.dates(),
    "clock": st.times(timezones=st.just(UTC)),
    "plain": st.datetimes(),
    "span": st.timedeltas(timedelta(days=-900_000), timedelta(days=900_000)),
    "raw": st.binary(max_size=9),
    "list": st.lists(st.none() | st.integers(-9, 9), max_size=3),
    "texts": st.lists(st.none() | TEXT, max_size=3),
    "mood": st.sampled_from(["calm", "so, so"]),
    "net": st.sampled_from(["10.0.0.1", "10.0.0.0/8", "::1"]),
    "id": st.uuids(),
    "kind": st.sampled_from(["a", ""]),
    "pair": st.sampled_from(["(1,x)", "(,)", '(2,"a,b")']),
    "bounds": st.sampled_from(["[1,5)", "empty", "(,3]"]),
    "host": st.sampled_from(["10.0.0.0/8", "10.1.2.3/32"]),
}
PROFILED = ("at", "ratio", "share", "small", "flag", "name", "day", "list")
ROWS = st.lists(
    st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=6
)


@pytest.fixture
def kinds(database: Connection) -> Connection:
    """A database with a table of all kinds of columns."""
    database.execute("create type detection.mood as enum ('calm', 'so, so')")
    database.execute("create type detection.pair as (n int, t text)")
    fields = ", ".join(f'"{name}" {kind}' for name, kind in KINDS.items())
    database.execute(f"create table detection.kinds (row serial, {fields})".encode())
    return database


def _fill(conn: Connection, rows: list[dict[str, object]], names: Sequence[str]) -> None:
    conn.execute("truncate detection.kinds")
    columns = ", ".join(f'"{name}"' for name in names)
    slots = ", ".join(f"%({name})s::{KINDS[name]}" for name in names)
    for row in rows:
        conn.execute(f"insert into detection.kinds ({columns}) values ({slots})".encode(), row)  # noqa: S608


def _reader(conn: Connection) -> Reader:
    return Reader(Database(conn, "detection"), {"window_start": START})


@given(rows=ROWS, documents=st.lists(JSON, min_size=6, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_arrays_hold_what_the_driver_gives(
    kinds: Connection, rows: list[dict[str, object]], documents: list[object]
) -> None:
    documents = [{"doc": Jsonb(document), "json": Json(document)} for document in documents]
    filled = [row | document for row, document in zip(rows, documents, strict=False)]
    _fill(kinds, filled, [*VALUES, "doc", "json"])
    text = "select * from kinds order by row"
    read, plain = _reader(kinds).read(text), _reader(kinds).query(text)
    assert isinstance(read.columns, ArrayColumns)
    assert (list(read.columns), len(read)) == (list(plain.columns), len(plain))
    for name, column in plain.columns.items():
        assert (name, repr(read[name])) == (name, repr(column))
        assert list(map(type, read[name])) == list(map(type, column))
    assert repr(list(read.rows())) == repr(list(plain.rows()))
    assert {n: repr(sorted(read.distinct(n), key=repr)) for n in ("small", "at", "name")} == {
        n: repr(sorted(plain.distinct(n), key=repr)) for n in ("small", "at", "name")
    }
    for name in ("small", "share", "ratio", "at", "flag", "amount", "name"):
        array, expected = read.array(name), plain.array(name)
        if set(plain[name]) - {None}:
            assert (name, array.dtype) == (name, expected.dtype)
            assert repr(array.tolist()) == repr(expected.tolist())


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                n: st.none() | VALUES[n]
                for n in ("at", "ratio", "share", "small", "flag", "name", "day", "list")
            }
        ),
        max_size=12,
    ),
    time_key=st.sampled_from(["at", "ratio", "small", "none"]),
)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_arrays_have_the_profiles_of_values(
    kinds: Connection, rows: list[dict[str, object]], time_key: str
) -> None:
    _fill(kinds, rows, PROFILED)
    text = "select at, ratio, share, small, flag, name, day, list from kinds order by row"
    key = None if time_key == "none" else time_key
    inputs = [_reader(kinds).read(text), _reader(kinds).query(text)]
    try:
        plain = with_profiles(inputs[1], key)
    except TerminalModelError as error:
        with pytest.raises(TerminalModelError, match=re.escape(str(error))):
            with_profiles(inputs[0], key)
        return
    read = with_profiles(inputs[0], key)
    assert (read.newest_at, read.time_key) == (plain.newest_at, plain.time_key)
    assert [p.name for p in read.newest] == [p.name for p in plain.newest]
    for found, expected in zip(read.newest, plain.newest, strict=True):
        counts = ("name", "count", "null_count", "distinct_count")
        assert [getattr(found, c) for c in counts] == [getattr(expected, c) for c in counts]
        for number in ("mean", "deviation"):
            value, wanted = getattr(found, number), getattr(expected, number)
            assert (value is None) == (wanted is None)
            scale = max(map(abs, (expected.mean or 0.0, wanted or 0.0, 1e-300)))
            assert value is None or value == pytest.approx(wanted, rel=1e-6, abs=1e-6 * scale)


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 2**22])
def test_the_digest_is_of_the_rows_and_not_of_how_they_came(
    database: Connection, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    text = (
        "select n, n::real / 8 as x, case when n % 7 > 0 then 'ship ' || n end as name, "
        "case when n % 5 = 0 then n end as maybe from generate_series(1, {}) n"
    )
    reader = _reader(database)
    whole = reader.read(text.format(30_000)).columns.digest()  # type: ignore[attr-defined] # of arrays
    monkeypatch.setattr(copy_out, "CHUNK_BYTES", chunk_bytes)
    again = with_profiles(reader.read(text.format(30_000)), None)
    assert again.digest == whole
    assert again.digest.startswith("columns-1:")
    others = [
        text.format(29_999),
        text.format(30_000).replace("'ship '", "'Ship '"),
        text.format(30_000).replace("/ 8", "/ 4"),
        text.format(30_000).replace("% 5 = 0", "% 5 = 1"),
        text.format(30_000).replace("as name", "as label"),
    ]
    digests = {reader.read(other).columns.digest() for other in others}  # type: ignore[attr-defined]
    assert len(digests | {whole}) == len(others) + 1


def test_numbers_are_arrays_without_a_copy_and_read_only(database: Connection) -> None:
    inputs = _reader(database).read(
        "select n, n / 2.0::float8 as x, now() as at from generate_series(1, 9) n"
    )
    assert isinstance(inputs.columns, ArrayColumns)
    for name in ("n", "x", "at"):
        assert np.shares_memory(inputs.array(name), inputs.columns.columns[name].data)
        with pytest.raises(ValueError, match="read-only"):
            inputs.array(name)[0] = inputs.array(name)[1]


def test_rows_of_canaries_are_behind_the_arrays(database: Connection) -> None:
    text = "select n as id, n::float8 as x, 'a' || n as name from generate_series(1, 3) n"
    for inputs in (_reader(database).read(text), _reader(database).query(text)):
        more = inputs.with_rows([{"id": -1, "x": None, "name": "canary"}]).with_rows([{"id": None}])
        assert more["id"] == (1, 2, 3, -1, None)
        assert more["x"] == (1.0, 2.0, 3.0, None, None)
        assert (len(more), len(inputs)) == (5, 3)
        assert [row["name"] for row in more.rows()] == ["a1", "a2", "a3", "canary", None]
        assert repr(more.array("id").tolist()) == repr([1.0, 2.0, 3.0, -1.0, math.nan])
        assert repr(more.array("x").tolist()) == repr([1.0, 2.0, 3.0, math.nan, math.nan])
        assert more.array("name").tolist() == ["a1", "a2", "a3", "canary", None]
        assert more.distinct("id") == {1, 2, 3, -1, None}


def test_a_name_that_is_selected_for_a_text_breaks_out_of_nothing(database: Connection) -> None:
    for text in (
        "select 1 as a) to stdout; drop table detection.detection_models; --",
        "select 1 as a) to program 'true' --",
        "select 1 as a /*",
        "select 1 as a from (select 1",
    ):
        with pytest.raises(TerminalModelError):
            _reader(database).read(text)
    inputs = _reader(database).read('select 1 as "a"" } %s", 2 as "ö" -- :no comment')
    assert dict(inputs.columns) == {'a" } %s': (1,), "ö": (2,)}
    assert _reader(database).read("select :window_start as s")["s"] == (START,)


@pytest.mark.parametrize("text", ["select", "select 1 as one where false", "values (1), (2)", "table pg_am"])
def test_results_of_any_size_are_read(database: Connection, text: str) -> None:
    read, plain = _reader(database).read(text), _reader(database).query(text)
    assert repr(dict(read.columns)) == repr(dict(plain.columns))


@pytest.mark.parametrize(
    "text",
    [
        "select 'infinity'::timestamptz as at",
        "select '0044-03-15 BC'::timestamptz as at",
        "select 1 / 0 as x",
        "select case when n = 90000 then 1 / (n - 90000) end as x from generate_series(1, 99999) n",
        "select 1::money as m",
        "select 1 as a, 2 as a",
    ],
)
def test_what_a_query_refuses_is_refused(database: Connection, text: str) -> None:
    with pytest.raises(TerminalModelError):
        _reader(database).query(text)
    with pytest.raises(TerminalModelError):
        _reader(database).read(text)
    assert _reader(database).read("select 1 as one")["one"] == (1,)


def test_a_statement_beyond_its_time_is_ended_while_rows_come(dsn: str) -> None:
    with connect(dsn) as conn:
        reader = Reader(Database(conn, "detection"), {}, timeout_s=0.3)
        with pytest.raises(RegistryUnavailable, match="timeout"):
            reader.read("select n, pg_sleep(0.01)::text from generate_series(1, 1000) n")
        assert reader.read("select 1 as one")["one"] == (1,)


def test_the_collector_is_off_while_rows_come_and_on_again(database: Connection) -> None:
    seen = []
    reader = _reader(database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns.ArrayColumns, "__init__", lambda *_: seen.append(gc.isenabled()))
        reader.read("select 1 as one")
    assert seen == [False]
    assert gc.isenabled()
    with pytest.raises(TerminalModelError):
        reader.query("select 1 / 0")
    assert gc.isenabled()


@given(st.lists(st.integers(0, 2**32 - 1), max_size=40))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_single_precision_is_the_decimal_that_postgres_writes(database: Connection, bits: list[int]) -> None:
    numbers = [struct.unpack("f", struct.pack("I", b))[0] for b in bits]
    powers = [2.0**k for k in range(-149, 128, 7)]
    finite = [n for n in numbers if math.isfinite(n)] + powers
    row = database.execute("select %s::real[]::text[]", [finite]).fetchone()
    assert row
    found = shortest_doubles(np.array(finite, dtype=np.float32)).tolist()
    assert found == [float(text) for text in row[0]]
