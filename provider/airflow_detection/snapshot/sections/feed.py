"""Freshness and completeness of the inputs of the cycles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from airflow_detection.domain.cron import interval, is_readable, ticks
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Column, Fact, Kind, Line, Series, Status, Table, worst
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope
from airflow_detection.snapshot.verdicts.baseline import low_limit
from airflow_detection.snapshot.verdicts.kinds import VerdictKind

HEALTHY_FEED_KINDS = frozenset(
    {
        VerdictKind.SUSPECT,
        VerdictKind.SURGE,
        VerdictKind.NO_INPUT,
        VerdictKind.NO_SIGNAL_UNUSUAL,
        VerdictKind.NO_SIGNAL,
        VerdictKind.OK,
    }
)
"""Verdicts that are only given where the feed is complete: fewer inputs, as at night, are usual there."""
DAY = timedelta(days=1)
Kinds = Mapping[datetime, Set[VerdictKind]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _CycleFeed:
    cycle_id: str
    step: timedelta
    rows: list[Row]
    start: datetime
    kinds: Kinds
    thresholds: Thresholds
    is_due: bool = True

    @property
    def now(self) -> list[Row]:
        return [r for r in self.rows if r["cycle_started_at"] >= self.start]

    @property
    def usual(self) -> float | None:
        """Median of the inputs of a cycle, over the day before; None if there were none."""
        before = self._before
        return median(before) if before else None

    @property
    def min_inputs(self) -> float | None:
        """Least inputs that are not too few, by default min(median - 6 MAD, 0.7 median) of the day before."""
        before, limits = self._before, self.thresholds
        return max(0.0, low_limit(before, limits.input_mad_factor, limits.input_share)) if before else None

    @property
    def _before(self) -> list[int]:
        return [r["inputs"] for r in self.rows if r["cycle_started_at"] < self.start and r["inputs"]]

    @property
    def lags(self) -> list[tuple[datetime, float | None]]:
        return [(r["cycle_started_at"], _lag_s(r)) for r in self.now]

    @property
    def stale(self) -> int:
        return sum(map(self._is_stale, self.now))

    @property
    def few(self) -> int:
        return sum(map(self._is_few, self.now))

    @property
    def empty(self) -> int:
        return sum(not r["inputs"] for r in self.now)

    @property
    def degraded(self) -> list[bool]:
        """Tell of each cycle whether inputs are missing: by its verdicts, or else by the limits here."""
        return [self._is_degraded(r) for r in self.now]

    @property
    def status(self) -> Status:
        degraded = self.degraded
        if not degraded:
            return Status.ATTENTION if self.is_due else Status.OK
        return Status.BAD if degraded[-1] else Status.ATTENTION if any(degraded) else Status.OK

    def _is_stale(self, row: Row) -> bool:
        lag = _lag_s(row)
        return lag is not None and lag > (self.thresholds.stale_cycles * self.step).total_seconds()

    def _is_few(self, row: Row) -> bool:
        min_inputs = self.min_inputs
        return min_inputs is not None and 0 < row["inputs"] < min_inputs

    def _is_degraded(self, row: Row) -> bool:
        kinds = self.kinds.get(row["cycle_started_at"], frozenset())
        if VerdictKind.INPUT_DEGRADED in kinds:
            return True
        if kinds & HEALTHY_FEED_KINDS:
            return False
        return not row["inputs"] or self._is_stale(row) or self._is_few(row)


def _lag_s(row: Row) -> float | None:
    newest: datetime | None = row["newest"]
    return None if newest is None else (row["cycle_started_at"] - newest).total_seconds()


class Feed(BaseSection):
    """Newest input and number of inputs of each cycle, beside the day before."""

    name, title = "feed", "Feed: freshness and completeness"

    def query(self, scope: Scope) -> list[_CycleFeed]:
        """Return the inputs of each cycle, from the manifests, with the kinds of its verdicts."""
        by_cycle: dict[str, list[Row]] = defaultdict(list)
        for row in scope.rows("feed"):
            by_cycle[row["cycle_id"]].append(row)
        kinds: dict[str, dict[datetime, set[VerdictKind]]] = defaultdict(lambda: defaultdict(set))
        for v in scope.memory.get("verdicts", ()):
            kinds[v.cycle_id][v.cycle_started_at].add(v.kind)
        return [
            _cycle_feed(s, by_cycle[s["cycle_id"]], kinds[s["cycle_id"]], scope)
            for s in scope.rows("schedules")
            if s["is_enabled"] or by_cycle[s["cycle_id"]]
        ]

    def render(self, data: list[_CycleFeed], scope: Scope) -> Findings:
        """Show a row for each cycle, and the inputs of the trailing day."""
        del scope
        lags = [lag for f in data for _, lag in f.lags if lag is not None]
        return Findings(
            status=worst([f.status for f in data]),
            summary="; ".join(_summary(f) for f in data) or "no cycle is registered",
            facts=(
                Fact(label="Cycles with inputs", value=sum(bool(r["inputs"]) for f in data for r in f.now)),
                Fact(label="Inputs read", value=sum(r["inputs"] for f in data for r in f.now)),
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
            tables=(_table(data),),
            series=tuple(_series(f) for f in data if len(f.rows) > 1),
        )


def _cycle_feed(schedule: Row, rows: list[Row], kinds: Kinds, scope: Scope) -> _CycleFeed:
    cron = schedule["schedule"]
    can_read, since = is_readable(cron), max(scope.start, schedule["start_date"])
    return _CycleFeed(
        cycle_id=schedule["cycle_id"],
        step=interval(cron, scope.start) if can_read else DAY,
        rows=rows,
        start=scope.start,
        kinds=kinds,
        thresholds=scope.process_facts.thresholds or Thresholds(),
        is_due=can_read and since < scope.end and any(True for _ in ticks(cron, since, scope.end)),
    )


def _summary(feed: _CycleFeed) -> str:
    if not feed.now:
        return f"{feed.cycle_id}: {'no cycle read anything' if feed.is_due else 'no cycle was due'}"
    facts = [
        f"{counted(count, 'cycle')} {fact}"
        for count, fact in (
            (feed.empty, "without inputs"),
            (feed.stale, "with stale inputs"),
            (feed.few, "with few inputs"),
        )
        if count
    ]
    if facts and not any(feed.degraded):
        facts.append("which no verdict minds")
    return f"{feed.cycle_id}: {', '.join(facts) or 'fresh and complete'}"


def _table(feeds: Sequence[_CycleFeed]) -> Table:
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


def _row(f: _CycleFeed) -> tuple[str | int | float | None, ...]:
    typical = median(r["inputs"] for r in f.now) if f.now else None
    share = typical / f.usual if typical is not None and f.usual else None
    last = f.lags[-1][1] if f.lags else None
    return (f.cycle_id, typical, f.usual, share, last, f.empty, f.stale, f.few)


def _series(f: _CycleFeed) -> Series:
    return Series(
        title=f"Inputs of each cycle: {f.cycle_id}",
        kind=Kind.COUNT,
        at=tuple(r["cycle_started_at"].isoformat() for r in f.rows),
        lines=(Line(label="inputs", values=tuple(r["inputs"] for r in f.rows)),),
    )
