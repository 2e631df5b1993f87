"""Monthly table partitions, made when they are needed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import ExpiredPartition, MissingPartition, StorageError
from airflow_detection.store.connection import Connection, in_ms
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.partitions.catalog import (
    PartitionedTable,
    Span,
    TablePartition,
    free_names,
    gaps,
    literal,
    month_of,
    read_table,
    rows,
    statement,
)
from airflow_detection.store.partitions.plan import Action, Kind, Limits
from airflow_detection.store.queries import load_queries

__all__ = [
    "PARTITIONED", "create", "create_together", "ensure_cycle_months", "ensure_month", "month_of", "recreate",
]  # fmt: skip

PARTITIONED = ("detection_model_run_outputs", "detection_model_metrics")
"""The tables with a table partition for each month of `cycle_started_at`."""
NO_LOCK = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A new table partition, and how many rows came to it out of a default partition."""

    name: str
    lower: datetime
    upper: datetime
    moved: int = 0


def ensure_month(
    conn: Connection, schema: str, table: str, instant: datetime, *, recreate_expired: bool = False
) -> bool:
    """Make sure that a table partition holds `instant`; return whether one was made.

    Existing table partitions may have any bounds: the new one takes what they leave of the UTC month.
    Several may call this at once: one makes it. Reading and writing other months goes on meanwhile.

    Args:
        recreate_expired: make a month anew, or attach it again, that retention has removed.

    Raises:
        ExpiredPartition: retention has removed this month.
        MissingPartition: the month is further ahead than the table's policy looks.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    at = require_utc("instant", instant)
    with storage_errors():
        span = _open_span(read_table(conn, schema, table), at)
        if span is None:
            return False
        if _is_expired(conn, schema, table, at):
            if not recreate_expired:
                raise ExpiredPartition(table, at)
            return recreate(conn, schema, table, at)
        if at >= _horizon(conn, schema, table):
            raise MissingPartition(table, at)
        return create(conn, schema, table, span) is not None


def ensure_cycle_months(conn: Connection, schema: str, started_at: datetime) -> None:
    """Make sure that the results of a cycle at `started_at` can be stored.

    Raises:
        ExpiredPartition: retention has removed this month.
        MissingPartition: the month is further ahead than a policy looks.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    for table in PARTITIONED:
        ensure_month(conn, schema, table, started_at)


def recreate(conn: Connection, schema: str, table: str, instant: datetime) -> bool:
    """Bring back the month of `instant`: attach what retention detached if it still stands, else make it.

    What comes back is held for the table's grace period (a day at least), lest the next run takes it again.
    Returns whether anything was done.
    """
    at = require_utc("instant", instant)
    with storage_errors():
        span = _open_span(read_table(conn, schema, table), at)
        if span is None:
            return False
        params = {"schema": schema, "table": table}
        retired = rows(conn, schema, "retired", params, "detection_partition_policies")
        old = next((r for r in retired if r["lower"] <= at < r["upper"]), None)
        limits = Limits()
        with conn.transaction():
            _hold(conn, schema, table, span)
            if old is not None:
                bounds = (old["lower"], old["upper"])
                patiently(lambda: _reattach(conn, schema, table, old["name"], bounds, limits), limits)
            else:
                create(conn, schema, table, span, limits=limits)
    return True


def create(
    conn: Connection,
    schema: str,
    table: str,
    span: Span,
    *,
    name: str | None = None,
    limits: Limits | None = None,
) -> Made | None:
    """Make the table partition [lower, upper), or what is still missing of it; None if nothing is.

    Rows that a default partition holds for it are moved into it. All of it is one transaction, the note in
    the log included: killed at any point, it leaves nothing behind.

    Raises:
        psycopg.Error: the database refused, or a lock was not to be had in any attempt.
    """
    limits = limits or Limits()
    if name is not None:
        try:
            return patiently(lambda: _create(conn, schema, table, span, name, limits), limits)
        except psycopg.errors.DuplicateTable:
            pass  # taken since it was planned
    return patiently(lambda: _create(conn, schema, table, span, None, limits), limits)


