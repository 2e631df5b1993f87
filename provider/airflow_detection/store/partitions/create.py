"""Creation of table partitions of a month or a day when they are needed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, LiteralString, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import ExpiredPartition, MissingPartition, StorageError
from airflow_detection.store.connection import Connection, in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.partitions.catalog import (
    FIRST,
    LAST,
    PartitionedTable,
    Span,
    TablePartition,
    free_names,
    gaps,
    literal,
    month_of,
    period_of,
    read_table,
    rows,
    statement,
)
from airflow_detection.store.partitions.plan import Action, ActionKind, UpkeepLimits

__all__ = [
    "PARTITIONED", "create", "create_together", "ensure_cycle_months", "ensure_month", "month_of", "recreate",
]  # fmt: skip

PARTITIONED = ("detection_model_run_outputs", "detection_model_metrics")
"""The tables with a table partition for each month, or day, of `cycle_started_at`."""
NO_LOCK = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedPartition:
    """New table partition [lower, upper) in UTC; `moved` counts the rows from a default partition."""

    name: str
    lower: datetime
    upper: datetime
    moved: int = 0


def ensure_month(db: Database, table: str, instant: datetime, *, recreate_expired: bool = False) -> bool:
    """Make sure that a table partition holds `instant`; return whether one was created.

    Existing table partitions may have any bounds: the new one covers what they leave of the UTC month, or of
    the day where the table's policy has days. Of several concurrent calls one creates it. Reads and writes of
    other table partitions are not blocked.

    Args:
        recreate_expired: create or reattach a month or day that retention has removed.

    Raises:
        ExpiredPartition: retention has removed this month or day.
        MissingPartition: it is beyond those that the table's policy creates ahead.
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
            return recreate(db, table, at) is not Recreated.THERE
        if at >= _horizon(db, table):
            raise MissingPartition(table, at)
        return create(db, table, _beside(_retired(db, table), span, at)) is not None


