"""`airflow detection partitions`: a plan of the upkeep to read, and its execution."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, Arg, GroupCommand

from airflow_detection.cli.command import (
    Arguments,
    arg,
    command,
    connected,
    fail,
    instant,
    positive,
    say,
    show,
)
from airflow_detection.errors import ConfigurationError

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_detection.store.database import Database
    from airflow_detection.store.partitions.parquet import ExportColumn
    from airflow_detection.store.partitions.plan import Phase, UpkeepLimits

NOTHING = "nothing to do"
CSV = "csv"
MAX_SHOWN = 1000


@command
def partitions_plan(args: Arguments) -> None:
    """Show what the upkeep of table partitions would do now."""
    with connected() as (db, _):
        for line in plan_lines(db, now=datetime.now(UTC), max_drops=args.max_drops):
            say(line)


@command
def partitions_apply(args: Arguments) -> None:
    """Do the upkeep, or bring back what retention removed; exit 1 unless all of it succeeded."""
    with connected() as (db, _):
        if args.recreate_expired:
            lines, is_success = recreate_lines(db, args.recreate_expired), True
        else:
            now = datetime.now(UTC)
            lines, is_success = apply_lines(db, now=now, max_drops=args.max_drops)
    for line in lines:
        say(line)
    if not is_success:
        fail("the upkeep of table partitions did not succeed")


@command
def partitions_sizes(args: Arguments) -> None:
    """List table partitions with their bytes and their estimated rows."""
    with connected() as (db, _):
        listed = list(size_rows(db, now=datetime.now(UTC), table=args.table))
    show(listed, args.output)


@command
def partitions_read(args: Arguments) -> None:
    """Write rows that were exported before their table was dropped: from a folder, or of a table."""
    from airflow_detection.operators.partition_files import partition_files
    from airflow_detection.store.partitions.exported_rows import (
        columns_of,
        exports_of,
        find_exports,
        read_exports,
    )

    start, end = _read_span(args)
    files = partition_files()
    if "/" in args.source:
        found = list(find_exports(files, args.source))
    else:
        with connected() as (db, _):
            found = list(exports_of(db, files, args.source))
    if not found:
        fail(f"{args.source} has no export")
    batches = read_exports(files, found, start=start, end=end, model_id=args.model)
    columns = columns_of(found)
    if args.output == CSV:
        write_csv(batches, sys.stdout.buffer, columns, limit=args.limit)
    else:
        shown = exported_rows(batches, columns, limit=args.limit or MAX_SHOWN)
        show(shown, args.output)


def _read_span(args: Arguments) -> tuple[datetime | None, datetime | None]:
    """Return the span of time that is asked for; None where it has no bound."""
    for name in ("month", "day"):
        if text := getattr(args, name):
            if args.start or args.end or (args.month and args.day):
                raise ConfigurationError("--month, --day and --from with --to exclude each other")
            return _period(f"--{name}", text, name)
    return args.start, args.end


def exported_rows(
    batches: Iterable[pa.RecordBatch], columns: Iterable[ExportColumn], *, limit: int
) -> Iterator[dict[str, object]]:
    """The first rows of exports as JSON has them: instants as text, and JSON as it was stored."""
    parsed = {c.name for c in columns if c.type_name in ("json", "jsonb")}
    rows = (row for batch in batches for row in batch.to_pylist())
    for row in islice(rows, limit):
        yield {
            name: json.loads(value)
            if name in parsed and value is not None
            else value.isoformat()
            if isinstance(value, date)
            else value
            for name, value in row.items()
        }


def write_csv(
    batches: Iterable[pa.RecordBatch],
    target: IO[bytes],
    columns: Iterable[ExportColumn],
    *,
    limit: int | None,
) -> None:
    """Write rows of exports as COPY ... (format csv, header) reads them: null is empty, text is quoted."""
    from pyarrow import csv

    from airflow_detection.store.partitions.exported_rows import aligned
    from airflow_detection.store.partitions.parquet import arrow_schema

    left, schema = limit, arrow_schema(tuple(columns))
    with csv.CSVWriter(target, schema) as writer:
        for batch in batches:
            part = aligned(batch if left is None else batch.slice(0, left), schema)
            writer.write_batch(part)
            left = None if left is None else left - len(part)
            if left == 0:
                return


def size_rows(db: Database, *, now: datetime, table: str | None = None) -> Iterator[dict[str, object]]:
    """The rows of `partitions sizes`, table by table in order of time."""
    from airflow_detection.store.partitions.sizes import partition_sizes

    for size in partition_sizes(db, now=now, table=table):
        yield {
            "table": size.table,
            "partition": size.partition,
            "from": size.lower and size.lower.isoformat(),
            "to": size.upper and size.upper.isoformat(),
            "state": size.state,
            "rows": size.rows,
            "table_bytes": size.table_bytes,
            "index_bytes": size.index_bytes,
            "vacuumed_at": size.vacuumed_at and size.vacuumed_at.isoformat(),
            "options": ", ".join(f"{name}={value}" for name, value in sorted(size.options.items())),
        }


def plan_lines(db: Database, *, now: datetime, max_drops: int | None = None) -> list[str]:
    """The lines of `partitions plan`: exactly what `partitions apply` does, in its order."""
    from airflow_detection.store.partitions.plan import Phase, plan

    limits = _limits(max_drops)
    actions = [a for p in Phase for a in plan(db, now=now, limits=limits, phases=(p,))]
    return [str(a) for a in actions] or [NOTHING]


def apply_lines(
    db: Database,
    *,
    now: datetime,
    max_drops: int | None = None,
    phases: Sequence[Phase] | None = None,
) -> tuple[list[str], bool]:
    """The lines of `partitions apply`, and whether all of it succeeded: a skipped run did not."""
    from airflow_detection.operators.partition_files import partition_files
    from airflow_detection.store.partitions.plan import Phase
    from airflow_detection.store.partitions.upkeep import apply

    limits, files = _limits(max_drops), partition_files()
    reports = [apply(db, phase, now=now, limits=limits, files=files) for phase in phases or tuple(Phase)]
    lines = list(dict.fromkeys(line for report in reports for line in report.lines()))
    return lines or [NOTHING], all(report.is_success for report in reports)


def recreate_lines(db: Database, period: str) -> list[str]:
    """The lines of `partitions apply --recreate-expired YYYY-MM[-DD]`.

    Of a month, a table gets all table partitions back that have a part of it, each with a line.

    Raises:
        ConfigurationError: `period` is neither a month nor a day.
    """
    from airflow_detection.store.partitions.catalog import read_table
    from airflow_detection.store.partitions.create import PARTITIONED, recreate

    start, end = _period("--recreate-expired", period, "month", "day")
    lines = []
    for table in PARTITIONED:
        at = start
        while at < end:
            outcome, (lower, upper) = recreate(db, table, at), (start, end)
            if (holder := read_table(db, table).holder(at)) is not None:
                lower, upper = holder.span
            name = period if lower <= start and end <= upper else f"{at:%Y-%m-%d}"
            lines.append(f"{table} {name}: {outcome}")
            at = upper
    return lines


FORMS = {"month": ("%Y-%m", "a month, YYYY-MM"), "day": ("%Y-%m-%d", "a day, YYYY-MM-DD")}


def _period(name: str, text: str, *kinds: str) -> tuple[datetime, datetime]:
    """Return the bounds of a UTC month or day, of one of these kinds."""
    from airflow_detection.store.partitions.catalog import Step, period_of

    for kind in kinds:
        with suppress(ValueError):
            return period_of(datetime.strptime(text, FORMS[kind][0]).replace(tzinfo=UTC), Step(kind))
    raise ConfigurationError(f"{name} is {text!r}: must be {', or '.join(FORMS[kind][1] for kind in kinds)}")


def _limits(max_drops: int | None) -> UpkeepLimits:
    from airflow_detection.store.partitions.plan import UpkeepLimits

    return UpkeepLimits() if max_drops is None else replace(UpkeepLimits(), max_drops=max_drops)


def _read_arguments() -> tuple[Arg, ...]:
    return (
        arg("source", help="the URI of a folder, or a table of the registry", metavar="URI|TABLE"),
        arg("--month", help="rows of this month (UTC) alone", metavar="YYYY-MM"),
        arg("--day", help="rows of this day (UTC) alone", metavar="YYYY-MM-DD"),
        arg("--from", help="rows from this instant on (UTC)", dest="start", type=instant),
        arg("--to", help="rows before this instant (UTC)", dest="end", type=instant),
        arg("--model", help="rows of this model alone", metavar="MODEL"),
        arg("--limit", help=f"at most so many; {MAX_SHOWN} unless given, and all as csv", type=positive),
        arg(
            "-o",
            "--output",
            help="how they are written",
            choices=("table", "plain", "json", "yaml", CSV),
            default="table",
        ),
    )


def group() -> GroupCommand:
    """Return the commands, for `airflow detection`."""
    max_drops = arg("--max-drops", help="detachments, and drops, at most", type=positive)
    month = arg(
        "--recreate-expired",
        help="bring back a month or a day (UTC) that retention removed",
        metavar="YYYY-MM[-DD]",
    )
    table = arg("--table", help="of this table alone", metavar="TABLE")
    return GroupCommand(
        name="partitions",
        help="Table partitions by month or day",
        subcommands=(
            ActionCommand("plan", "Show what apply would do", partitions_plan, (max_drops,)),
            ActionCommand(
                "apply", "Make what is missing, retire what is old", partitions_apply, (max_drops, month)
            ),
            ActionCommand("sizes", "List bytes and rows", partitions_sizes, (table, ARG_OUTPUT)),
            ActionCommand("read", "Read back what was exported", partitions_read, _read_arguments()),
        ),
    )
