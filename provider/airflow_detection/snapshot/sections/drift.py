"""Do the hourly counts still say what the events say?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from airflow_detection.snapshot.rendering.formats import several
from airflow_detection.snapshot.report import Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

SHARE, LEAST = 0.02, 1
KEPT_UP = timedelta(hours=72)
"""How far back upkeep counts anew; an older hour that was never counted is history, and not drift."""
MOST = {"hourly": 12, "diagnostic": 60}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One category in one hour: `events` without those that came late."""

    hour: datetime
    category: str
    events: int | None
    counted: int | None
    late: int
    is_kept_up: bool

    @property
    def what(self) -> str:
        """What is the matter, or nothing."""
        if self.counted is None:
            return "only in events" if self.events else ""
        if self.events is None:
            return "only in the counts"
        allowed = max(LEAST, SHARE * max(self.events, self.counted))
        return "differs" if abs(self.events - self.counted) > allowed else ""


class Drift(BaseSection):
    """`detection_stats_hourly` beside `detection_events`, hour by hour."""

    name, title = "drift", "Drift: hourly counts and events"

    def query(self, scope: Scope) -> list[Difference]:
        """Every category of every full hour of the trailing day."""
        until = scope.end.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        day = scope.day.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        kept_up = scope.taken_at - KEPT_UP
        return [_difference(row, kept_up) for row in scope.rows("drift", day=day, until=until)]

    def render(self, found: list[Difference], scope: Scope) -> Findings:
        """What differs; what came late, and hours that nobody counts any more, apart."""
        drifted = [d for d in found if d.what and d.is_kept_up]
        never = {d.hour for d in found if d.what and not d.is_kept_up}
        late = sum(d.late for d in found)
        one_sided = sorted({d.category for d in drifted if d.what.startswith("only")})
        said = []
        if drifted:
            said.append(f"{several(len(drifted), 'hourly count')} off from the events")
        if never:
            said.append(f"{several(len(never), 'hour')} further back than upkeep counts")
        if late:
            said.append(f"{several(late, 'event')} after their hour was counted")
        most = MOST[scope.kind]
        return Findings(
            status=Status.BAD if drifted else Status.ATTENTION if never else Status.OK,
            summary="; ".join(said) or f"{len(found)} hourly counts fit the events",
            facts=(
                Fact(label="Compared", value=len(found), note="an hour and a category each"),
                Fact(
                    label="Differ",
                    value=sum(d.what == "differs" for d in drifted),
                    status=Status.BAD if any(d.what == "differs" for d in drifted) else None,
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
                    value=len(never),
                    note="hours",
                    status=Status.ATTENTION if never else None,
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
                        (d.hour.isoformat(), d.category, d.events, d.counted, d.late, d.what)
                        for d in drifted[:most]
                    ),
                    marks=(Status.BAD,) * len(drifted[:most]),
                    left_out=max(0, len(drifted) - most),
                    empty="every count fits",
                ),
            ),
        )


def _difference(row: Row, kept_up: datetime) -> Difference:
    late = row["late"] or 0
    events = None if row["events"] is None else row["events"] - late
    if events == 0 and row["counted"] is None:
        events = None  # all of it came late
    return Difference(
        hour=row["hour"],
        category=row["category"],
        events=events,
        counted=row["counted"],
        late=late,
        is_kept_up=row["counted_at"] is not None or row["hour"] >= kept_up,
    )