def create_together(
    conn: Connection, schema: str, actions: Sequence[Action], limits: Limits
) -> list[Made] | None:
    """Make several table partitions of one table in one transaction: all of them, or none and None.

    None, too, where they are better made one by one: a default partition has to be searched for each, which
    holds its writers up, or the catalog is no longer what the actions were planned from.

    Raises:
        psycopg.Error: the database refused, or a lock was not to be had at once; nothing was made.
    """
    name = actions[0].table
    with conn.transaction():
        enter(conn, schema, name, limits)
        table = read_table(conn, schema, name)
        made = [
            Made(name=a.partition, lower=a.lower, upper=a.upper)
            for a in actions
            if a.partition and a.lower and a.upper
            and next(iter(gaps(table.ranges, a.lower, a.upper)), None) == (a.lower, a.upper)
        ]  # fmt: skip
        if table.default or len(made) < len(actions):
            return None
        _make_like(conn, schema, table, [m.name for m in made])
        _run(conn, [_attaching(schema, name, m.name, (m.lower, m.upper)) for m in made])
        lines = [
            {"action": Kind.CREATE, "table": name, "partition": m.name, "lower": m.lower.isoformat(),
             "upper": m.upper.isoformat(), "outcome": "done", "details": {"moved": 0}}
            for m in made
        ]  # fmt: skip
        conn.execute(
            load_queries("detection_partition_policies", schema)["log_many"], {"lines": Jsonb(lines)}
        )
    return made


