"""Read access of models: their own read-only queries, and champions' stored outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from types import MappingProxyType
from typing import Any, ClassVar

import orjson
import psycopg
from psycopg import sql
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader

from airflow_detection.domain.garbage import no_collector
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping, freeze_in_place, frozen
from airflow_detection.domain.specs import Cycle, VersionSpec
from airflow_detection.errors import TerminalModelError
from airflow_detection.store.connection import Connection, in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import unavailable
from airflow_detection.store.queries import bindable, named, refusal

BATCH_ROWS = 5_000
"""Rows that are fetched at a time."""

COLUMN_BATCH_ROWS = 50_000
"""Rows of two short columns that are fetched at a time."""

_MONEY = frozenset({790, 791})
"""Types money and money[], by OID: psycopg gives text of them, in the locale of lc_monetary."""

_numbers = count(1)


def cursor_name() -> str:
    """Return a name that no other cursor of this process has."""
    return f"detection_{next(_numbers)}"


class Reader:
    """Read-only access for a model: one SELECT at a time, in a transaction of its own.

    Args:
        db: its connection is in autocommit mode.
        window_params: params that every query has, such as `window_start`; they win over a query's own.
        timeout_s: seconds after which the server ends a query; None leaves the session's own limit.
    """

    def __init__(self, db: Database, window_params: JsonMapping, *, timeout_s: float | None = None) -> None:
        self._conn, self._schema, self._window = db.conn, db.schema, dict(window_params)
        self._timeout_s = timeout_s
        self._session = db.queries("session")

    def query(self, sql: str, params: JsonMapping | None = None) -> Inputs:
        """Run one SELECT with `:name` parameters and return all its rows.

        Raises:
            TerminalModelError: it is not a SELECT, would write, lacks a parameter, selects a name twice or a
                column of type money, or Postgres refused it.
            RegistryUnavailable: the database did not answer, or a timeout ended the statement.
        """
        with self._selecting(sql, params) as cursor, no_collector():
            columns: list[list[Any]] = [[] for _ in cursor.description or ()]  # Any: what the query selects
            while rows := cursor.fetchmany(BATCH_ROWS):
                for column, values in zip(columns, zip(*rows, strict=True), strict=True):
                    column.extend(values)
            names = _names(cursor)
        return Inputs(MappingProxyType({n: _frozen_column(c) for n, c in zip(names, columns, strict=True)}))

    def read(self, sql: str) -> Inputs:
        """Run one SELECT, whose params are the window's alone, and return all its rows, kept as arrays.

        The values are those of `query`, which it is several times as fast as. Raises as `query`.
        """
        with self._selecting(sql, None) as cursor, no_collector():
            if not cursor.description:
                return Inputs()
            from airflow_detection.store.copy_out import copied_columns  # numpy

            text = psycopg.ClientCursor(self._conn).mogrify(_statement(sql).encode(), self._window)
            return Inputs(copied_columns(self._conn, text.encode(), cursor))

    def columns(self, sql: str, params: JsonMapping | None = None) -> list[str]:
        """Return the names of a SELECT's columns; it is planned, and not run. Raises as `query`."""
        with self._selecting(sql, params) as cursor:
            return _names(cursor)

    def types(self, sql: str) -> dict[str, int]:
        """Return the type, by OID, of each of a SELECT's columns; it is planned, and not run.

        Raises as `query`.
        """
        with self._selecting(sql, None) as cursor:
            return {column.name: column.type_code for column in cursor.description or ()}

    def plan(self, sql: str) -> dict[str, Any]:  # Any: a plan in JSON
        """Return the plan of a SELECT, which is not run, with what each node gives. Raises as `query`."""
        with self._selecting(sql, None):
            return self._plan_of(sql)

    def tables(self, sql: str) -> list[str]:
        """Return the tables that a SELECT reads, as `schema.table`, sorted; it is planned, and not run.

        Those of views and functions that the planner looks through; a table for its partitions. Raises as
        `query`.
        """
        with self._selecting(sql, None):
            self._conn.execute(self._session["plan_all_partitions"])
            relations = sorted(set(_relations(self._plan_of(sql))))
            names = {"schemas": [s for s, _ in relations], "tables": [t for _, t in relations]}
            return [name for (name,) in self._conn.execute(self._session["table_names"], names)]

    def _plan_of(self, sql: str) -> dict[str, Any]:  # Any: a plan in JSON
        """Return the plan of what was found to be one SELECT."""
        text = psycopg.ClientCursor(self._conn).mogrify(_statement(sql).encode(), self._window)
        row = self._conn.execute(b"explain (verbose, format json) " + text.encode()).fetchone()
        plan: dict[str, Any] = row[0][0]["Plan"] if row else {}  # Any: as above
        return plan

    @contextmanager
    def _selecting(
        self, sql: str, params: JsonMapping | None
    ) -> Iterator[psycopg.ServerCursor[tuple[Any, ...]]]:  # Any: what the query selects
        bound = {**bindable(params or {}), **self._window}
        name = cursor_name()
        try:
            with self._conn.transaction(force_rollback=True):
                self._conn.execute(self._session["read_only_transaction"])
                self._conn.execute(self._session["use_schema"], {"schema": self._schema})
                if self._timeout_s is not None:
                    limit = {"limit_ms": in_ms(self._timeout_s)}
                    self._conn.execute(self._session["limit_statements"], limit)
                with (
                    self._releasing_locks(),
                    self._conn.transaction(),
                    self._conn.cursor(name=name) as cursor,
                ):
                    set_json_loads(orjson.loads, cursor)
                    cursor.execute(_statement(sql).encode(), bound)
                    _check_columns(cursor)
                    yield cursor
        except psycopg.Error as error:
            if (passing := unavailable(error, "the query did not end")) is not None:
                raise passing from error
            reason = refusal(error, sql, before=f'DECLARE "{name}" CURSOR FOR ')
            raise TerminalModelError(f"the query was refused: {reason}") from error

    @contextmanager
    def _releasing_locks(self) -> Iterator[None]:
        """Release the session-level advisory locks that a query has taken: others may wait for them.

        In the query's own transaction: behind a pooler the next one may have another session.
        """
        try:
            yield
        finally:
            if not self._conn.closed:
                self._conn.execute(self._session["unlock"])


