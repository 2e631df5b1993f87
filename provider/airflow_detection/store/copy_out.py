"""Rows of a SELECT by binary COPY, decoded column by column: several times as fast as a value at a time."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import psycopg
from psycopg import pq, sql
from psycopg.adapt import Transformer
from psycopg.generators import execute, fetch_many
from psycopg.types.json import set_json_loads

from airflow_detection.domain.json_values import frozen
from airflow_detection.store.columns import AnyArray, ArrayColumn, ArrayColumns
from airflow_detection.store.connection import Connection

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from psycopg.abc import AdaptContext

CHUNK_BYTES = 2**22
"""Bytes of rows that are decoded at a time."""

_HEAD_BYTES = 19
_LENGTH = np.dtype(">i4")
_FIXED = {
    oid: np.dtype(form)
    for oid, form in {
        16: "?", 20: ">i8", 21: ">i2", 23: ">i4", 700: ">f4", 701: ">f8", 1184: ">i8",
    }.items()
}  # fmt: skip
"""Binary forms by type: bool, bigint, smallint, integer, real, double precision, timestamptz."""

_TEXTS = frozenset({25, 1042, 1043})
"""Types whose binary form is their text: text, char(n), varchar."""

_TIMESTAMPTZ = 1184
_EPOCH = np.datetime64("2000-01-01T00:00:00", "us")
_BOUNDS = [
    int((np.datetime64(instant, "us") - _EPOCH).astype(np.int64))
    for instant in ("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999")
]
"""The microseconds from 2000 on that a datetime can hold."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows as the server sent them, one behind the other, and where each begins."""

    data: bytearray
    starts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Part:
    """Part of a column: its values, or the bytes of its texts and how many each has."""

    data: AnyArray
    sizes: NDArray[np.int64] | None = None
    is_null: NDArray[np.bool_] | None = None


class _Unconnected:
    """Loaders of values, without a connection."""

    connection = None

    def __init__(self, adapters: psycopg.adapt.AdaptersMap) -> None:
        self.adapters = psycopg.adapt.AdaptersMap(adapters)
        set_json_loads(orjson.loads, self)


def copied_columns(
    conn: Connection,
    text: bytes,
    cursor: psycopg.ServerCursor[tuple[Any, ...]],  # Any: what it selects
) -> ArrayColumns:
    """Return the columns of a SELECT, with all its rows.

    Args:
        text: the SELECT, complete, with its values in it.
        cursor: is declared for it, so that it is one SELECT; has its columns, and the loaders of values.

    Raises:
        psycopg.Error: the database refused it or did not answer, or an instant is beyond the years 1 to 9999.
    """
    selected = cursor.description or []
    order = sorted(range(len(selected)), key=lambda n: selected[n].type_code not in _FIXED)
    oids = [selected[n].type_code for n in order]
    fields = [_field(selected[n].name, selected[n].type_code) for n in order]
    statement = b"copy (select %b from (%b\n) as rows) to stdout (format binary)" % (
        sql.SQL(", ").join(fields).as_bytes(conn), text,
    )  # fmt: skip
    parts: list[list[_Part]] = [[] for _ in order]
    row_count = 0
    for rows in _received(conn, statement):
        row_count += len(rows.starts)
        for column, part in zip(parts, _decoded(rows, oids), strict=True):
            column.append(part)
    columns = {}
    for number, oid in zip(order, oids, strict=True):
        columns[number] = _joined(parts.pop(0), oid, loads(oid, cursor))
    return ArrayColumns({column.name: columns[n] for n, column in enumerate(selected)}, row_count)


def _field(name: str, oid: int) -> sql.Composable:
    """Return a column in its binary form if that is known here; else in the text that the server writes."""
    column = sql.Identifier(name)
    if oid in _FIXED or oid in _TEXTS:
        return column
    # num_nulls: `is null` is true of a row of nulls, too
    text = "case when pg_catalog.num_nulls({0}) = 0 then pg_catalog.format('%s', {0}) end"
    return sql.SQL(text).format(column)


def loads(oid: int, context: AdaptContext | None = None) -> Callable[[bytes], Any] | None:  # Any: a value
    """Return what makes values of a type, read-only, of the texts that the server writes.

    None where no text is sent, or the text is the value.

    Args:
        context: has the loaders; those of a session in UTC when None.
    """
    if oid in _FIXED or oid in _TEXTS:
        return None
    if context is None:
        context = _Unconnected(psycopg.adapters)
    load = Transformer(context).get_loader(oid, pq.Format.TEXT).load
    return lambda text: frozen(load(text))


