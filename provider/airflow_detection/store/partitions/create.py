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
from airflow_detection.store.database import Database
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
from airflow_detection.store.partitions.plan import Action, ActionKind, UpkeepLimits

__all__ = [
    "PARTITIONED", "create", "create_together", "ensure_cycle_months", "ensure_month", "month_of", "recreate",
]  # fmt: skip

PARTITIONED = ("detection_model_run_outputs", "detection_model_metrics")
"""The tables with a table partition for each month of `cycle_started_at`."""
NO_LOCK = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedPartition:
    """A new table partition, and how many rows came to it out of a default partition."""

    name: str
    lower: datetime
    upper: datetime
    moved: int = 0


def ensure_month(db: Database, table: str, instant: datetime, *, recreate_expired: bool = False) -> bool:
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
        span = _open_span(read_table(db, table), at)
        if span is None:
            return False
        if _is_expired(db, table, at):
            if not recreate_expired:
                raise ExpiredPartition(table, at)
            return recreate(db, table, at)
        if at >= _horizon(db, table):
            raise MissingPartition(table, at)
        return create(db, table, span) is not None


def ensure_cycle_months(db: Database, started_at: datetime) -> None:
    """Make sure that the results of a cycle at `started_at` can be stored.

    Raises:
        ExpiredPartition: retention has removed this month.
        MissingPartition: the month is further ahead than a policy looks.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    for table in PARTITIONED:
        ensure_month(db, table, started_at)


def recreate(db: Database, table: str, instant: datetime) -> bool:
    """Bring back the month of `instant`: attach what retention detached if it still stands, else make it.

    What comes back is held for the table's grace period (a day at least), lest the next run takes it again.
    Returns whether anything was done.
    """
    at = require_utc("instant", instant)
    with storage_errors():
        span = _open_span(read_table(db, table), at)
        if span is None:
            return False
        params = {"schema": db.schema, "table": table}
        retired = rows(db, "retired", params, "detection_partition_policies")
        old = next((r for r in retired if r["lower"] <= at < r["upper"]), None)
        limits = UpkeepLimits()
        with db.conn.transaction():
            _hold(db, table, span)
            if old is not None:
                bounds = (old["lower"], old["upper"])
                retry_on_lock(lambda: _reattach(db, table, old["name"], bounds, limits), limits)
            else:
                create(db, table, span, limits=limits)
    return True


def create(
    db: Database,
    table: str,
    span: Span,
    *,
    name: str | None = None,
    limits: UpkeepLimits | None = None,
) -> CreatedPartition | None:
    """Make the table partition [lower, upper), or what is still missing of it; None if nothing is.

    Rows that a default partition holds for it are moved into it. All of it is one transaction, the note in
    the log included: killed at any point, it leaves nothing behind.

    Raises:
        psycopg.Error: the database refused, or a lock was not to be had in any attempt.
    """
    limits = limits or UpkeepLimits()
    if name is not None:
        try:
            return retry_on_lock(lambda: _create(db, table, span, name, limits), limits)
        except psycopg.errors.DuplicateTable:
            pass  # taken since it was planned
    return retry_on_lock(lambda: _create(db, table, span, None, limits), limits)


def create_together(
    db: Database, actions: Sequence[Action], limits: UpkeepLimits
) -> list[CreatedPartition] | None:
    """Make several table partitions of one table in one transaction: all of them, or none and None.

    None, too, where they are better made one by one: a default partition has to be searched for each, which
    holds its writers up, or the catalog is no longer what the actions were planned from.

    Raises:
        psycopg.Error: the database refused, or a lock was not to be had at once; nothing was made.
    """
    name = actions[0].table
    with db.conn.transaction():
        lock_parent(db, name, limits)
        table = read_table(db, name)
        made = [
            CreatedPartition(name=a.partition, lower=a.lower, upper=a.upper)
            for a in actions
            if a.partition and a.lower and a.upper
            and next(iter(gaps(table.ranges, a.lower, a.upper)), None) == (a.lower, a.upper)
        ]  # fmt: skip
        if table.default or len(made) < len(actions):
            return None
        _make_like(db, table, [m.name for m in made])
        _run(db.conn, [_attaching(db.schema, name, m.name, (m.lower, m.upper)) for m in made])
        lines = [
            {"action": ActionKind.CREATE, "table": name, "partition": m.name, "lower": m.lower.isoformat(),
             "upper": m.upper.isoformat(), "outcome": "done", "details": {"moved": 0}}
            for m in made
        ]  # fmt: skip
        db.conn.execute(db.queries("detection_partition_policies")["log_many"], {"lines": Jsonb(lines)})
    return made


def retry_on_lock(action: Callable[[], T], limits: UpkeepLimits) -> T:
    """Call `action` until it gets its locks, with a pause of random length in between."""
    for left in range(limits.attempts - 1, -1, -1):
        try:
            return action()
        except NO_LOCK:
            if not left:
                raise
            time.sleep(limits.pause.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
    raise StorageError("a run needs at least one attempt")


def limit_locks(db: Database, limit: timedelta) -> None:
    """Wait for a lock no longer than `limit`, until the transaction ends."""
    db.conn.execute(db.queries("table_partitions")["limit_locks"], {"limit": in_ms(limit)})


def note(
    db: Database,
    action: Action,
    outcome: str,
    *,
    called: str | None = None,
    async_commit: bool = False,
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
        "async_commit": async_commit,
        "schema": db.schema,
        "unless_default": unless_default,
        "details": Jsonb({k: v for k, v in facts.items() if v not in (None, "")}),
    }
    return db.conn.execute(db.queries("detection_partition_policies")["log"], values).rowcount == 1


def _open_span(table: PartitionedTable, at: datetime) -> Span | None:
    held = table.holder(at)
    if held is not None and not held.is_detaching:
        return None
    standing = [p for p in table.ranges if not p.is_detaching]
    return next((span for span in gaps(standing, *month_of(at)) if span[0] <= at < span[1]), None)


def _is_expired(db: Database, table: str, at: datetime) -> bool:
    params = {"table": table, "instant": at}
    last = rows(db, "last_change", params, "detection_partition_policies")
    return bool(last) and last[0]["action"] not in ("create", "attach")


def _horizon(db: Database, table: str) -> datetime:
    found = rows(db, "horizon", {"table": table}, "detection_partition_policies")
    return cast("datetime", found[0]["horizon"])


def _hold(db: Database, table: str, span: Span) -> None:
    params = {"table": table, "lower": span[0], "upper": span[1], "reason": "recreated on demand"}
    db.conn.execute(db.queries("detection_partition_policies")["hold"], params)


def lock_parent(db: Database, table: str, limits: UpkeepLimits) -> None:
    """Take what every change of a table's partitions takes first, in the same order."""
    params = {"schema": db.schema, "table": table, "limit": in_ms(limits.lock_timeout)}
    db.conn.execute(db.queries("table_partitions")["enter"], params)
    db.conn.execute(statement(db.schema, "lock_parent", parent=sql.Identifier(table)))


