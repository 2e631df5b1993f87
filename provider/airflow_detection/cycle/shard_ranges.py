"""The shards of a cycle's input rows: ranges of the entity key that are the same for whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.versions import cycle_reader, read_inputs, window_reader
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.specs import ModelSpec
from airflow_detection.errors import TerminalModelError
from airflow_detection.store import shards
from airflow_detection.store.database import Database

_WHOLE, _TEXTS = frozenset({20, 21, 23}), frozenset({25, 1042, 1043, 2950})
"""Types of keys by OID: bigint, smallint, integer; text, char(n), varchar and uuid."""

# Text in the order of its bytes: that of no collation changes with the server's libraries.
_KEY, _KEY_OF_TEXT = sql.SQL("{}"), sql.SQL('({}::text collate "C")')
_ROWS = sql.SQL("select * from ({query}\n) as input where {condition}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRanges:
    """Ranges of a column: shard n begins at `bounds[n - 1]` and ends before `bounds[n]`.

    The first has no beginning and the last no end; rows without an entity are in the last. Shards behind the
    last bound have no rows.
    """

    column: str
    is_text: bool
    bounds: Sequence[Any]  # Any: text or whole numbers

    def query(self, query: str, shard: int) -> tuple[str, dict[str, Any]]:  # Any: as above
        """Return the input query of a shard, in the order of the whole one, and the params that it needs."""
        last = len(self.bounds)
        column, params = sql.Identifier(self.column), {}
        key = _key(column, is_text=self.is_text)
        conditions: list[sql.Composable] = [] if shard <= last else [sql.SQL("false")]
        if 0 < shard <= last:
            params["shard_from"] = self.bounds[shard - 1]
            conditions.append(sql.SQL("{} >= :shard_from").format(key))
        if shard < last:
            params["shard_until"] = self.bounds[shard]
            conditions.append(sql.SQL("{} < :shard_until").format(key))
        condition: sql.Composable = sql.SQL(" and ").join(conditions) if conditions else sql.SQL("true")
        if shard == last:
            condition = sql.SQL("({} or {} is null)").format(condition, column)
        return _text(_ROWS.format(query=_inner(query), condition=condition)), params


def shard_ranges(
    db: Database, reading: Database, opened: OpenedCycle, model: ModelSpec, count: int
) -> ShardRanges:
    """Return the ranges of a model's shards in a cycle, with about as many rows each.

    In a cycle whose plan is recorded the first that asks computes them, and all others get the same.

    Args:
        reading: a session like those of versions, which only reads.

    Raises:
        TerminalModelError: the model has no entity key, or the input query has no such column of whole
            numbers, text or uuid; or the database refused the query.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    column, is_text = _entity_column(reading, opened, model)
    name = f"{'text' if is_text else 'whole'}:{count}:{column}"
    key = opened.cycle, opened.mode, opened.opened_at, name
    found = shards.bounds(db, *key) if opened.is_recorded else None
    if found is None and opened.is_recorded:
        with shards.locked_bounds(db, opened.cycle):
            found = shards.bounds(db, *key)
            if found is None:
                found = _bounds(reading, opened, column, count, is_text=is_text)
                shards.keep_bounds(db, *key, found)
    if found is None:
        found = _bounds(reading, opened, column, count, is_text=is_text)
    return ShardRanges(column=column, is_text=is_text, bounds=found)


def shard_inputs(reading: Database, opened: OpenedCycle, ranges: ShardRanges, shard: int) -> Inputs:
    """Return the input rows of one shard, with their digest and newest time.

    Raises:
        TerminalModelError: the database refused the query, or its time column holds no times.
        RegistryUnavailable: the database did not answer.
    """
    query, params = ranges.query(opened.spec.input_query or "", shard)
    reader = window_reader(reading, opened.cycle, opened.opened_at, more=params)
    return read_inputs(reader, replace(opened.spec, input_query=query))


def _entity_column(reading: Database, opened: OpenedCycle, model: ModelSpec) -> tuple[str, bool]:
    """Return the column that a model's shards are ranges of, and whether it is compared as text."""
    prefix = f"model {model.model_id!r} cannot run in shards: "
    if not opened.spec.input_query:
        raise TerminalModelError(f"{prefix}cycle {opened.spec.cycle_id!r} has no input_query")
    if model.entity_key is None:
        raise TerminalModelError(f"{prefix}it has no entity_key")
    types = cycle_reader(reading, opened).types(opened.spec.input_query)
    if model.entity_key not in types:
        raise TerminalModelError(
            f"{prefix}its entity_key {model.entity_key!r} is no column of input_query: {', '.join(types)}"
        )
    oid = types[model.entity_key]
    if oid not in _WHOLE | _TEXTS:
        known = psycopg.adapters.types.get(oid)
        raise TerminalModelError(
            f"{prefix}its entity_key {model.entity_key!r} is of type {known.name if known else oid}: must be"
            " whole numbers, text or uuid"
        )
    return model.entity_key, oid in _TEXTS


def _bounds(
    reading: Database, opened: OpenedCycle, column: str, count: int, *, is_text: bool
) -> list[Any]:  # Any: text or whole numbers
    """Return the entities at which shards begin, each with about as many rows; few entities make fewer."""
    name, query = sql.Identifier(column), _inner(opened.spec.input_query or "")
    template = sql.SQL(_text(reading.queries("detection_shards")["bounds"]))
    text = template.format(key=_key(name, is_text=is_text), column=name, query=query)
    found = cycle_reader(reading, opened).query(_text(text), {"shard_count": count})["bound"]
    return list(found[1:])


def _key(column: sql.Identifier, *, is_text: bool) -> sql.Composed:
    return (_KEY_OF_TEXT if is_text else _KEY).format(column)


def _inner(query: str) -> sql.SQL:
    """Return somebody's SELECT, to stand in parentheses."""
    return sql.SQL(query.strip().rstrip("; \n"))


def _text(statement: sql.Composed) -> str:
    return statement.as_string()