def ensure_cycle_months(db: Database, started_at: datetime) -> None:
    """Make sure that the results of a cycle at `started_at` can be stored.

    Raises:
        ExpiredPartition: retention has removed this month or day.
        MissingPartition: it is beyond those that a policy creates ahead.
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    for table in PARTITIONED:
        ensure_month(db, table, started_at)


class Recreated(StrEnum):
    """What became of a month or day that was asked for."""

    THERE = "was there"
    BACK = "is back"
    NEW = "is new and empty: no detached table has it"


def recreate(db: Database, table: str, instant: datetime) -> Recreated:
    """Bring back the month or day of `instant`: attach its detached table if there is one, else create one.

    It gets a hold for the table's grace period (a day at least): the next run does not detach it.
    """
    at = require_utc("instant", instant)
    with storage_errors():
        span = _open_span(read_table(db, table), at)
        if span is None:
            return Recreated.THERE
        retired = _retired(db, table)
        detached = next((r for r in retired if (r["lower"] or FIRST) <= at < (r["upper"] or LAST)), None)
        limits = UpkeepLimits()
        with db.conn.transaction():
            _hold(db, table, span)
            if detached is not None:
                bounds = (detached["lower"] or FIRST, detached["upper"] or LAST)
                retry_on_lock(lambda: _reattach(db, table, detached["name"], bounds, limits), limits)
            else:
                create(db, table, _beside(retired, span, at), limits=limits)
    return Recreated.NEW if detached is None else Recreated.BACK


def create(
    db: Database,
    table: str,
    span: Span,
    *,
    name: str | None = None,
    limits: UpkeepLimits | None = None,
) -> CreatedPartition | None:
    """Create the table partition [lower, upper), or the part of it that is missing; None if nothing is.

    Its rows in a default partition are moved into it. All of it, the log line included, is one transaction:
    a process that is killed leaves nothing behind.

    Raises:
        psycopg.Error: the database refused, or no attempt got a lock.
    """
    limits = limits or UpkeepLimits()
    if name is not None:
        try:
            return retry_on_lock(lambda: _create(db, table, span, name, limits), limits)
        except psycopg.errors.DuplicateTable:
            pass  # the name was taken since the plan
    return retry_on_lock(lambda: _create(db, table, span, None, limits), limits)


def create_together(
    db: Database, actions: Sequence[Action], limits: UpkeepLimits
) -> list[CreatedPartition] | None:
    """Create several table partitions of one table in one transaction: all of them, or none and return None.

    None also if they are better created one by one: because a default partition has to be searched for each,
    which blocks its writers, or because the catalog has changed since the actions were planned.

    Raises:
        psycopg.Error: the database refused, or a lock was not free; nothing was created.
    """
    name = actions[0].table
    with db.conn.transaction():
        lock_parent(db, name, limits)
        table = read_table(db, name)
        created = [
            CreatedPartition(name=a.partition, lower=a.lower, upper=a.upper)
            for a in actions
            if a.partition and a.lower and a.upper
            and next(iter(gaps(table.ranges, a.lower, a.upper)), None) == (a.lower, a.upper)
        ]  # fmt: skip
        if table.default or len(created) < len(actions):
            return None
        _make_like(db, table, [c.name for c in created])
        _run_all(db.conn, [_attach_ddl(db.schema, name, c.name, (c.lower, c.upper)) for c in created])
        lines = [
            {"action": ActionKind.CREATE, "table": name, "partition": c.name, "lower": c.lower.isoformat(),
             "upper": c.upper.isoformat(), "outcome": "done", "details": {"moved": 0}}
            for c in created
        ]  # fmt: skip
        db.conn.execute(db.queries("detection_partition_policies")["log_many"], {"lines": Jsonb(lines)})
    return created


def retry_on_lock(action: Callable[[], T], limits: UpkeepLimits) -> T:
    """Call `action` until it gets its locks, with a pause of random length in between."""
    for remaining in range(limits.attempts - 1, -1, -1):
        try:
            return action()
        except NO_LOCK:
            if not remaining:
                raise
            time.sleep(limits.pause.total_seconds() * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret
    raise StorageError(f"attempts is {limits.attempts}: must be at least 1")


def limit_locks(db: Database, limit: timedelta) -> None:
    """Wait for a lock no longer than `limit`, until the transaction ends."""
    db.conn.execute(db.queries("table_partitions")["limit_locks"], {"limit": in_ms(limit)})


def note(
    db: Database,
    action: Action,
    outcome: str,
    *,
    logged_as: str | None = None,
    async_commit: bool = False,
    unless_default: bool = False,
    **details: object,
) -> bool:
    """Write one line of the maintenance log; return whether it was written.

    Args:
        logged_as: the name of the action in the log, instead of its kind.
        async_commit: do not wait for the flush of the transaction's commit.
        unless_default: write nothing if the table has a default partition.
        details: further facts of the line; None and empty text are left out.
    """
    details = {"oid": action.oid, "note": action.note, **details}
    values = {
        "action": logged_as or action.kind.value,
        "table": action.table or None,
        "partition": action.partition,
        "bounded": action.partition is not None,
        "lower": action.lower,
        "upper": action.upper,
        "outcome": outcome,
        "async_commit": async_commit,
        "schema": db.schema,
        "unless_default": unless_default,
        "details": Jsonb({k: v for k, v in details.items() if v not in (None, "")}),
    }
    return db.conn.execute(db.queries("detection_partition_policies")["log"], values).rowcount == 1


def _open_span(table: PartitionedTable, at: datetime) -> Span | None:
    holder = table.holder(at)
    if holder is not None and not holder.is_detaching:
        return None
    attached = [p for p in table.ranges if not p.is_detaching]
    period = period_of(at, table.step)
    return next((span for span in gaps(attached, *period, table.step) if span[0] <= at < span[1]), None)


def _retired(db: Database, table: str) -> list[dict[str, Any]]:  # Any: rows of a statement
    """Return the detached tables of a partitioned one that still stand."""
    params = {"schema": db.schema, "table": table}
    return list(rows(db, "retired", params, "detection_partition_policies"))


def _beside(
    retired: Sequence[dict[str, Any]],  # Any: as above
    span: Span,
    at: datetime,
) -> Span:
    """Return the part of a span around `at` that no detached table has: those could not be attached again."""
    spans = [(row["lower"] or FIRST, row["upper"] or LAST) for row in retired]
    lower = max([span[0], *(high for _, high in spans if high <= at)])
    return lower, min([span[1], *(low for low, _ in spans if low > at)])


def _is_expired(db: Database, table: str, at: datetime) -> bool:
    params = {"table": table, "instant": at}
    last = rows(db, "last_change", params, "detection_partition_policies")
    return bool(last) and last[0]["action"] not in ("create", "attach")


def _horizon(db: Database, table: str) -> datetime:
    (row,) = rows(db, "horizon", {"table": table}, "detection_partition_policies")
    return cast("datetime", row["horizon"])


def _hold(db: Database, table: str, span: Span) -> None:
    params = {"table": table, "lower": span[0], "upper": span[1], "reason": "recreated on demand"}
    db.conn.execute(db.queries("detection_partition_policies")["hold"], params)


def lock_parent(db: Database, table: str, limits: UpkeepLimits) -> None:
    """Take the locks that every change of a table's partitions takes first, in the same order."""
    params = {"schema": db.schema, "table": table, "limit": in_ms(limits.lock_timeout)}
    db.conn.execute(db.queries("table_partitions")["lock_table_changes"], params)
    db.conn.execute(statement(db.schema, "lock_parent", parent=sql.Identifier(table)))