def _received(conn: Connection, statement: bytes) -> Iterator[_Rows]:
    """Run COPY, and iterate over its rows, some megabytes at a time; a connection left amid it is closed."""
    pgconn = conn.pgconn
    pgconn.send_query_params(statement, None)
    _check(conn, conn.wait(execute(pgconn)), pq.ExecStatus.COPY_OUT)
    has_ended = False
    try:
        data, sizes, skipped = bytearray(), list[int](), _HEAD_BYTES
        receive, readable = pgconn.get_copy_data, select.poll()
        readable.register(pgconn.socket, select.POLLIN)
        while True:
            size, row = receive(1)
            if size > 0:
                data += row
                sizes.append(size)
            elif size == 0:
                if len(data) > CHUNK_BYTES:
                    yield _rows(data, sizes, skipped)
                    data, sizes, skipped = bytearray(), [], 0
                readable.poll()  # a signal is handled here
                pgconn.consume_input()
            else:
                break
        has_ended = True
        _check(conn, conn.wait(fetch_many(pgconn)), pq.ExecStatus.COMMAND_OK)
        yield _rows(data, sizes[:-1], skipped)  # the end of the rows is a message, too
    finally:
        if not has_ended:
            conn.close()


def _check(conn: Connection, results: Sequence[Any], expected: pq.ExecStatus) -> None:  # Any: PGresult
    if results[-1].status != expected:
        raise psycopg.errors.error_from_result(results[-1], encoding=conn.info.encoding)


def _rows(data: bytearray, sizes: Sequence[int], skipped: int) -> _Rows:
    """Return messages as rows; the first ones begin with a head, which may be a message of its own."""
    lengths = np.array(sizes, dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    if skipped and len(starts):
        starts[0] = skipped
        starts = starts[1:] if sizes[0] == skipped else starts
    data += bytes(16)  # a value that is looked for behind a null is within the bytes
    return _Rows(data, starts)


def _decoded(rows: _Rows, oids: Sequence[int]) -> Iterator[_Part]:
    """Iterate over the columns of some rows; those of fixed width come first."""
    forms = [_FIXED[oid] for oid in oids if oid in _FIXED]
    fixed = _fixed(rows, forms)
    if fixed is not None:
        yield from fixed
        at = rows.starts + 2 + sum(4 + form.itemsize for form in forms)
    else:
        at = rows.starts + 2
        for form in forms:
            length = _at(rows, at, _LENGTH)
            data = _at(rows, at + 4, form)
            yield _Part(np.where(length < 0, data.dtype.type(0), data), is_null=length < 0)
            at = at + 4 + np.maximum(length, 0)
    raw = np.frombuffer(rows.data, dtype=np.uint8)
    for _ in oids[len(forms) :]:
        length = _at(rows, at, _LENGTH)
        sizes = np.maximum(length, 0).astype(np.int64)
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if len(ends) else 0
        index = np.repeat(at + 4 - (ends - sizes), sizes) + np.arange(total)
        yield _Part(raw[index], sizes, length < 0)
        at = at + 4 + sizes


def _fixed(rows: _Rows, forms: Sequence[np.dtype[Any]]) -> list[_Part] | None:  # Any: numbers
    """Return the columns of fixed width at once; None where one of the rows has a null there."""
    width = 2 + sum(4 + form.itemsize for form in forms)
    if len(rows.starts) and int(rows.starts[-1]) + width > len(rows.data):
        return None
    fields = [("count", ">i2")]
    for number, form in enumerate(forms):
        fields += [(f"length{number}", ">i4"), (f"value{number}", form.str)]
    records = _at(rows, rows.starts, np.dtype(f"V{width}"))
    if not len(records):
        return [_Part(np.empty(0, form.newbyteorder("="))) for form in forms]
    records = records.view(np.dtype(fields))
    parts = []
    for number, form in enumerate(forms):
        if not (records[f"length{number}"] == form.itemsize).all():
            return None
        parts.append(_Part(records[f"value{number}"].astype(form.newbyteorder("="))))
    return parts


def _at(rows: _Rows, places: NDArray[np.int64], form: np.dtype[Any]) -> AnyArray:  # Any: numbers or bytes
    """Return what the bytes from each of some places on hold."""
    count = max(0, len(rows.data) - form.itemsize + 1)
    overlapping: AnyArray = np.ndarray((count,), dtype=form, buffer=rows.data, strides=(1,))
    found = overlapping[places]
    return found if form.kind == "V" else found.astype(form.newbyteorder("="))


def _joined(
    parts: Sequence[_Part],
    oid: int,
    load: Callable[[bytes], Any] | None,  # Any: what a query selects
) -> ArrayColumn:
    """Return a column made of its parts, in the kinds of arrays that it is kept as."""
    data = np.concatenate([part.data for part in parts])
    nulls = None
    if any(part.is_null is not None and part.is_null.any() for part in parts):
        nulls = np.concatenate([
            np.zeros(len(part.data), dtype=np.bool_) if part.is_null is None else part.is_null
            for part in parts
        ])  # fmt: skip
    if oid not in _FIXED:
        sizes = np.concatenate([part.sizes for part in parts if part.sizes is not None])
        return ArrayColumn(data=data, ends=np.cumsum(sizes), is_null=nulls, load=load, oid=oid)
    if oid == _TIMESTAMPTZ:
        if len(data) and not _BOUNDS[0] <= int(data.min()) <= int(data.max()) <= _BOUNDS[1]:
            raise psycopg.DataError("timestamp beyond the years 1 to 9999")
        data = _EPOCH + data.view("timedelta64[us]")
    elif data.dtype.kind == "i":
        data = data.astype(np.int64, copy=False)
    return ArrayColumn(data=data, is_null=nulls, oid=oid)
