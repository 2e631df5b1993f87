"""Cycles that are late, missing or failed, by their schedule."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from airflow_detection.domain.cron import interval, is_readable
from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Column, Fact, Kind, Status, Table, worst
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope
from airflow_detection.snapshot.verdicts.due import due, opened_from
from airflow_detection.snapshot.verdicts.expected import OPEN_CYCLE_GRACE

BACKFILL_DELAY = timedelta(days=1)
"""A cycle that was opened longer than this after its instant is a backfill or a replay, and not late."""
MAX_ROWS = {"hourly": 8, "diagnostic": 40}


@dataclass(slots=True, kw_only=True)
class _CycleTally:
    """Cycles that were due: how many there are of each outcome, or, where one went wrong, which (UTC)."""

    cycle_id: str
    due: int = 0
    closed: int = 0
    failed: list[datetime] = field(default_factory=list)
    late: list[datetime] = field(default_factory=list)
    missing: list[datetime] = field(default_factory=list)
    unclosed: list[datetime] = field(default_factory=list)
    marked: list[datetime] = field(default_factory=list)
    running: int = 0
    backfills: int = 0
    from_before: int = 0
    is_readable: bool = True
    delays_s: list[float] = field(default_factory=list)

    @property
    def status(self) -> Status:
        if self.failed or self.missing or self.unclosed or not self.is_readable:
            return Status.BAD
        return Status.ATTENTION if self.late or self.marked else Status.OK


class Cycles(BaseSection):
    """Outcome of each tick of each schedule."""

    name, title = "cycles", "Cycles: late, missing, failed"

    def query(self, scope: Scope) -> tuple[list[_CycleTally], list[Row]]:
        """Return a tally for each cycle, and the runs that failed."""
        runs: dict[str, dict[datetime, Row]] = defaultdict(dict)
        for row in scope.rows("cycle_runs"):
            runs[row["cycle_id"]][row["cycle_started_at"]] = row
        schedules = scope.rows("schedules")
        since = {
            s["cycle_id"]: opened_from(s["schedule"], scope.start)
            for s in schedules
            if is_readable(s["schedule"])
        }
        span = {"cycle_ids": list(since), "since": list(since.values())}
        opened: dict[str, list[datetime]] = defaultdict(list)
        for row in scope.rows("opened", "detection_verdicts", **span):
            opened[row["cycle_id"]].append(row["cycle_started_at"])
        ended = scope.ended_since()
        tallies = [
            _tally(s, runs[s["cycle_id"]], opened[s["cycle_id"]], ended, scope)
            for s in schedules
            if s["is_enabled"] or runs[s["cycle_id"]]
        ]
        failures = scope.rows(
            "failures",
            most=MAX_ROWS[scope.kind] + 1,
            since=min([scope.start, *(r["cycle_started_at"] for r in ended)]),
            cycle_ids=[r["cycle_id"] for r in ended],
            instants=[r["cycle_started_at"] for r in ended],
        )
        return tallies, failures

    def render(self, data: tuple[list[_CycleTally], list[Row]], scope: Scope) -> Findings:
        """Show a row for each cycle, the instants of those that went wrong, and the errors."""
        tallies, failures = data
        delays = [d for t in tallies for d in t.delays_s]
        counts = {
            name: sum(len(getattr(t, name)) for t in tallies)
            for name in ("failed", "missing", "late", "unclosed", "marked")
        }
        remarks = [f"{n} {name}" for name, n in counts.items() if n]
        remarks += [f"the schedule of {t.cycle_id} cannot be read" for t in tallies if not t.is_readable]
        due = sum(t.due for t in tallies)
        status = worst([t.status for t in tallies])
        if status is Status.OK and failures:
            status = Status.ATTENTION
        return Findings(
            status=status,
            summary=f"of {counted(due, 'cycle')} due: {', '.join(remarks)}"
            if remarks
            else f"{counted(due, 'cycle')} due, and done"
            if due
            else "no cycle was due",
            facts=(
                Fact(label="Due", value=due),
                Fact(label="Closed", value=sum(t.closed for t in tallies)),
                *(
                    Fact(label=name.capitalize(), value=n, status=_STATUS_BY_NAME[name] if n else None)
                    for name, n in counts.items()
                ),
                Fact(
                    label="Done after",
                    value=median(delays) if delays else None,
                    kind=Kind.SECONDS,
                    note="median, from its instant to its end",
                ),
            ),
            tables=(
                _table(tallies),
                *_instants(tallies, MAX_ROWS[scope.kind]),
                *_errors(failures, MAX_ROWS[scope.kind]),
            ),
        )


_STATUS_BY_NAME = {
    "failed": Status.BAD,
    "missing": Status.BAD,
    "late": Status.ATTENTION,
    "unclosed": Status.BAD,
    "marked": Status.ATTENTION,
}


def _tally(
    schedule: Row, runs: dict[datetime, Row], opened: list[datetime], ended: list[Row], scope: Scope
) -> _CycleTally:
    cron, since = schedule["schedule"], max(scope.start, schedule["start_date"])
    tally = _CycleTally(cycle_id=schedule["cycle_id"], is_readable=is_readable(cron))
    step = interval(cron, scope.start) if tally.is_readable else BACKFILL_DELAY
    live = schedule["live_since"] if schedule["has_run"] else since
    expected = set(runs)
    if schedule["is_enabled"] and tally.is_readable:
        expected.update(due(cron, since, scope.end, live_since=live, opened=opened))
    tally.due = len(expected)
    for at in sorted(expected):
        run = runs.get(at)
        is_over = scope.taken_at >= at + step
        if run is None:
            if is_over:
                tally.missing.append(at)
            else:
                tally.running += 1
            continue
        tally.closed += run["closed_at"] is not None
        _count(
            tally, run, at, step, is_over=is_over and scope.taken_at >= run["opened_at"] + OPEN_CYCLE_GRACE
        )
    for run in ended:
        if run["cycle_id"] == tally.cycle_id:
            tally.from_before += 1
            _count(tally, run, run["cycle_started_at"], step, is_over=True)
    return tally


def _count(tally: _CycleTally, run: Row, at: datetime, step: timedelta, *, is_over: bool) -> None:
    is_backfill = run["opened_at"] - at > BACKFILL_DELAY or (run["dag_run_id"] or "").startswith("backfill__")
    tally.backfills += is_backfill
    if run["closed_at"] is None:
        if is_over:
            tally.unclosed.append(at)
        else:
            tally.running += 1
        return
    summary = run["summary"] or {}
    if summary.get("failed") or summary.get("without_primary"):
        tally.failed.append(at)
    if summary.get("marked_successful"):
        tally.marked.append(at)
    if not is_backfill:
        delay = run["closed_at"] - at
        tally.delays_s.append(delay.total_seconds())
        if delay > step:
            tally.late.append(at)


def _table(tallies: list[_CycleTally]) -> Table:
    return Table(
        columns=(
            Column(label="Cycle", kind=Kind.CODE),
            Column(label="Due", kind=Kind.COUNT),
            Column(label="Closed", kind=Kind.COUNT),
            Column(label="Failed", kind=Kind.COUNT, help="a champion failed, or a model had none"),
            Column(label="Missing", kind=Kind.COUNT, help="due by the schedule, never opened"),
            Column(label="Late", kind=Kind.COUNT, weight=2, help="not done when the next was due"),
            Column(label="Unclosed", kind=Kind.COUNT, weight=2, help="opened, and never closed"),
            Column(
                label="Marked",
                kind=Kind.COUNT,
                weight=2,
                help="a task without a result was marked successful by hand",
            ),
            Column(label="Under way", kind=Kind.COUNT, weight=3),
            Column(label="Afterwards", kind=Kind.COUNT, weight=3, help="backfills and cycles of the past"),
            Column(
                label="From before",
                kind=Kind.COUNT,
                weight=3,
                help="were under way when the report before was taken: how they ended is counted here",
            ),
        ),
        rows=tuple(
            (
                t.cycle_id,
                t.due,
                t.closed,
                len(t.failed),
                len(t.missing),
                len(t.late),
                len(t.unclosed),
                len(t.marked),
                t.running,
                t.backfills,
                t.from_before,
            )
            for t in tallies
        ),
        marks=tuple(None if t.status is Status.OK else t.status for t in tallies),
        empty="no cycle is registered",
    )


def _instants(tallies: list[_CycleTally], max_rows: int) -> list[Table]:
    rows = [
        (t.cycle_id, name, at.isoformat())
        for name in ("missing", "unclosed", "failed", "marked", "late")
        for t in tallies
        for at in getattr(t, name)
    ]
    if not rows:
        return []
    return [
        Table(
            title="Which ones",
            columns=(
                Column(label="Cycle", kind=Kind.CODE),
                Column(label="Is"),
                Column(label="At", kind=Kind.INSTANT),
            ),
            rows=tuple(rows[:max_rows]),
            marks=tuple(_STATUS_BY_NAME[row[1]] for row in rows[:max_rows]),
            left_out=max(0, len(rows) - max_rows),
        )
    ]


def _errors(failures: list[Row], max_rows: int) -> list[Table]:
    if not failures:
        return []
    return [
        Table(
            title="Errors, newest first",
            columns=(
                Column(label="At", kind=Kind.INSTANT, weight=2),
                Column(label="Version", kind=Kind.CODE),
                Column(label="Role", weight=3),
                Column(label="Error"),
            ),
            rows=tuple(
                (
                    r["cycle_started_at"].isoformat(),
                    f"{r['model_id']}@{r['version']}",
                    r["role"],
                    r["error"] or "",
                )
                for r in failures[:max_rows]
            ),
            left_out=1 if len(failures) > max_rows else 0,
        )
    ]