def _create(
    db: Database, name: str, span: Span, child_name: str | None, limits: UpkeepLimits
) -> CreatedPartition | None:
    with db.conn.transaction():
        lock_parent(db, name, limits)
        table = read_table(db, name)
        missing = next(iter(gaps(table.ranges, *span)), None)
        if missing is None:
            return None
        child = child_name or free_names(db, name, [missing], table.step)[0]
        _make_like(db, table, [child])
        moved = _move(db, table, table.default, child, missing) if table.default else 0
        db.conn.execute(_attach_ddl(db.schema, name, child, missing))
        lower, upper = missing
        created = CreatedPartition(name=child, lower=lower, upper=upper, moved=moved)
        action = Action(kind=ActionKind.CREATE, table=name, partition=child, lower=lower, upper=upper)
        note(db, action, "done", moved=moved)
        return created


def _make_like(db: Database, table: PartitionedTable, children: Sequence[str]) -> None:
    if table.tablespace:
        setting = {"tablespace": table.tablespace}
        db.conn.execute(db.queries("table_partitions")["use_tablespace"], setting)
    parent = sql.Identifier(table.name)
    options = _storage_parameters(table)
    ddl = [
        statement(db.schema, "create", child=sql.Identifier(c), parent=parent, options=options)
        for c in children
    ]
    _run_all(db.conn, [*ddl, *_identities(db, table, children)])
    if table.is_plain:
        return
    for child in children:
        params = {"parent": table.oid, "child": child, "schema": db.schema}
        for row in rows(db, "likeness", params):
            db.conn.execute(sql.SQL(cast("LiteralString", row["statement"])))


def _storage_parameters(table: PartitionedTable) -> sql.Composable:
    if not table.leaf_options:
        return sql.SQL("")
    pairs = [
        sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in sorted(table.leaf_options.items())
    ]
    return sql.SQL("with ({})").format(sql.SQL(", ").join(pairs))


def _identities(db: Database, table: PartitionedTable, children: Sequence[str]) -> list[sql.Composed]:
    if not table.has_full_identity:
        return []
    return [statement(db.schema, "identify", child=sql.Identifier(c)) for c in children]


def _run_all(conn: Connection, statements: Sequence[sql.Composed]) -> None:
    """Run several statements without parameters in one round trip; the first that fails ends them."""
    conn.execute(sql.SQL(";\n").join(statements), prepare=False)


def _move(db: Database, table: PartitionedTable, default: TablePartition, child: str, span: Span) -> int:
    identifiers = {"namespace": sql.Identifier(default.namespace), "default": sql.Identifier(default.name)}
    # Read the default partition before locking it: its pages are cached then, and their hint bits set.
    db.conn.execute(db.queries("table_partitions")["scan_whole_tables"])
    db.conn.execute(statement(db.schema, "read_default", **identifiers))
    db.conn.execute(db.queries("table_partitions")["scan_as_usual"])
    db.conn.execute(statement(db.schema, "lock_default", **identifiers))
    names = [row["attname"] for row in rows(db, "columns", {"parent": table.oid})]
    return db.conn.execute(
        statement(
            db.schema,
            "move",
            **identifiers,
            child=sql.Identifier(child),
            key=sql.Identifier(table.key),
            lower=literal(span[0]),
            upper=literal(span[1]),
            columns=sql.SQL(", ").join(map(sql.Identifier, names)),
        )
    ).rowcount


def _attach_ddl(schema: str, table: str, child: str, span: Span) -> sql.Composed:
    parts = {"parent": sql.Identifier(table), "child": sql.Identifier(child)}
    return statement(schema, "attach", **parts, lower=literal(span[0]), upper=literal(span[1]))


def _reattach(db: Database, table: str, child: str, span: Span, limits: UpkeepLimits) -> None:
    with db.conn.transaction():
        lock_parent(db, table, limits)
        _run_all(db.conn, [*_identities(db, read_table(db, table), [child]),
                           _attach_ddl(db.schema, table, child, span)])  # fmt: skip
        action = Action(kind=ActionKind.CREATE, table=table, partition=child, lower=span[0], upper=span[1])
        note(db, action, "done", logged_as="attach")
