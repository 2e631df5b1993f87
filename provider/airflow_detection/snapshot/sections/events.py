"""Events that began, ended, were retracted, and those that are open."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from airflow_detection.domain.scores import SEVERITIES
from airflow_detection.snapshot.report import Column, Fact, Kind, Line, Series, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

HUES = {"CRITICAL": 5, "HIGH": 2, "MEDIUM": 1, "LOW": 6}
HOUR = timedelta(hours=1)
MAX_ROWS = {"hourly": 5, "diagnostic": 25}
EventRows = tuple[list[Row], list[Row], list[Row]]
"""Counts, new events by hour, and events that are CRITICAL and open."""


class Events(BaseSection):
    """Events by category and severity; the CRITICAL ones that are open, oldest first."""

    name, title = "events", "Events"

    def query(self, scope: Scope) -> EventRows:
        """Return the counts, the new events of the trailing day, and those that are CRITICAL and open."""
        return (
            scope.rows("events"),
            scope.rows("event_hours"),
            scope.rows("oldest_critical", most=MAX_ROWS[scope.kind]),
        )

    def render(self, data: EventRows, scope: Scope) -> Findings:
        """Show a row for each category."""
        counts, hours, critical = data
        total = {name: sum(r[name] for r in counts) for name in ("new", "closed", "retracted", "open")}
        open_critical = sum(r["open"] for r in counts if r["severity"] == "CRITICAL")
        oldest = critical[0] if critical else None
        age = (scope.end - oldest["first_seen_at"]).total_seconds() if oldest else None
        return Findings(
            status=Status.ATTENTION if oldest else Status.OK,
            summary=f"{total['new']} new, {total['closed']} closed, {total['open']} open"
            + (f"; {oldest['entity_id']} has been CRITICAL the longest" if oldest else ""),
            facts=(
                *(Fact(label=name.capitalize(), value=n) for name, n in total.items()),
                Fact(
                    label="CRITICAL and open",
                    value=open_critical,
                    status=Status.ATTENTION if open_critical else None,
                ),
                Fact(
                    label="Oldest unhandled CRITICAL",
                    value=age,
                    kind=Kind.SECONDS,
                    note=f"{oldest['entity_id']}, {oldest['category']}" if oldest else "none",
                ),
            ),
            tables=(_table(counts), *_critical(critical, open_critical)),
            series=_series(hours, scope),
        )


def _table(counts: list[Row]) -> Table:
    by_category: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in counts:
        sums = by_category[row["category"]]
        for name in ("new", "closed", "retracted", "open"):
            sums[name] += row[name]
        sums[row["severity"]] += row["open"]
    return Table(
        columns=(
            Column(label="Category", kind=Kind.CODE),
            Column(label="New", kind=Kind.COUNT),
            Column(label="Closed", kind=Kind.COUNT, weight=2),
            Column(label="Retracted", kind=Kind.COUNT, weight=2),
            Column(label="Open", kind=Kind.COUNT),
            *(
                Column(
                    label=s,
                    kind=Kind.COUNT,
                    weight=1 if s == "CRITICAL" else 3,
                    help="of those that are open",
                )
                for s in SEVERITIES
            ),
        ),
        rows=tuple(
            (category, *(sums[n] for n in ("new", "closed", "retracted", "open", *SEVERITIES)))
            for category, sums in sorted(by_category.items())
        ),
        empty="no event began, ended or is open",
    )


def _critical(critical: list[Row], count: int) -> list[Table]:
    if not critical:
        return []
    return [
        Table(
            title="CRITICAL and open, oldest first",
            columns=(
                Column(label="Category", kind=Kind.CODE, weight=2),
                Column(label="Entity", kind=Kind.CODE),
                Column(label="Score", kind=Kind.SCORE, weight=2),
                Column(label="Since", kind=Kind.INSTANT),
                Column(label="Last seen", kind=Kind.INSTANT, weight=3),
            ),
            rows=tuple(
                (
                    r["category"],
                    r["entity_id"],
                    r["score"],
                    r["first_seen_at"].isoformat(),
                    r["last_seen_at"].isoformat(),
                )
                for r in critical
            ),
            left_out=max(0, count - len(critical)),
        )
    ]


def _series(rows: list[Row], scope: Scope) -> tuple[Series, ...]:
    if not rows:
        return ()
    hours = [scope.end - (n + 1) * HOUR for n in reversed(range(-((scope.day - scope.end) // HOUR)))]
    by_severity: dict[str, dict[datetime, int]] = defaultdict(dict)
    for row in rows:
        by_severity[row["severity"]][row["hour"]] = row["events"]
    return (
        Series(
            title="New events by severity",
            kind=Kind.COUNT,
            at=tuple(h.isoformat() for h in hours),
            lines=tuple(
                Line(label=s, values=tuple(by_severity[s].get(h, 0) for h in hours), hue=HUES[s])
                for s in SEVERITIES
                if s in by_severity
            ),
            is_bars=True,
        ),
    )
