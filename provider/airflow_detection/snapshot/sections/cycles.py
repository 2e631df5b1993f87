"""Cycles that are late, missing or failed, by their schedule."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from airflow_detection.domain.cron import interval, is_readable
from airflow_detection.snapshot.rendering.formats import several
from airflow_detection.snapshot.report import Column, Fact, Kind, Status, Table, worst
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope
from airflow_detection.snapshot.verdicts.due import due, run_on
from airflow_detection.snapshot.verdicts.expected import PATIENCE

AFTERWARDS = timedelta(days=1)
"""What was opened this long after its instant is a backfill or a replay of the past, and not late."""
MOST = {"hourly": 8, "diagnostic": 40}


@dataclass(slots=True, kw_only=True)
class _Account:
    """What became of the cycles that were due."""

    cycle_id: str
    due: int = 0
    closed: int = 0
    failed: list[datetime] = field(default_factory=list)
    late: list[datetime] = field(default_factory=list)
    missing: list[datetime] = field(default_factory=list)
    unclosed: list[datetime] = field(default_factory=list)
    running: int = 0
    afterwards: int = 0
    from_before: int = 0
    is_readable: bool = True
    delays_s: list[float] = field(default_factory=list)

    @property
    def status(self) -> Status:
        if self.failed or self.missing or self.unclosed or not self.is_readable:
            return Status.BAD
        return Status.ATTENTION if self.late else Status.OK


class Cycles(BaseSection):
    """Each tick of each schedule, and what became of it."""

    name, title = "cycles", "Cycles: late, missing, failed"

    def query(self, scope: Scope) -> tuple[list[_Account], list[Row]]:
        """The account of each cycle, and what failed in them."""
        runs: dict[str, dict[datetime, Row]] = defaultdict(dict)
        for row in scope.rows("cycle_runs"):
            runs[row["cycle_id"]][row["cycle_started_at"]] = row
        schedules = scope.rows("schedules")
        since = {
            s["cycle_id"]: run_on(s["schedule"], scope.start) for s in schedules if is_readable(s["schedule"])
        }
        span = {"cycle_ids": list(since), "since": list(since.values())}
        opened: dict[str, list[datetime]] = defaultdict(list)
        for row in scope.rows("opened", "detection_verdicts", **span):
            opened[row["cycle_id"]].append(row["cycle_started_at"])
        over = scope.ended_since()
        accounts = [
            _account(s, runs[s["cycle_id"]], opened[s["cycle_id"]], over, scope)
            for s in schedules
            if s["is_enabled"] or runs[s["cycle_id"]]
        ]
        failures = scope.rows(
            "failures",
            most=MOST[scope.kind] + 1,
            since=min([scope.start, *(r["cycle_started_at"] for r in over)]),
            cycle_ids=[r["cycle_id"] for r in over],
            instants=[r["cycle_started_at"] for r in over],
        )
        return accounts, failures

    def render(self, found: tuple[list[_Account], list[Row]], scope: Scope) -> Findings:
        """A line for each cycle, the instants in question, and the errors."""
        accounts, failures = found
        delays = [d for a in accounts for d in a.delays_s]
        counts = {
            name: sum(len(getattr(a, name)) for a in accounts)
            for name in ("failed", "missing", "late", "unclosed")
        }
        said = [f"{n} {name}" for name, n in counts.items() if n]
        said += [f"the schedule of {a.cycle_id} cannot be read" for a in accounts if not a.is_readable]
        due = sum(a.due for a in accounts)
        status = worst([a.status for a in accounts])
        if status is Status.OK and failures:
            status = Status.ATTENTION
        return Findings(
            status=status,
            summary=f"of {several(due, 'cycle')} due: {', '.join(said)}"
            if said
            else f"{several(due, 'cycle')} due, and done"
            if due
            else "no cycle was due",
            facts=(
                Fact(label="Due", value=due),
                Fact(label="Closed", value=sum(a.closed for a in accounts)),
                *(
                    Fact(label=name.capitalize(), value=n, status=_GRAVE[name] if n else None)
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
                _table(accounts),
                *_instants(accounts, MOST[scope.kind]),
                *_errors(failures, MOST[scope.kind]),
            ),
        )


_GRAVE = {
    "failed": Status.BAD,
    "missing": Status.BAD,
    "late": Status.ATTENTION,
    "unclosed": Status.BAD,
}


def _account(
    schedule: Row, runs: dict[datetime, Row], opened: list[datetime], over: list[Row], scope: Scope
) -> _Account:
    cron, since = schedule["schedule"], max(scope.start, schedule["start_date"])
    held = _Account(cycle_id=schedule["cycle_id"], is_readable=is_readable(cron))
    step = interval(cron, scope.start) if held.is_readable else AFTERWARDS
    live = schedule["live_since"] if schedule["has_run"] else since
    expected = set(runs)
    if schedule["is_enabled"] and held.is_readable:
        expected.update(due(cron, since, scope.end, live_since=live, opened=opened))
    held.due = len(expected)
    for at in sorted(expected):
        run = runs.get(at)
        is_over = scope.taken_at >= at + step
        if run is None:
            if is_over:
                held.missing.append(at)
            else:
                held.running += 1
            continue
        held.closed += run["closed_at"] is not None
        _judge(held, run, at, step, is_over=is_over and scope.taken_at >= run["opened_at"] + PATIENCE)
    for run in over:
        if run["cycle_id"] == held.cycle_id:
            held.from_before += 1
            _judge(held, run, run["cycle_started_at"], step, is_over=True)
    return held


def _judge(held: _Account, run: Row, at: datetime, step: timedelta, *, is_over: bool) -> None:
    is_afterwards = run["opened_at"] - at > AFTERWARDS or (run["dag_run_id"] or "").startswith("backfill__")
    held.afterwards += is_afterwards
    if run["closed_at"] is None:
        if is_over:
            held.unclosed.append(at)
        else:
            held.running += 1
        return
    if (run["summary"] or {}).get("failed") or (run["summary"] or {}).get("without_primary"):
        held.failed.append(at)
    if not is_afterwards:
        delay = run["closed_at"] - at
        held.delays_s.append(delay.total_seconds())
        if delay > step:
            held.late.append(at)


def _table(accounts: list[_Account]) -> Table:
    return Table(
        columns=(
            Column(label="Cycle", kind=Kind.CODE),
            Column(label="Due", kind=Kind.COUNT),
            Column(label="Closed", kind=Kind.COUNT),
            Column(label="Failed", kind=Kind.COUNT, help="a champion failed, or a model had none"),
            Column(label="Missing", kind=Kind.COUNT, help="due by the schedule, never opened"),
            Column(label="Late", kind=Kind.COUNT, weight=2, help="not done when the next was due"),
            Column(label="Unclosed", kind=Kind.COUNT, weight=2, help="opened, and never closed"),
            Column(label="Under way", kind=Kind.COUNT, weight=3),
            Column(label="Afterwards", kind=Kind.COUNT, weight=3, help="backfills and cycles of the past"),
            Column(
                label="From before",
                kind=Kind.COUNT,
                weight=3,
                help="were under way when the report before was taken: how they ended is told here",
            ),
        ),
        rows=tuple(
            (
                a.cycle_id,
                a.due,
                a.closed,
                len(a.failed),
                len(a.missing),
                len(a.late),
                len(a.unclosed),
                a.running,
                a.afterwards,
                a.from_before,
            )
            for a in accounts
        ),
        marks=tuple(None if a.status is Status.OK else a.status for a in accounts),
        empty="no cycle is registered",
    )


def _instants(accounts: list[_Account], most: int) -> list[Table]:
    rows = [
        (a.cycle_id, name, at.isoformat())
        for name in ("missing", "unclosed", "failed", "late")
        for a in accounts
        for at in getattr(a, name)
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
            rows=tuple(rows[:most]),
            marks=tuple(_GRAVE[row[1]] for row in rows[:most]),
            left_out=max(0, len(rows) - most),
        )
    ]


def _errors(failures: list[Row], most: int) -> list[Table]:
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
                for r in failures[:most]
            ),
            left_out=1 if len(failures) > most else 0,
        )
    ]
