"""`airflow detection snapshot`: the stored report of an hour, or a longer look, for eyes or for programs."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.command import arg, command, connected, instant, positive, say_json, warn
from airflow_detection.cli.page import write_page
from airflow_detection.domain.links import page
from airflow_detection.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from airflow_detection.domain.settings import Settings
    from airflow_detection.store.database import Database


@command
def snapshot(args: argparse.Namespace) -> None:
    """Show the report of the last full hour, taking it if nobody has; or take a diagnostic one."""
    with connected() as (db, settings):
        report, snapshot_id = _report(db, settings, args)
    if args.html:
        write_page(args.html, report, page("reports", snapshot=snapshot_id) if snapshot_id else None)
    if args.json:
        say_json(report)
    elif not args.html:
        _print(report)


def _report(
    db: Database, settings: Settings, args: argparse.Namespace
) -> tuple[dict[str, Any], int | None]:  # Any: JSON
    """Return a report, and its id if it is stored."""
    from airflow_detection.operators.report_setup import process_facts_of, sections_of
    from airflow_detection.snapshot import collector
    from airflow_detection.snapshot.report import Report
    from airflow_detection.store.snapshots import hourly, save

    at = args.at or datetime.now(UTC)
    sections, process_facts = sections_of(settings), process_facts_of(settings)
    start = collector.hour_before(at)
    stored = None if args.diagnostic else hourly(db, start)
    if stored is not None:
        return dict(stored.report), stored.snapshot_id
    report: Report = (
        collector.diagnostic(db, sections, at=at, hours=args.hours, process_facts=process_facts)
        if args.diagnostic
        else collector.take(
            db,
            sections,
            start=start,
            end=start + collector.HOUR,
            process_facts=process_facts,
        )
    )
    try:
        saved, _ = save(db, report.to_json())
    except StorageError as error:  # a role that may only read
        warn(f"the report is not stored: {error}")
        return report.to_json(), None
    return dict(saved.report), saved.snapshot_id


def _print(report: dict[str, Any]) -> None:  # Any: JSON values
    from rich.console import Console

    from airflow_detection.snapshot.rendering.terminal import print_report
    from airflow_detection.snapshot.report import UnknownFormat

    try:
        print_report(report, Console())
    except UnknownFormat as error:
        raise ConfigurationError(str(error)) from error


def action() -> ActionCommand:
    """The command, for `airflow detection`."""
    return ActionCommand(
        "snapshot",
        "The report of the last full hour",
        snapshot,
        (
            arg(
                "--at",
                help="the hour before this instant (UTC); now unless given",
                type=instant,
                metavar="T",
            ),
            arg("--diagnostic", help="a longer look, taken now", action="store_true"),
            arg("--hours", help="length of the longer look", type=positive, default=24),
            arg("--json", help="print the stored JSON", action="store_true"),
            arg("--html", help="write a page that needs no network", metavar="FILE"),
        ),
    )
