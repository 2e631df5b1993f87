"""The demo's output on the terminal."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from rich import box
from rich.console import Console
from rich.markup import escape as without_markup
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from airflow_detection.domain.text import visible
from airflow_detection.evidence.labelled import Interval
from airflow_detection.promotion.judgement import Judgement
from airflow_detection.snapshot.report import Standing
from demo.detection import Result
from demo.maintenance import Run

MAX_WIDTH = 100
REFRESH_S = 0.7
MAX_ERRORS = 6
ROLES = ("PRIMARY", "SHADOW", "CHALLENGER")
CONDITION_COLOURS = {"passed": "green", "failed": "red", "unknown": "yellow"}
COLOURS = {"SUCCEEDED": "green", "FAILED": "red", "SKIPPED": "yellow"}


def make_console(*, stderr: bool = False) -> Console:
    """Return a console that is never wider than MAX_WIDTH characters."""
    console = Console(stderr=stderr, highlight=False)
    console.width = min(console.width, MAX_WIDTH) if console.is_terminal else MAX_WIDTH
    return console


def escape(text: str) -> str:
    """Return text without markup and without control characters."""
    return without_markup(visible(text))


@dataclass(slots=True)
class Step:
    """One line of the list of steps; `detail` is its result in a few words."""

    detail: str = ""


@dataclass(slots=True)
class Screen:
    """The terminal of one demo."""

    console: Console = field(default_factory=make_console)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show that the step `name` runs, and print its line when it is done; print nothing when it fails."""
        step, start_s = Step(), time.monotonic()
        with self.console.status(f"[bold]{escape(name)}[/]"):
            yield step
        duration_s = time.monotonic() - start_s
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=24)
        line.add_column(width=MAX_WIDTH - 24 - 1 - 7 - 6, overflow="fold")
        line.add_column(width=7, justify="right", style="dim")
        line.add_row("[green]✓[/]", escape(name), f"[dim]{escape(step.detail)}[/]", f"{duration_s:.1f} s")
        self.console.print(line)

    def print(self, text: str = "") -> None:
        """Print one line, which may hold rich's markup."""
        self.console.print(text, soft_wrap=True)

    def follow(self, total: int, states: Callable[[], Counter[str]]) -> Counter[str]:
        """Show a progress bar until `total` runs have ended, and return how they ended."""
        columns = (
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("cycles"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[note]}[/]"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            bar = progress.add_task("", total=total, note="")
            while True:
                counts = states()
                ended = counts["success"] + counts["failed"]
                progress.update(bar, completed=ended, note=_note(counts))
                if ended >= total:
                    return counts
                time.sleep(REFRESH_S)

    def results(self, results: Sequence[Result]) -> None:
        """Print one row for each version: how its cycles ended, and medians over the cycles."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", border_style="dim", pad_edge=False)
        table.add_column("model", no_wrap=True)
        table.add_column("version", no_wrap=True)
        table.add_column("role", no_wrap=True)
        table.add_column("cycles")
        for name in ("inputs", "outputs", "ms"):
            table.add_column(name, justify="right", no_wrap=True)
        by_version: dict[tuple[str, str, str], list[Result]] = {}
        for result in results:
            by_version.setdefault((result.model_id, result.role, result.version), []).append(result)
        previous = None
        for key in sorted(by_version, key=lambda key: (key[0], ROLES.index(key[1]), key[2])):
            model_id, role, version = key
            name = "" if model_id == previous else escape(model_id)
            style = "" if role == "PRIMARY" else "dim"
            table.add_row(name, escape(version), Text(role, style), *_cells(by_version[key]))
            previous = model_id
        self.console.print(table)
        errors = Counter(f"{r.model_id} {r.version}: {first_line(r.error)}" for r in results if r.error)
        for text, times in errors.most_common(MAX_ERRORS):
            self.print(f"[red]{times} x[/] {escape(text)}")

    def maintenance(self, runs: Sequence[Run]) -> None:
        """Print one row for each run of the maintenance Dag."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", border_style="dim", pad_edge=False)
        table.add_column("maintenance (UTC)", no_wrap=True)
        table.add_column("started by")
        table.add_column("run")
        table.add_column("tasks")
        for run in runs:
            colour = {"success": "green", "failed": "red"}.get(run.state, "yellow")
            tasks = ", ".join(f"{name} {state}" for name, state in run.tasks)
            table.add_row(f"{run.at:%Y-%m-%d %H:%M}", run.kind, f"[{colour}]{run.state}[/]", escape(tasks))
        self.console.print(table)

    def report(self, headline: str, standings: Sequence[Standing], *, at: datetime) -> None:
        """Print a row for each model, with the worst verdict of each version, and how to read the report."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", border_style="dim", pad_edge=False)
        table.add_column("report", no_wrap=True)
        for role in ROLES:
            table.add_column(role)
        for model_id in sorted({s.model_id for s in standings}):
            of_model = [s for s in standings if s.model_id == model_id]
            cells = (", ".join(_standing(s) for s in of_model if s.role == role) for role in ROLES)
            table.add_row(escape(model_id), *cells)
        if standings:
            self.console.print(table)
        self.print(f"[bold]{escape(headline)}[/]")
        self.print(f"[dim]all of that report: airflow detection snapshot --at {at:%Y-%m-%dT%H:%MZ}[/]")

    def judgement(self, judgement: Judgement) -> None:
        """Print the two versions beside the labels, and each condition of the policy."""
        comparison = judgement.comparison
        if comparison.labelled is not None:
            table = Table(box=box.SIMPLE_HEAD, header_style="bold", border_style="dim", pad_edge=False)
            table.add_column(f"beside {comparison.labelled.units} labels")
            for name in ("found", "false alarms", "missed", "precision", "recall"):
                table.add_column(name, justify="right", no_wrap=True)
            sides = (
                (comparison.first, comparison.labelled.first),
                (comparison.second, comparison.labelled.second),
            )
            for side, record in sides:
                counts = (record.true_positives, record.false_positives, record.false_negatives)
                figures = (record.precision, record.recall)
                table.add_row(escape(side.label), *map(str, counts), *map(_interval, figures))
            self.console.print(table)
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", border_style="dim", pad_edge=False)
        for name in ("condition", "is", "because", "must be"):
            table.add_column(name)
        for condition in judgement.conditions:
            colour = CONDITION_COLOURS[condition.state.value]
            state = f"[{colour}]{condition.state}[/]"
            table.add_row(condition.name, state, escape(condition.reason), escape(condition.bound))
        self.console.print(table)
        verdict = "[green]the gate has passed[/]" if judgement.is_passed else "[red]the gate refuses it[/]"
        self.print(f"[bold]{escape(comparison.second.label)}: {verdict}[/]")


def _interval(interval: Interval) -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return ""
    return f"{interval.value:.2f} [dim]({interval.low:.2f} to {interval.high:.2f})[/]"


def _standing(standing: Standing) -> str:
    colour = "red" if standing.is_bad else "green"
    return f"[dim]{escape(standing.version)}[/] [{colour}]{escape(standing.worst)}[/]"


def first_line(text: str) -> str:
    """Return the first line, at most 200 characters."""
    return text.strip().split("\n", 1)[0][:200]


def _note(states: Counter[str]) -> str:
    return " ".join(f"{states[name]} {name}" for name in ("running", "queued", "failed") if states[name])


def _cells(results: Sequence[Result]) -> tuple[str, ...]:
    outcomes = Counter(_outcome(result) for result in results)
    return (
        "\n".join(f"{count} {outcome}" for outcome, count in outcomes.most_common()),
        _median([r.input_count for r in results]),
        _median([r.output_count for r in results]),
        _median([r.duration_ms for r in results]),
    )


def _outcome(result: Result) -> str:
    outcome = result.outcome or "NO MANIFEST"
    age = "" if result.is_new or not result.outcome else " (old)"
    return f"[{COLOURS.get(outcome, 'red')}]{outcome}[/]{age}"


def _median(numbers: Sequence[float | None]) -> str:
    values = [number for number in numbers if number is not None]
    return f"{median(values):,.0f}" if values else ""
