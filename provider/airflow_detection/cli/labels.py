"""`airflow detection labels`: what turned out to be true, loaded from a file and listed."""

from __future__ import annotations

from pathlib import Path

from airflow.cli.cli_config import ARG_OUTPUT, ActionCommand, GroupCommand

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
    show,
    warn,
)


@command
def labels_load(args: Arguments) -> None:
    """Load a CSV file of labels; exit 1 if rows are malformed, which does not keep the others out."""
    from airflow_detection.store.label_file import load_labels

    with connected() as (db, _):
        report = load_labels(db, Path(args.file), cycle_id=args.cycle, source=args.source, actor=args.actor)
    say(f"{args.file}: {report}")
    for line, reason in report.malformed:
        warn(f"{args.file}:{line}: {reason}")
    if report.malformed_count:
        fail(f"{args.file}: {report.malformed_count:,} of {report.rows_read:,} rows are malformed")


@command
def labels_list(args: Arguments) -> None:
    """List the labels of a cycle as known at an instant, the newest first."""
    from airflow_detection.store import registry
    from airflow_detection.store.labels import known_labels

    with connected() as (db, _):
        registry.cycle_spec(db, args.cycle)
        if args.model:
            registry.cycle_of(db, args.model)
        labels = known_labels(
            db,
            args.cycle,
            model_id=args.model,
            entity_id=args.entity,
            start=args.start,
            end=args.end,
            known_at=args.known_at,
            limit=args.limit,
        )
    rows = (
        {
            "label": label.label_id,
            "entity": label.entity_id,
            "model": label.model_id,
            "from": label.valid_from.isoformat(),
            "to": label.valid_to.isoformat() if label.valid_to else None,
            "is_positive": label.is_positive,
            "source": label.source,
            "known_since": label.recorded_at.isoformat() if label.recorded_at else None,
            "actor": label.actor,
            "note": label.note,
        }
        for label in labels
    )
    show(rows, args.output)


def group() -> GroupCommand:
    """Return these commands."""
    actor = arg("--actor", help="who says so; the database's user unless given")
    default_cycle = arg(
        "--cycle", help="the cycle of rows that name neither a cycle nor a model", metavar="CYCLE"
    )
    source = arg("--source", help="from whom rows come that do not say so")
    cycle = arg("cycle", help="the cycle's id", metavar="CYCLE")
    listed = (
        arg("--model", help="its own labels and those of the whole cycle", metavar="MODEL"),
        arg("--entity", help="of this entity alone", metavar="ID"),
        arg(
            "--from", help="about cycles from this instant (UTC) on", type=instant, metavar="T", dest="start"
        ),
        arg("--to", help="about cycles before this instant (UTC)", type=instant, metavar="T", dest="end"),
        arg("--known-at", help="as known at this instant (UTC); now unless given", type=instant, metavar="T"),
        arg("--limit", help="at most so many", type=positive, default=1000),
        ARG_OUTPUT,
    )
    return GroupCommand(
        name="labels",
        help="What turned out to be true of entities",
        subcommands=(
            ActionCommand(
                "load", "Load a CSV file of labels", labels_load, (FILE, default_cycle, source, actor)
            ),
            ActionCommand("list", "List the labels of a cycle", labels_list, (cycle, *listed)),
        ),
    )
