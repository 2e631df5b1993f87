"""`airflow detection ...`: importing this costs nothing but argument descriptions."""

from __future__ import annotations

from airflow.cli.cli_config import GroupCommand

from airflow_detection.cli import (
    ais,
    check,
    compare,
    db,
    example,
    labels,
    listings,
    partitions,
    plan,
    promotions,
    registry,
    replay,
    snapshot,
)


def get_commands() -> list[GroupCommand]:
    """Return the commands of `airflow detection`."""
    subcommands = (
        partitions.group(),
        ais.group(),
        labels.group(),
        *db.commands(),
        *registry.commands(),
        *check.commands(),
        *promotions.commands(),
        *listings.commands(),
        *plan.commands(),
        compare.action(),
        replay.action(),
        snapshot.action(),
        example.action(),
    )
    return [GroupCommand(name="detection", help="Detection cycles", subcommands=subcommands)]
