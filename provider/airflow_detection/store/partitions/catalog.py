"""Partitions of a table as the catalog has them. Their bounds count; their names mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import StorageError
from airflow_detection.store.database import Database
from airflow_detection.store.queries import load_queries

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
NAME_BYTES = 63
NAME_FORMATS = {"month": "%Y_%m", "day": "%Y_%m_%d"}
Span = tuple[datetime, datetime]
Row = dict[str, Any]  # Any: a row holds what its statement selects


class Step(StrEnum):
    """Length of the table partitions that a table gets, in UTC."""

    MONTH = "month"
    DAY = "day"


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePartition:
    """Child of a partitioned table; `lower` and `upper` (UTC, half-open) are None where it has no bound."""

    oid: int
    name: str
    namespace: str
    kind: str
    lower: datetime | None
    upper: datetime | None
    is_default: bool
    is_detaching: bool

    @property
    def span(self) -> Span:
        """The bounds; FIRST and LAST where there is none."""
        return self.lower or FIRST, self.upper or LAST


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionedTable:
    """Table that is partitioned by range on one timestamptz column, with its partitions in order.

    `is_plain`: the current user owns it and it has no grants and no row security, so that a new table has the
    same owner and rights. `has_full_identity`: a publication identifies its rows by all of their values.
    `step` and `leaf_options` (storage parameters) are those of its policy, for new table partitions.
    """

    name: str
    oid: int
    key: str
    tablespace: str | None
    is_plain: bool
    has_full_identity: bool
    step: Step
    leaf_options: Mapping[str, float | bool]
    partitions: tuple[TablePartition, ...]

    @property
    def ranges(self) -> tuple[TablePartition, ...]:
        """The partitions that have bounds."""
        return tuple(p for p in self.partitions if not p.is_default)

    @property
    def default(self) -> TablePartition | None:
        """The default partition, if there is one; this package never creates it."""
        return next((p for p in self.partitions if p.is_default), None)

    @property
    def detaching(self) -> TablePartition | None:
        """The partition whose detachment was interrupted, if any; Postgres allows one at a time."""
        return next((p for p in self.partitions if p.is_detaching), None)

    def holder(self, instant: datetime) -> TablePartition | None:
        """Return the partition whose bounds hold `instant`, if there is one."""
        return next((p for p in self.ranges if p.span[0] <= instant < p.span[1]), None)


def month_of(instant: datetime) -> Span:
    """Return the half-open UTC month that holds `instant`."""
    at = require_utc("instant", instant)
    start = datetime(at.year, at.month, 1, tzinfo=UTC)
    if (at.year, at.month) == (LAST.year, LAST.month):
        return start, LAST
    return start, datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)


def day_of(instant: datetime) -> Span:
    """Return the half-open UTC day that holds `instant`."""
    start = require_utc("instant", instant).replace(hour=0, minute=0, second=0, microsecond=0)
    return start, LAST if start.date() == LAST.date() else start + timedelta(days=1)


def period_of(instant: datetime, step: Step) -> Span:
    """Return the half-open UTC month or day that holds `instant`."""
    return day_of(instant) if step is Step.DAY else month_of(instant)


def gaps(
    partitions: Sequence[TablePartition], start: datetime, end: datetime, step: Step = Step.MONTH
) -> Iterator[Span]:
    """Iterate over the spans of [start, end) that no partition covers, period by period, in order."""
    spans = sorted(p.span for p in partitions if not p.is_default)
    while start < end:
        stop = min(period_of(start, step)[1], end)
        at = start
        for low, high in spans:
            if low >= stop or high <= at:
                continue
            if low > at:
                yield at, low
            at = max(at, high)
        if at < stop:
            yield at, stop
        start = stop


def covered_until(partitions: Sequence[TablePartition], start: datetime) -> datetime:
    """Return the first instant from `start` on that no partition holds."""
    at = start
    for low, high in sorted(p.span for p in partitions if not p.is_default and not p.is_detaching):
        if low <= at < high:
            at = high
    return at


def statement(schema: str, name: str, **parts: sql.Composable) -> sql.Composed:
    """Return a statement of `table_partitions.sql` with its identifiers and literals filled in."""
    text = load_queries("table_partitions", schema)[name].as_string(None)
    return sql.SQL(text).format(**parts)


def literal(instant: datetime) -> sql.Literal:
    """Return an instant as UTC text: no session setting changes its meaning."""
    return sql.Literal(require_utc("instant", instant).isoformat(sep=" "))


@contextmanager
def _iso_dates(db: Database) -> Iterator[None]:
    """Use the ISO DateStyle inside: instants are exact in any time zone, but not in any DateStyle."""
    if (db.conn.info.parameter_status("DateStyle") or "").startswith("ISO"):
        yield
        return
    with db.conn.transaction():
        db.conn.execute(db.queries("table_partitions")["use_utc"])
        yield


def rows(db: Database, name: str, params: Mapping[str, object], file: str = "table_partitions") -> list[Row]:
    """Return the rows of a named statement, instants in UTC."""
    with _iso_dates(db), db.conn.cursor(row_factory=dict_row) as cursor:
        selected = cursor.execute(db.queries(file)[name], params).fetchall()
    return [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()} for r in selected]


def read_table(db: Database, table: str) -> PartitionedTable:
    """Read a table's partitions from the catalog.

    Raises:
        StorageError: there is no such table, or it is not partitioned by range on one timestamptz column.
    """
    parents = rows(db, "parent", {"schema": db.schema, "table": table})
    if not parents:
        raise StorageError(
            f"table {table!r} does not exist, or is not partitioned by range on one timestamptz column"
        )
    parent = parents[0]
    partitions = rows(db, "partitions", {"parent": parent["oid"]})
    return PartitionedTable(
        name=table,
        oid=parent["oid"],
        key=parent["key"],
        tablespace=parent["tablespace"],
        is_plain=parent["is_plain"],
        has_full_identity=parent["has_full_identity"],
        step=Step(parent["step"]),
        leaf_options=parent["leaf_options"],
        partitions=tuple(TablePartition(**p) for p in partitions),
    )


def free_names(db: Database, table: str, spans: Sequence[Span], step: Step) -> list[str]:
    """Return readable names for new partitions that no relation or type has yet."""
    return free_names_with(db, table, [f"_p{span[0]:{NAME_FORMATS[step]}}" for span in spans])


def free_names_with(db: Database, table: str, stems: Sequence[str]) -> list[str]:
    """Return a name for each stem that begins with the table's and that no relation or type has yet."""
    candidates = [[_named(table, s if n == 1 else f"{s}_{n}") for n in range(1, 10)] for s in stems]
    names = [name for group in candidates for name in group]
    taken = {row["name"] for row in rows(db, "taken", {"schema": db.schema, "names": names})}
    chosen: list[str] = []
    for group in candidates:
        name = next((c for c in group if c not in taken), None)
        if name is None:
            raise StorageError(f"no name like {group[0]!r} is free: nine relations have one")
        taken.add(name)
        chosen.append(name)
    return chosen


def free_name(db: Database, table: str, stem: str) -> str:
    """Return a name that begins with a table's and that no relation or type has yet."""
    return free_names_with(db, table, [stem])[0]


def entity_indexes(db: Database, table: PartitionedTable) -> list[Row]:
    """Return the table and its ordinary partitions with what each has of an index of entity and time."""
    return rows(db, "entity_indexes", {"parent": table.oid, "key": table.key})


def _named(table: str, suffix: str) -> str:
    stem = table.encode()[: NAME_BYTES - len(suffix)].decode(errors="ignore")
    return stem + suffix
