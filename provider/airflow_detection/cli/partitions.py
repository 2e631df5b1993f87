"""`airflow detection partitions`: a plan of the upkeep to read, and its execution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand, GroupCommand

from airflow_detection.cli.command import Arguments, arg, command, connected, fail, positive, say
from airflow_detection.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_detection.store.database import Database
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
    """Do the upkeep, or bring back a month that retention removed; exit 1 unless all of it succeeded."""
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


def recreate_lines(db: Database, month: str) -> list[str]:
    """The lines of `partitions apply --recreate-expired YYYY-MM`.

    Raises:
        ConfigurationError: `month` is not a month.
    """
    try:
        instant = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigurationError(f"--recreate-expired is {month!r}: must be a month, YYYY-MM") from error
    from airflow_detection.store.partitions.create import PARTITIONED, recreate

    return [f"{table} {month}: {recreate(db, table, instant)}" for table in PARTITIONED]


def _limits(max_drops: int | None) -> UpkeepLimits:
    from airflow_detection.store.partitions.plan import UpkeepLimits

    return UpkeepLimits() if max_drops is None else replace(UpkeepLimits(), max_drops=max_drops)


def group() -> GroupCommand:
    """Return the commands, for `airflow detection`."""
    max_drops = arg("--max-drops", help="detachments, and drops, at most", type=positive)
    month = arg(
        "--recreate-expired", help="bring back a month (UTC) that retention removed", metavar="YYYY-MM"
    )
    return GroupCommand(
        name="partitions",
        help="Monthly table partitions",
        subcommands=(
            ActionCommand("plan", "Show what apply would do", partitions_plan, (max_drops,)),
            ActionCommand(
                "apply", "Make what is missing, retire what is old", partitions_apply, (max_drops, month)
            ),
        ),
    )
