"""`airflow detection ...`: importing this costs nothing but argument descriptions."""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.cli.cli_config import ActionCommand, GroupCommand

from airflow_detection import (
    ais_commands,
    plan_commands,
    registry_commands,
    schema_commands,
    snapshot_commands,
)
from airflow_detection.command_line import Arguments, arg, command, connected, fail, positive, say


@command
def partitions_plan(args: Arguments) -> None:
    """Show what the upkeep of table partitions would do now."""
    from airflow_detection.partition_commands import plan_lines

    with connected() as (conn, held):
        for line in plan_lines(conn, held.schema, now=datetime.now(UTC), max_drops=args.max_drops):
            say(line)


@command
def partitions_apply(args: Arguments) -> None:
    """Do it, or bring back a month that retention removed; exit 1 unless all of it succeeded."""
    from airflow_detection.partition_commands import apply_lines, recreate_lines

    with connected() as (conn, held):
        if args.recreate_expired:
            lines, is_success = recreate_lines(conn, held.schema, args.recreate_expired), True
        else:
            now = datetime.now(UTC)
            lines, is_success = apply_lines(conn, held.schema, now=now, max_drops=args.max_drops)
    for line in lines:
        say(line)
    if not is_success:
        fail("the upkeep of table partitions did not succeed")


def get_commands() -> list[GroupCommand]:
    """Return the commands of `airflow detection`."""
    most = arg("--max-drops", help="detachments, and drops, at most", type=positive)
    month = arg(
        "--recreate-expired", help="bring back a month (UTC) that retention removed", metavar="YYYY-MM"
    )
    partitions = GroupCommand(
        name="partitions",
        help="Monthly table partitions",
        subcommands=(
            ActionCommand("plan", "Show what apply would do", partitions_plan, (most,)),
            ActionCommand(
                "apply", "Make what is missing, retire what is old", partitions_apply, (most, month)
            ),
        ),
    )
    subcommands = (
        partitions,
        ais_commands.group(),
        *schema_commands.commands(),
        *registry_commands.commands(),
        *plan_commands.commands(),
        snapshot_commands.action(),
    )
    return [GroupCommand(name="detection", help="Detection cycles", subcommands=subcommands)]
