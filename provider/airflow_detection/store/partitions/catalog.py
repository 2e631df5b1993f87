"""What the catalog says of a table's partitions. Bounds decide; names say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
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
Span = tuple[datetime, datetime]
Row = dict[str, Any]  # Any: a row holds what its statement selects


@dataclass(frozen=True, slots=True, kw_only=True)
class TablePartition:
    """A child of a partitioned table; `lower` and `upper` (UTC, half-open) are None where it has no bound."""

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
        """Its bounds, the ends of time standing for none."""
        return self.lower or FIRST, self.upper or LAST


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionedTable:
    """A table that is partitioned by range on one timestamptz column, with its partitions in order.

    `is_plain`: it is ours and has no grants and no row security, so that a new table is like it already.
    """

    name: str
    oid: int
    key: str
    tablespace: str | None
    is_plain: bool
    partitions: tuple[TablePartition, ...]

    @property
    def ranges(self) -> tuple[TablePartition, ...]:
        """The partitions that have bounds."""
        return tuple(p for p in self.partitions if not p.is_default)

    @property
    def default(self) -> TablePartition | None:
        """The default partition, which somebody else made."""
        return next((p for p in self.partitions if p.is_default), None)

    @property
    def detaching(self) -> TablePartition | None:
        """The one whose detachment was interrupted; Postgres allows one at a time."""
        return next((p for p in self.partitions if p.is_detaching), None)

    def holder(self, instant: datetime) -> TablePartition | None:
        """The partition whose bounds hold `instant`."""
        return next((p for p in self.ranges if p.span[0] <= instant < p.span[1]), None)


def month_of(instant: datetime) -> Span:
    """The half-open UTC month that holds `instant`."""
    at = require_utc("instant", instant)
    start = datetime(at.year, at.month, 1, tzinfo=UTC)
    if (at.year, at.month) == (LAST.year, LAST.month):
        return start, LAST
    return start, datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)


def gaps(partitions: Sequence[TablePartition], start: datetime, end: datetime) -> Iterator[Span]:
    """What `partitions` leave uncovered of [start, end), month by month, in order."""
    spans = sorted(p.span for p in partitions if not p.is_default)
    while start < end:
        stop = min(month_of(start)[1], end)
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
    """The first instant from `start` on that no partition holds."""
    at = start
    for low, high in sorted(p.span for p in partitions if not p.is_default and not p.is_detaching):
        if low <= at < high:
            at = high
    return at


def statement(schema: str, name: str, **parts: sql.Composable) -> sql.Composed:
    """A statement of `table_partitions.sql` with identifiers and literals in their places."""
    text = load_queries("table_partitions", schema)[name].as_string(None)
    return sql.SQL(text).format(**parts)


def literal(instant: datetime) -> sql.Literal:
    """An instant as UTC text: no session setting changes its meaning."""
    return sql.Literal(f"{require_utc('instant', instant):%Y-%m-%d %H:%M:%S.%f}+00")


@contextmanager
def _in_iso(db: Database) -> Iterator[None]:
    """Instants print, and bounds read back, without loss in any time zone, but not in any DateStyle."""
    if (db.conn.info.parameter_status("DateStyle") or "").startswith("ISO"):
        yield
        return
    with db.conn.transaction():
        db.conn.execute(db.queries("table_partitions")["use_utc"])
        yield


def rows(db: Database, name: str, params: Mapping[str, object], file: str = "table_partitions") -> list[Row]:
    """The rows of a named statement; instants come in UTC."""
    with _in_iso(db), db.conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(db.queries(file)[name], params).fetchall()
    return [{k: v.astimezone(UTC) if isinstance(v, datetime) else v for k, v in r.items()} for r in found]


def read_table(db: Database, table: str) -> PartitionedTable:
    """Read a table's partitions from the catalog.

    Raises:
        StorageError: there is no such table, or it is not partitioned by range on one timestamptz column.
    """
    found = rows(db, "parent", {"schema": db.schema, "table": table})
    if not found:
        raise StorageError(
            f"table {table!r} is not there, or is not partitioned by range on one timestamptz column"
        )
    partitions = rows(db, "partitions", {"parent": found[0]["oid"]})
    return PartitionedTable(
        name=table,
        oid=found[0]["oid"],
        key=found[0]["key"],
        tablespace=found[0]["tablespace"],
        is_plain=found[0]["is_plain"],
        partitions=tuple(TablePartition(**p) for p in partitions),
    )


def free_names(db: Database, table: str, spans: Sequence[Span]) -> list[str]:
    """Names for new partitions, for people to read; what is there under such a name is left alone."""
    stems = [f"_p{span[0]:%Y_%m}" for span in spans]
    wanted = [[_named(table, s if n == 1 else f"{s}_{n}") for n in range(1, 10)] for s in stems]
    names = [name for names in wanted for name in names]
    taken = {row["name"] for row in rows(db, "taken", {"schema": db.schema, "names": names})}
    chosen: list[str] = []
    for candidates in wanted:
        name = next((c for c in candidates if c not in taken), None)
        if name is None:
            raise StorageError(f"nine relations have a name like {candidates[0]!r} already")
        taken.add(name)
        chosen.append(name)
    return chosen


def _named(table: str, suffix: str) -> str:
    stem = table.encode()[: NAME_BYTES - len(suffix)].decode(errors="ignore")
    return stem + suffix
