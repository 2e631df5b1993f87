"""`airflow detection partitions`: a plan of the upkeep to read, and its execution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, GroupCommand

from airflow_detection.cli.command import Arguments, arg, command, connected, fail, positive, say, show
from airflow_detection.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_detection.store.database import Database
    from airflow_detection.store.partitions.catalog import Step
    from airflow_detection.store.partitions.plan import Phase, UpkeepLimits

NOTHING = "nothing to do"


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
    from airflow_detection.store.partitions.plan import Phase
    from airflow_detection.store.partitions.upkeep import apply

    limits = _limits(max_drops)
    reports = [apply(db, phase, now=now, limits=limits) for phase in phases or tuple(Phase)]
    lines = list(dict.fromkeys(line for report in reports for line in report.lines()))
    return lines or [NOTHING], all(report.is_success for report in reports)


def recreate_lines(db: Database, period: str) -> list[str]:
    """The lines of `partitions apply --recreate-expired YYYY-MM[-DD]`.

    Of a month, a table with a table partition for each day gets all days of it back.

    Raises:
        ConfigurationError: `period` is neither a month nor a day.
    """
    from airflow_detection.store.partitions.catalog import period_of, read_table
    from airflow_detection.store.partitions.create import PARTITIONED, recreate

    start, end = _period("--recreate-expired", period)
    lines = []
    for table in PARTITIONED:
        step, at = read_table(db, table).step, start
        while at < end:
            lines.append(f"{table} {_label(at, period, step)}: {recreate(db, table, at)}")
            at = period_of(at, step)[1]
    return lines


def _label(at: datetime, period: str, step: Step) -> str:
    return period if step == "month" else f"{at:%Y-%m-%d}"


def _period(name: str, text: str) -> tuple[datetime, datetime]:
    """Return the bounds of a UTC month, YYYY-MM, or a day, YYYY-MM-DD."""
    from airflow_detection.store.partitions.catalog import Step, period_of

    for step, form in ((Step.MONTH, "%Y-%m"), (Step.DAY, "%Y-%m-%d")):
        with suppress(ValueError):
            return period_of(datetime.strptime(text, form).replace(tzinfo=UTC), step)
    raise ConfigurationError(f"{name} is {text!r}: must be a month, YYYY-MM, or a day, YYYY-MM-DD")


def _limits(max_drops: int | None) -> UpkeepLimits:
    from airflow_detection.store.partitions.plan import UpkeepLimits

    return UpkeepLimits() if max_drops is None else replace(UpkeepLimits(), max_drops=max_drops)


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
        ),
    )