def patiently(action: Callable[[], T], limits: Limits) -> T:
    """Call `action` until it gets its locks, with a pause of random length in between."""
    for left in range(limits.attempts - 1, -1, -1):
        try:
            return action()
        except NO_LOCK:
            if not left:
                raise
            time.sleep(limits.pause.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
    raise StorageError("a run needs at least one attempt")


def limit_locks(conn: Connection, schema: str, limit: timedelta) -> None:
    """Wait for a lock no longer than `limit`, until the transaction ends."""
    conn.execute(load_queries("table_partitions", schema)["limit_locks"], {"limit": in_ms(limit)})


def note(
    conn: Connection,
    schema: str,
    action: Action,
    outcome: str,
    *,
    called: str | None = None,
    softly: bool = False,
    unless_default: bool = False,
    **details: object,
) -> bool:
    """Write one line of the maintenance log; `called` goes before the name of the action's kind.

    With `unless_default` it is not written where the table has a default partition. Returns whether it was.
    """
    facts = {"oid": action.oid, "note": action.note, **details}
    values = {
        "action": called or action.kind.value,
        "table": action.table or None,
        "partition": action.partition,
        "bounded": action.partition is not None,
        "lower": action.lower,
        "upper": action.upper,
        "outcome": outcome,
        "softly": softly,
        "schema": schema,
        "unless_default": unless_default,
        "details": Jsonb({k: v for k, v in facts.items() if v not in (None, "")}),
    }
    return conn.execute(load_queries("detection_partition_policies", schema)["log"], values).rowcount == 1


def _open_span(table: PartitionedTable, at: datetime) -> Span | None:
    held = table.holder(at)
    if held is not None and not held.is_detaching:
        return None
    standing = [p for p in table.ranges if not p.is_detaching]
    return next((span for span in gaps(standing, *month_of(at)) if span[0] <= at < span[1]), None)


def _is_expired(conn: Connection, schema: str, table: str, at: datetime) -> bool:
    params = {"table": table, "instant": at}
    last = rows(conn, schema, "last_change", params, "detection_partition_policies")
    return bool(last) and last[0]["action"] not in ("create", "attach")


def _horizon(conn: Connection, schema: str, table: str) -> datetime:
    found = rows(conn, schema, "horizon", {"table": table}, "detection_partition_policies")
    return cast("datetime", found[0]["horizon"])


def _hold(conn: Connection, schema: str, table: str, span: Span) -> None:
    params = {"table": table, "lower": span[0], "upper": span[1], "reason": "recreated on demand"}
    conn.execute(load_queries("detection_partition_policies", schema)["hold"], params)


def enter(conn: Connection, schema: str, table: str, limits: Limits) -> None:
    """Take what every change of a table's partitions takes first, in the same order."""
    params = {"schema": schema, "table": table, "limit": in_ms(limits.lock_timeout)}
    conn.execute(load_queries("table_partitions", schema)["enter"], params)
    conn.execute(statement(schema, "lock_parent", parent=sql.Identifier(table)))


def _create(
    conn: Connection, schema: str, name: str, span: Span, wanted: str | None, limits: Limits
) -> Made | None:
    with conn.transaction():
        enter(conn, schema, name, limits)
        table = read_table(conn, schema, name)
        left = next(iter(gaps(table.ranges, *span)), None)
        if left is None:
            return None
        child = wanted or free_names(conn, schema, name, [left])[0]
        _make_like(conn, schema, table, [child])
        moved = _move(conn, schema, table, table.default, child, left) if table.default else 0
        conn.execute(_attaching(schema, name, child, left))
        made = Made(name=child, lower=left[0], upper=left[1], moved=moved)
        action = Action(kind=Kind.CREATE, table=name, partition=child, lower=left[0], upper=left[1])
        note(conn, schema, action, "done", moved=moved)
        return made


def _make_like(conn: Connection, schema: str, table: PartitionedTable, children: Sequence[str]) -> None:
    if table.tablespace:
        params = {"tablespace": table.tablespace}
        conn.execute(load_queries("table_partitions", schema)["use_tablespace"], params)
    parent = sql.Identifier(table.name)
    _run(conn, [statement(schema, "create", child=sql.Identifier(c), parent=parent) for c in children])
    if table.is_plain:
        return
    for child in children:
        given = {"parent": table.oid, "child": child, "schema": schema}
        for row in rows(conn, schema, "likeness", given):
            conn.execute(sql.SQL(cast("LiteralString", row["statement"])))


def _run(conn: Connection, statements: Sequence[sql.Composed]) -> None:
    """Send several statements without parameters at once; the first that fails ends them."""
    conn.execute(sql.SQL(";\n").join(statements), prepare=False)


def _move(
    conn: Connection, schema: str, table: PartitionedTable, default: TablePartition, child: str, span: Span
) -> int:
    place = {"namespace": sql.Identifier(default.namespace), "default": sql.Identifier(default.name)}
    # Read once before anybody has to wait: the pages are at hand then, and their rows known to be committed.
    conn.execute(load_queries("table_partitions", schema)["scan_whole_tables"])
    conn.execute(statement(schema, "read_default", **place))
    conn.execute(load_queries("table_partitions", schema)["scan_as_usual"])
    conn.execute(statement(schema, "lock_default", **place))
    names = [row["attname"] for row in rows(conn, schema, "columns", {"parent": table.oid})]
    return conn.execute(
        statement(
            schema,
            "move",
            **place,
            child=sql.Identifier(child),
            key=sql.Identifier(table.key),
            lower=literal(span[0]),
            upper=literal(span[1]),
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        )
    ).rowcount


def _attaching(schema: str, table: str, child: str, span: Span) -> sql.Composed:
    parts = {"parent": sql.Identifier(table), "child": sql.Identifier(child)}
    return statement(schema, "attach", **parts, lower=literal(span[0]), upper=literal(span[1]))


def _reattach(conn: Connection, schema: str, table: str, child: str, span: Span, limits: Limits) -> None:
    with conn.transaction():
        enter(conn, schema, table, limits)
        conn.execute(_attaching(schema, table, child, span))
        action = Action(kind=Kind.CREATE, table=table, partition=child, lower=span[0], upper=span[1])
        note(conn, schema, action, "done", called="attach")
