"""`airflow detection compare`: two versions of a model over past cycles, for eyes or for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.command import Arguments, arg, command, connected, instant, say_json
from airflow_detection.cli.page import write_page
from airflow_detection.domain.links import page

if TYPE_CHECKING:
    from airflow_detection.snapshot.report import Report


@command
def compare(args: Arguments) -> None:
    """Compare two versions of a model over the cycles that both completed."""
    from airflow_detection import __version__
    from airflow_detection.config import thresholds
    from airflow_detection.engine import flags
    from airflow_detection.snapshot.comparison import compare_versions
    from airflow_detection.snapshot.comparison_report import comparison_report

    with connected() as (db, settings):
        comparison = compare_versions(
            db,
            args.first,
            args.second,
            start=args.start,
            end=args.end,
            known_at=args.known_at,
            thresholds=thresholds(),
            use_model_registry=flags.use_model_registry(),
        )
    report = comparison_report(comparison, schema=settings.schema, code_version=__version__)
    if args.html:
        address = page("compare", first=args.first, second=args.second, start=args.start, end=args.end)
        write_page(args.html, report.to_json(), address)
    if args.json:
        say_json(comparison.to_json())
    elif not args.html:
        _print(report)


def _print(report: Report) -> None:
    from rich.console import Console

    from airflow_detection.snapshot.rendering.terminal import print_report

    print_report(report.to_json(), Console())


def action() -> ActionCommand:
    """The command, for `airflow detection`."""
    return ActionCommand(
        "compare",
        "Compare two versions of a model over past cycles",
        compare,
        (
            arg("first", help="the one to compare with, such as the champion", metavar="MODEL@A"),
            arg("second", help="the one in question", metavar="MODEL@B"),
            arg("--from", help="cycles from this instant (UTC) on", type=instant, metavar="T", dest="start"),
            arg("--to", help="cycles before this instant (UTC)", type=instant, metavar="T", dest="end"),
            arg(
                "--as-known-at",
                help="with the labels and runs of this instant (UTC); now unless given",
                type=instant,
                metavar="T",
                dest="known_at",
            ),
            arg("--json", help="print the figures as JSON", action="store_true"),
            arg("--html", help="write a page that needs no network", metavar="FILE"),
        ),
    )
