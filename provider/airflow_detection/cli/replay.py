"""`airflow detection replay`: versions run over many past cycles at once, without a Dag run for each."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from airflow.cli.cli_config import ActionCommand

from airflow_detection.cli.command import (
    Arguments,
    arg,
    command,
    connected,
    fail,
    instant,
    positive,
    say,
    warn,
)
from airflow_detection.errors import ConfigurationError

INTERRUPTED = 130
"""Exit code of a command that Ctrl-C has ended."""

Ended = tuple[str, str, str | None]
"""How a version ended in a cycle: `model@version`, its outcome, the reason if it has no result."""


@command
def replay(args: Arguments) -> None:
    """Replay versions over the cycles that ran in a stretch of time; those with a replay are left out."""
    from airflow_detection.cycle.replay import cycles_to_replay, stretches
    from airflow_detection.domain.specs import Outcome
    from airflow_detection.store import registry

    if args.start >= args.end:
        raise ConfigurationError(
            f"--from {args.start.isoformat()} must be before --to {args.end.isoformat()}"
        )
    with connected() as (db, _):
        cycles, count = cycles_to_replay(
            db, args.cycle, args.versions, start=args.start, end=args.end, again=args.again
        )
        parts = list(stretches(cycles, registry.cycle_spec(db, args.cycle).lookback))
    if not count:
        raise ConfigurationError(
            f"no cycle of {args.cycle!r} ran from {args.start.isoformat()} to {args.end.isoformat()}:"
            " a replay reads what its champions have stored"
        )
    say(f"{count} cycles ran, {count - len(cycles)} of them are replayed already: {len(cycles)} to replay")
    outcomes: Counter[tuple[str, str]] = Counter()
    reasons: Counter[tuple[str, str, str]] = Counter()
    for label, outcome, reason in _replayed(args.cycle, args.versions, parts, args.jobs):
        outcomes[label, outcome] += 1
        if reason is not None:
            reasons[label, outcome, reason] += 1
    for (label, outcome), number in sorted(outcomes.items()):
        say(f"{label}: {number} {outcome}")
    for (label, outcome, reason), number in reasons.most_common(args.reasons):
        warn(f"{label} {outcome} in {number} cycles: {reason}")
    if cycles and not all(outcome == Outcome.SUCCEEDED for _, outcome in outcomes):
        sys.exit(1)


def _replayed(
    cycle_id: str, labels: Sequence[str], parts: Sequence[Sequence[datetime]], jobs: int
) -> Iterator[Ended]:
    """Replay parts of a stretch of time, so many at a time, and show how far it is."""
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    total = sum(map(len, parts)) * len(labels)
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("fork"))
    ended = 0
    try:
        futures = [pool.submit(_replay_part, cycle_id, labels, part) for part in parts]
        with _progress(total) as advance:
            for future in as_completed(futures):
                results = future.result()
                ended += len(results)
                advance(len(results))
                yield from results
    except KeyboardInterrupt:
        warn(f"stopped: {ended} of {total} are stored; the same command goes on with the others")
        sys.exit(INTERRUPTED)
    except BrokenProcessPool:
        fail(
            f"a process of the replay was killed: {ended} of {total} are stored; the same command goes on"
            " with the others"
        )
    finally:
        pool.shutdown(cancel_futures=True)


def _replay_part(cycle_id: str, labels: Sequence[str], cycles: Sequence[datetime]) -> list[Ended]:
    """In a process of its own: replay some cycles; the reason of each failure is returned, not logged."""
    from airflow_detection.cycle.replay import replay
    from airflow_detection.operators.context import open_artifact, reader_conninfo_of

    logging.getLogger("airflow_detection").setLevel(logging.CRITICAL)
    with connected() as (db, settings):
        return [
            (replayed.report.version.label, replayed.report.outcome.value, replayed.report.error)
            for replayed in replay(
                db,
                settings,
                cycle_id,
                labels,
                cycles,
                reader_conninfo=reader_conninfo_of(settings),
                opener=open_artifact,
            )
        ]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal's stderr how many have ended and the time that is left; give what counts them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("replays, left:"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda number: progress.advance(task, number)


def action() -> ActionCommand:
    """The command, for `airflow detection`."""
    return ActionCommand(
        "replay",
        "Replay versions over many past cycles, without a Dag run for each",
        replay,
        (
            arg("cycle", help="the cycle's id", metavar="CYCLE"),
            arg(
                "--versions",
                help="the versions to replay",
                nargs="+",
                required=True,
                metavar="MODEL@VERSION",
            ),
            arg(
                "--from",
                help="cycles from this instant (UTC) on",
                type=instant,
                required=True,
                metavar="T",
                dest="start",
            ),
            arg(
                "--to",
                help="cycles before this instant (UTC)",
                type=instant,
                required=True,
                metavar="T",
                dest="end",
            ),
            arg("--jobs", help="how many processes replay at a time: 1", type=positive, default=1),
            arg("--again", help="replay those that have a replay as well", action="store_true"),
            arg(
                "--reasons",
                help="how many different reasons to show of those without a result: 10",
                type=positive,
                default=10,
            ),
        ),
    )
