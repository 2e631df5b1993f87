"""Index of entity and time on every table partition of a table, made without blocking its writers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import sql
from psycopg.pq import TransactionStatus

from airflow_detection.errors import StorageError
from airflow_detection.store.connection import in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import (
    PartitionedTable,
    Row,
    entity_indexes,
    free_name,
    read_table,
    statement,
)
from airflow_detection.store.partitions.create import limit_locks, lock_parent, note, retry_on_lock
from airflow_detection.store.partitions.plan import Action, UpkeepLimits

SUFFIX = "_by_entity"


def make_entity_index(db: Database, action: Action, limits: UpkeepLimits, *, is_pooled: bool) -> str:
    """Index a table partition, or the table itself for its new table partitions; return what to tell.

    The table's own index comes first and is empty: each table partition gets its own, concurrently, and it is
    attached then. What was left behind by a run that was killed is dropped, or attached if it is complete.

    Raises:
        psycopg.Error: the database refused, or no attempt got a lock.
        StorageError: the connection is in a transaction.
    """
    table = read_table(db, action.table)
    if action.partition is None:
        retry_on_lock(lambda: _index_parent(db, table, action, limits), limits)
        return ""
    state = next((r for r in entity_indexes(db, table) if r["oid"] == action.oid), None)
    if state is None or state["is_done"]:
        return "it was there"
    name = state["complete"]
    if name is None:
        if not db.conn.autocommit or db.conn.info.transaction_status != TransactionStatus.IDLE:
            raise StorageError("the connection is in a transaction: an index cannot be made concurrently")
        name = _index_leaf(db, table, action, state, limits, is_pooled=is_pooled)
    retry_on_lock(lambda: _attach(db, table, action, name, limits), limits)
    return ""


def _index_parent(db: Database, table: PartitionedTable, action: Action, limits: UpkeepLimits) -> None:
    with db.conn.transaction():
        lock_parent(db, table.name, limits)
        if any(r["is_parent"] and r["is_done"] for r in entity_indexes(db, table)):
            return
        db.conn.execute(
            statement(
                db.schema,
                "index_parent",
                index=sql.Identifier(free_name(db, table.name, SUFFIX)),
                parent=sql.Identifier(table.name),
                key=sql.Identifier(table.key),
            )
        )
        note(db, action, "done")


def _index_leaf(
    db: Database,
    table: PartitionedTable,
    action: Action,
    state: Row,
    limits: UpkeepLimits,
    *,
    is_pooled: bool,
) -> str:
    namespace = sql.Identifier(action.namespace or db.schema)
    with _longer_wait(db, limits, is_pooled=is_pooled):
        for leftover in state["leftovers"]:
            index = sql.Identifier(leftover)
            db.conn.execute(statement(db.schema, "drop_index", namespace=namespace, index=index))
        name = free_name(db, action.partition or "", SUFFIX)
        db.conn.execute(
            statement(
                db.schema,
                "index_leaf",
                index=sql.Identifier(name),
                namespace=namespace,
                child=sql.Identifier(action.partition or ""),
                key=sql.Identifier(table.key),
            )
        )
    return name


@contextmanager
def _longer_wait(db: Database, limits: UpkeepLimits, *, is_pooled: bool) -> Iterator[None]:
    """Wait longer for older transactions: nobody waits behind an index that is made concurrently."""
    query = db.queries("table_partitions")["limit_locks_of_session"]
    if is_pooled:
        yield
        return
    db.conn.execute(query, {"limit": in_ms(limits.index_wait)})
    try:
        yield
    finally:
        if not db.conn.closed:
            db.conn.execute(query, {"limit": in_ms(limits.detach_wait)})


def _attach(db: Database, table: PartitionedTable, action: Action, name: str, limits: UpkeepLimits) -> None:
    with db.conn.transaction():
        limit_locks(db, limits.lock_timeout)
        parent = next((r for r in entity_indexes(db, table) if r["is_parent"]), None)
        if parent is None or parent["complete"] is None:
            raise StorageError(f"table {table.name!r} has no index of entities")
        db.conn.execute(
            statement(
                db.schema,
                "attach_index",
                index=sql.Identifier(parent["complete"]),
                namespace=sql.Identifier(action.namespace or db.schema),
                child_index=sql.Identifier(name),
            )
        )
        note(db, action, "done")
