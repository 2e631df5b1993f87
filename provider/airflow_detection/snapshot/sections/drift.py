"""Agreement of the hourly counts with the events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

ALLOWED_SHARE, ALLOWED_EVENTS = 0.02, 1
"""A count may differ from its events by this share of the larger number, or by so many, if that is more."""
RECOUNT_PERIOD = timedelta(hours=72)
"""How far back upkeep counts again; an older hour that was never counted is not drift."""
MAX_ROWS = {"hourly": 12, "diagnostic": 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyCount:
    """One category in one hour (UTC): its count and its events, `events` without those that came late."""

    hour: datetime
    category: str
    events: int | None
    counted: int | None
    late: int
    is_recounted: bool

    @property
    def difference(self) -> str:
        """How the count and the events differ; empty where they agree."""
        if self.counted is None:
            return "only in events" if self.events else ""
        if self.events is None:
            return "only in the counts"
        allowed = max(ALLOWED_EVENTS, ALLOWED_SHARE * max(self.events, self.counted))
        return "differs" if abs(self.events - self.counted) > allowed else ""


class Drift(BaseSection):
    """`detection_stats_hourly` beside `detection_events`, hour by hour."""

    name, title = "drift", "Drift: hourly counts and events"

    def query(self, scope: Scope) -> list[HourlyCount]:
        """Return every category of every full hour of the trailing day."""
        until = scope.end.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        day = scope.day.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        recounted_since = scope.taken_at - RECOUNT_PERIOD
        return [_hourly_count(row, recounted_since) for row in scope.rows("drift", day=day, until=until)]

    def render(self, data: list[HourlyCount], scope: Scope) -> Findings:
        """Show the counts that differ; apart from them late events, and hours no longer counted."""
        drifted = [c for c in data if c.difference and c.is_recounted]
        uncounted = {c.hour for c in data if c.difference and not c.is_recounted}
        late = sum(c.late for c in data)
        one_sided = sorted({c.category for c in drifted if c.difference.startswith("only")})
        remarks = []
        if drifted:
            remarks.append(f"{counted(len(drifted), 'hourly count')} off from the events")
        if uncounted:
            remarks.append(f"{counted(len(uncounted), 'hour')} further back than upkeep counts")
        if late:
            remarks.append(f"{counted(late, 'event')} after their hour was counted")
        max_rows = MAX_ROWS[scope.kind]
        return Findings(
            status=Status.BAD if drifted else Status.ATTENTION if uncounted else Status.OK,
            summary="; ".join(remarks) or f"{len(data)} hourly counts fit the events",
            facts=(
                Fact(label="Compared", value=len(data), note="an hour and a category each"),
                Fact(
                    label="Differ",
                    value=sum(c.difference == "differs" for c in drifted),
                    status=Status.BAD if any(c.difference == "differs" for c in drifted) else None,
                    note="by more than 1 and 2 %",
                ),
                Fact(
                    label="On one side only",
                    value=len(one_sided),
                    note=", ".join(one_sided[:4]),
                    status=Status.BAD if one_sided else None,
                ),
                Fact(label="Late", value=late, note="written after the count of their hour"),
                Fact(
                    label="Not counted any more",
                    value=len(uncounted),
                    note="hours",
                    status=Status.ATTENTION if uncounted else None,
                ),
            ),
            tables=(
                Table(
                    columns=(
                        Column(label="Hour", kind=Kind.INSTANT),
                        Column(label="Category", kind=Kind.CODE),
                        Column(label="Events", kind=Kind.COUNT),
                        Column(label="Counted", kind=Kind.COUNT),
                        Column(label="Late", kind=Kind.COUNT, weight=2),
                        Column(label="Is"),
                    ),
                    rows=tuple(
                        (c.hour.isoformat(), c.category, c.events, c.counted, c.late, c.difference)
                        for c in drifted[:max_rows]
                    ),
                    marks=(Status.BAD,) * len(drifted[:max_rows]),
                    left_out=max(0, len(drifted) - max_rows),
                    empty="every count fits",
                ),
            ),
        )


def _hourly_count(row: Row, recounted_since: datetime) -> HourlyCount:
    late = row["late"] or 0
    events = None if row["events"] is None else row["events"] - late
    if events == 0 and row["counted"] is None:
        events = None  # all of it came late
    return HourlyCount(
        hour=row["hour"],
        category=row["category"],
        events=events,
        counted=row["counted"],
        late=late,
        is_recounted=row["counted_at"] is not None or row["hour"] >= recounted_since,
    )