def _create(
    db: Database, name: str, span: Span, wanted: str | None, limits: UpkeepLimits
) -> CreatedPartition | None:
    with db.conn.transaction():
        lock_parent(db, name, limits)
        table = read_table(db, name)
        left = next(iter(gaps(table.ranges, *span)), None)
        if left is None:
            return None
        child = wanted or free_names(db, name, [left])[0]
        _make_like(db, table, [child])
        moved = _move(db, table, table.default, child, left) if table.default else 0
        db.conn.execute(_attaching(db.schema, name, child, left))
        made = CreatedPartition(name=child, lower=left[0], upper=left[1], moved=moved)
        action = Action(kind=ActionKind.CREATE, table=name, partition=child, lower=left[0], upper=left[1])
        note(db, action, "done", moved=moved)
        return made


def _make_like(db: Database, table: PartitionedTable, children: Sequence[str]) -> None:
    if table.tablespace:
        params = {"tablespace": table.tablespace}
        db.conn.execute(db.queries("table_partitions")["use_tablespace"], params)
    parent = sql.Identifier(table.name)
    _run(db.conn, [statement(db.schema, "create", child=sql.Identifier(c), parent=parent) for c in children])
    if table.is_plain:
        return
    for child in children:
        given = {"parent": table.oid, "child": child, "schema": db.schema}
        for row in rows(db, "likeness", given):
            db.conn.execute(sql.SQL(cast("LiteralString", row["statement"])))


def _run(conn: Connection, statements: Sequence[sql.Composed]) -> None:
    """Send several statements without parameters at once; the first that fails ends them."""
    conn.execute(sql.SQL(";\n").join(statements), prepare=False)


def _move(db: Database, table: PartitionedTable, default: TablePartition, child: str, span: Span) -> int:
    place = {"namespace": sql.Identifier(default.namespace), "default": sql.Identifier(default.name)}
    # Read once before anybody has to wait: the pages are at hand then, and their rows known to be committed.
    db.conn.execute(db.queries("table_partitions")["scan_whole_tables"])
    db.conn.execute(statement(db.schema, "read_default", **place))
    db.conn.execute(db.queries("table_partitions")["scan_as_usual"])
    db.conn.execute(statement(db.schema, "lock_default", **place))
    names = [row["attname"] for row in rows(db, "columns", {"parent": table.oid})]
    return db.conn.execute(
        statement(
            db.schema,
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


def _reattach(db: Database, table: str, child: str, span: Span, limits: UpkeepLimits) -> None:
    with db.conn.transaction():
        lock_parent(db, table, limits)
        db.conn.execute(_attaching(db.schema, table, child, span))
        action = Action(kind=ActionKind.CREATE, table=table, partition=child, lower=span[0], upper=span[1])
        note(db, action, "done", called="attach")