def _statement(sql: str) -> str:
    return named(sql).strip().rstrip("; \n")


def _names(cursor: psycopg.ServerCursor[tuple[Any, ...]]) -> list[str]:  # Any: what the query selects
    return [column.name for column in cursor.description or ()]


def _relations(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:  # Any: a node of a plan
    """Iterate over the schema and the name of each relation that a plan reads."""
    if "Relation Name" in node:
        yield node["Schema"], node["Relation Name"]
    for part in node.get("Plans", ()):
        yield from _relations(part)


def _check_columns(cursor: psycopg.ServerCursor[tuple[Any, ...]]) -> None:  # Any: what the query selects
    names = _names(cursor)
    if len(set(names)) != len(names):
        raise TerminalModelError(f"the query selects a name twice: {', '.join(names)}")
    for selected in cursor.description or ():
        if selected.type_code in _MONEY:
            raise TerminalModelError(f"column {selected.name!r} is of type money: cast it to numeric")


def _frozen_column(values: list[Any]) -> tuple[Any, ...]:  # Any: one column of a query
    kinds = set(map(type, values))
    return tuple(map(frozen, values)) if kinds & {dict, list, bytearray} else tuple(values)


class StoredOutputs:
    """Stored outputs of a champion in one cycle, read lazily, in the same order each time.

    Several can be iterated over at once on the same connection.

    Args:
        session: gives the session to read in; asked when something is read.
        cycle: the cycle that was run.
        version: the champion.
    """

    def __init__(self, session: Callable[[], Database], cycle: Cycle, version: VersionSpec) -> None:
        self._session = session
        self._run: Mapping[str, Any] = {  # Any: a statement's params
            "cycle_started_at": cycle.started_at,
            "model_id": version.model_id,
            "version_id": version.version_id,
            "is_replay": version.is_replay,
        }

    @property
    def _conn(self) -> Connection:
        return self._session().conn

    @cached_property
    def _queries(self) -> Mapping[str, sql.Composed]:
        return self._session().queries("detection_model_run_outputs")

    @cached_property
    def _count(self) -> int:
        row = self._conn.execute(self._queries["count"], self._run).fetchone()
        return int(row[0]) if row else 0

    @cached_property
    def score_key(self) -> str | None:
        """The key of the score in an output, as registered for the champion's model; None without one."""
        row = self._conn.execute(self._queries["score_key"], self._run).fetchone()
        return str(row[0]) if row and row[0] else None

    is_read_only: ClassVar[bool] = True
    """The outputs can be given to models without a copy."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[JsonMapping, JsonMapping]]:
        """Iterate over (input_ref, output), read-only at every depth, a batch at a time."""
        with self._conn.cursor(name=cursor_name(), withhold=True) as cursor:
            cursor.adapters.register_loader("jsonb", TextLoader)  # parsed below, without a call per value
            cursor.execute(self._queries["read"], self._run)
            while rows := cursor.fetchmany(BATCH_ROWS):
                for input_ref, output in rows:
                    yield freeze_in_place(orjson.loads(input_ref)), freeze_in_place(orjson.loads(output))

    def columns(self) -> tuple[Sequence[str | None], Sequence[float | None]]:
        """Return only entity ids and scores, in the order of iteration."""
        entities: list[Any] = []  # Any: text or null
        scores: list[Any] = []  # Any: a float or null
        with self._conn.cursor(name=cursor_name(), withhold=True, binary=True) as cursor:
            cursor.execute(self._queries["read_columns"], self._run)
            while rows := cursor.fetchmany(COLUMN_BATCH_ROWS):
                for column, values in zip((entities, scores), zip(*rows, strict=True), strict=True):
                    column.extend(values)
        return tuple(entities), tuple(scores)
