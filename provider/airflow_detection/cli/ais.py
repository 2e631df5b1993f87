"""`airflow detection ais`: files of ship positions."""

from __future__ import annotations

from pathlib import Path

from airflow.cli.cli_config import ActionCommand, GroupCommand

from airflow_detection.cli.command import (
    FILE,
    Arguments,
    arg,
    command,
    connected,
    fail,
    instant,
    positive,
    say,
)


@command
def ais_load(args: Arguments) -> None:
    """Load a file of ship positions."""
    from airflow_detection.maritime.ais import load
    from airflow_detection.store.migrations import require_pack

    with connected() as (db, settings):
        require_pack(db, "maritime")
        say(f"{args.file}: {load.load_file(db.conn, Path(args.file), schema=settings.schema)}")


@command
def ais_simulate(args: Arguments) -> None:
    """Write a file of simulated ship positions with known anomalies."""
    from airflow_detection.maritime.simulation import day

    try:
        day.write_day(Path(args.file), start=args.start, hours=args.hours, seed=args.seed)
    except OSError as error:
        fail(f"{args.file}: {error.strerror}")
    except ValueError as error:
        fail(f"{args.file}: {error}")
    say(f"{args.file}: {args.hours} h from {args.start.isoformat()}, seed {args.seed}")


def group() -> GroupCommand:
    """Return these commands."""
    start = arg("--start", help="the first instant (UTC)", type=instant, required=True)
    hours = arg("--hours", help="length in hours", type=positive, default=24)
    seed = arg("--seed", help="the same seed gives the same file", type=int, default=1)
    return GroupCommand(
        name="ais",
        help="Files of the maritime pack: ship positions",
        subcommands=(
            ActionCommand("load", "Load a file of positions", ais_load, (FILE,)),
            ActionCommand("simulate", "Write a simulated file", ais_simulate, (FILE, start, hours, seed)),
        ),
    )
