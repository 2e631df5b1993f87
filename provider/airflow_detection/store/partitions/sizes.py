"""Sizes of table partitions, as the server counts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_detection.errors import StorageError
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import read_table, rows
from airflow_detection.store.partitions.plan import policies


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionSize:
    """Size of one table partition, or of a table that was detached and still exists; bounds in UTC.

    `rows` is the server's estimate, None before its first vacuum or analyze. `table_bytes` includes what is
    stored out of line, `index_bytes` all indexes.
    """

    table: str
    partition: str
    lower: datetime | None
    upper: datetime | None
    state: str
    rows: int | None
    table_bytes: int
    index_bytes: int
    vacuumed_at: datetime | None
    options: Mapping[str, str]


def partition_sizes(db: Database, *, now: datetime, table: str | None = None) -> Iterator[PartitionSize]:
    """Iterate over the partitions of each table that has a policy, then over its detached ones, in order.

    Args:
        table: of this table alone.

    Raises:
        StorageError: `table` has no policy, or is not partitioned.
    """
    named = [p.table_name for p in policies(db, now) if table in (None, p.table_name)]
    if table is not None and not named:
        raise StorageError(f"table {table!r} has no policy in detection_partition_policies")
    for name in named:
        try:
            partitions = read_table(db, name).partitions
        except StorageError:
            if table is not None:
                raise
            continue
        places = [
            (p.oid, p.name, p.lower, p.upper, "default" if p.is_default else "attached") for p in partitions
        ]
        retired = rows(db, "retired", {"schema": db.schema, "table": name}, "detection_partition_policies")
        places += [(r["oid"], r["name"], r["lower"], r["upper"], "detached") for r in retired]
        sizes = {r.pop("oid"): r for r in rows(db, "sizes", {"oids": [place[0] for place in places]})}
        for oid, partition, lower, upper, state in places:
            if oid in sizes:  # else it was dropped meanwhile
                yield PartitionSize(
                    table=name, partition=partition, lower=lower, upper=upper, state=state, **sizes[oid]
                )
