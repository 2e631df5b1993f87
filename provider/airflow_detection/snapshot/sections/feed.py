"""Is what the cycles are fed fresh and complete?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from airflow_detection.snapshot.report import Column, Fact, Kind, Line, Series, Status, Table, worst
from airflow_detection.snapshot.schedule import interval
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

STALE_CYCLES = 2
FEW_MADS, FEW_SHARE = 6, 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class _Feed:
    cycle_id: str
    step: timedelta
    rows: list[Row]
    start: datetime

    @property
    def now(self) -> list[Row]:
        return [r for r in self.rows if r["cycle_started_at"] >= self.start]

    @property
    def usual(self) -> float | None:
        """The median of the day before, of inputs."""
        held = self._before
        return median(held) if held else None

    @property
    def floor(self) -> float | None:
        """Below this the inputs are too few: min(median - 6 MAD, 0.7 median) of the day before."""
        held = self._before
        if not held:
            return None
        middle = median(held)
        mad = median(abs(n - middle) for n in held)
        return max(0.0, min(middle - FEW_MADS * mad, FEW_SHARE * middle))

    @property
    def _before(self) -> list[int]:
        return [r["inputs"] for r in self.rows if r["cycle_started_at"] < self.start and r["inputs"]]

    @property
    def lags(self) -> list[tuple[datetime, float | None]]:
        return [(r["cycle_started_at"], _lag_s(r)) for r in self.now]

    @property
    def stale(self) -> int:
        limit = (STALE_CYCLES * self.step).total_seconds()
        return sum(lag is not None and lag > limit for _, lag in self.lags)

    @property
    def few(self) -> int:
        floor = self.floor
        return 0 if floor is None else sum(0 < r["inputs"] < floor for r in self.now)

    @property
    def empty(self) -> int:
        return sum(not r["inputs"] for r in self.now)

    @property
    def status(self) -> Status:
        if not self.now:
            return Status.ATTENTION
        last = self.now[-1]
        lag = _lag_s(last)
        is_stale = lag is not None and lag > (STALE_CYCLES * self.step).total_seconds()
        if not last["inputs"] or is_stale or (self.floor is not None and last["inputs"] < self.floor):
            return Status.BAD
        return Status.ATTENTION if self.stale or self.few or self.empty else Status.OK


def _lag_s(row: Row) -> float | None:
    newest: datetime | None = row["newest"]
    return None if newest is None else (row["cycle_started_at"] - newest).total_seconds()


class Feed(BaseSection):
    """Newest input and number of inputs of each cycle, beside the day before."""

    name, title = "feed", "Feed: freshness and completeness"

    def query(self, scope: Scope) -> list[_Feed]:
        """The inputs of each cycle, from the manifests."""
        by_cycle: dict[str, list[Row]] = defaultdict(list)
        for row in scope.rows("feed"):
            by_cycle[row["cycle_id"]].append(row)
        return [
            _Feed(
                cycle_id=s["cycle_id"],
                step=interval(s["schedule"], scope.start),
                rows=by_cycle[s["cycle_id"]],
                start=scope.start,
            )
            for s in scope.rows("schedules")
            if s["is_enabled"] or by_cycle[s["cycle_id"]]
        ]

    def render(self, found: list[_Feed], scope: Scope) -> Findings:
        """A line for each cycle, and the inputs of the trailing day."""
        del scope
        lags = [lag for f in found for _, lag in f.lags if lag is not None]
        return Findings(
            status=worst([f.status for f in found]),
            summary="; ".join(_said(f) for f in found) or "no cycle is registered",
            facts=(
                Fact(label="Cycles with inputs", value=sum(bool(r["inputs"]) for f in found for r in f.now)),
                Fact(label="Inputs read", value=sum(r["inputs"] for f in found for r in f.now)),
                Fact(
                    label="Newest input, typically",
                    value=median(lags) if lags else None,
                    kind=Kind.SECONDS,
                    note="before its cycle",
                ),
                Fact(
                    label="Newest input, oldest",
                    value=max(lags, default=None),
                    kind=Kind.SECONDS,
                    note="before its cycle",
                ),
            ),
            tables=(_table(found),),
            series=tuple(_series(f) for f in found if len(f.rows) > 1),
        )


def _said(feed: _Feed) -> str:
    if not feed.now:
        return f"{feed.cycle_id}: no cycle read anything"
    facts = [
        f"{count} cycles {words}"
        for count, words in (
            (feed.empty, "without inputs"),
            (feed.stale, "with stale inputs"),
            (feed.few, "with few inputs"),
        )
        if count
    ]
    return f"{feed.cycle_id}: {', '.join(facts) or 'fresh and complete'}"


def _table(feeds: Sequence[_Feed]) -> Table:
    return Table(
        columns=(
            Column(label="Cycle", kind=Kind.CODE),
            Column(label="Inputs", kind=Kind.COUNT, help="of a cycle, median"),
            Column(label="Usual", kind=Kind.COUNT, weight=2, help="median of the day before"),
            Column(label="Of usual", kind=Kind.SHARE),
            Column(label="Newest input", kind=Kind.SECONDS, help="before the last cycle"),
            Column(label="Empty", kind=Kind.COUNT, weight=2),
            Column(label="Stale", kind=Kind.COUNT, weight=2, help="newest input older than two cycles"),
            Column(
                label="Few",
                kind=Kind.COUNT,
                weight=2,
                help="below min(median - 6 MAD, 0.7 median) of the day before",
            ),
        ),
        rows=tuple(_row(f) for f in feeds),
        marks=tuple(None if f.status is Status.OK else f.status for f in feeds),
        empty="no cycle is registered",
    )


def _row(f: _Feed) -> tuple[str | int | float | None, ...]:
    typical = median(r["inputs"] for r in f.now) if f.now else None
    share = typical / f.usual if typical is not None and f.usual else None
    last = f.lags[-1][1] if f.lags else None
    return (f.cycle_id, typical, f.usual, share, last, f.empty, f.stale, f.few)


def _series(f: _Feed) -> Series:
    return Series(
        title=f"Inputs of each cycle: {f.cycle_id}",
        kind=Kind.COUNT,
        at=tuple(r["cycle_started_at"].isoformat() for r in f.rows),
        lines=(Line(label="inputs", values=tuple(r["inputs"] for r in f.rows)),),
    )
