"""Score buckets of each version, with the trailing day behind them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from airflow_detection.domain.specs import Role
from airflow_detection.snapshot.rendering.formats import several
from airflow_detection.snapshot.report import Cell, Column, Fact, Kind, Line, Series, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

HOUR = timedelta(hours=1)
BUCKETS = ("gt0", "gt03", "gt05", "gt07")
MOST_LINES = 6
Key = tuple[str, str, str]
Hours = Mapping[datetime, Row]


class Scores(BaseSection):
    """How many outputs score above 0, 0.3, 0.5 and 0.7, from the manifests."""

    name, title = "scores", "Score buckets"

    def query(self, scope: Scope) -> dict[Key, dict[datetime, Row]]:
        """The counts by version and hour."""
        held: dict[Key, dict[datetime, Row]] = defaultdict(dict)
        for row in scope.rows("scores"):
            held[row["model_id"], row["role"], row["version"]][row["hour"]] = row
        return held

    def render(self, found: dict[Key, dict[datetime, Row]], scope: Scope) -> Findings:
        """A row for each version, and the share above 0.3 of the champions, hour by hour."""
        count = -((scope.day - scope.end) // HOUR)
        hours = [scope.end - (n + 1) * HOUR for n in reversed(range(count))]
        rows, marks, totals = [], [], dict.fromkeys(("scored", "nulls", *BUCKETS), 0)
        for key, by_hour in sorted(found.items(), key=lambda item: _order(item[0])):
            now = [row for hour, row in by_hour.items() if hour >= scope.start]
            if not now:
                continue
            sums = {name: sum(r[name] or 0 for r in now) for name in totals}
            if key[1] == Role.PRIMARY:
                totals = {name: totals[name] + sums[name] for name in totals}
            rows.append(_row(key, sums, by_hour, hours))
            is_ordered = sums["gt0"] >= sums["gt03"] >= sums["gt05"] >= sums["gt07"]
            marks.append(None if is_ordered else Status.BAD)
        broken = sum(m is not None for m in marks)
        return Findings(
            status=Status.BAD if broken else Status.OK,
            summary=f"buckets that cannot be, of {several(broken, 'version')}"
            if broken
            else f"champions scored {totals['scored']:,} and flagged {totals['gt05']:,} above 0.5",
            facts=(
                Fact(label="Scored by champions", value=totals["scored"]),
                Fact(label="Null", value=totals["nulls"], note="a score that cannot be known"),
                *(Fact(label=f"> {_EDGE[name]}", value=totals[name]) for name in BUCKETS),
            ),
            tables=(_table(rows, marks),),
            series=_series(found, hours),
        )


_EDGE = {"gt0": "0", "gt03": "0.3", "gt05": "0.5", "gt07": "0.7"}


def _order(key: Key) -> tuple[str, int, str]:
    """By model, its champion first."""
    return key[0], tuple(Role).index(Role(key[1])), key[2]


def _row(key: Key, sums: Mapping[str, int], by_hour: Hours, hours: Sequence[datetime]) -> tuple[Cell, ...]:
    outputs = sums["scored"] + sums["nulls"]
    return (
        f"{key[0]}@{key[2]}",
        key[1],
        outputs,
        sums["nulls"] / outputs if outputs else None,
        *(sums[name] for name in BUCKETS),
        sums["gt03"] / sums["scored"] if sums["scored"] else None,
        tuple(_share(by_hour.get(hour)) for hour in hours),
    )


def _share(row: Row | None) -> float | None:
    return row["gt03"] / row["scored"] if row and row["scored"] else None


def _table(rows: Sequence[tuple[Cell, ...]], marks: Sequence[Status | None]) -> Table:
    return Table(
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="Role", weight=3),
            Column(label="Outputs", kind=Kind.COUNT, weight=2),
            Column(label="Null", kind=Kind.SHARE, weight=2),
            *(Column(label=f"> {_EDGE[name]}", kind=Kind.COUNT) for name in BUCKETS),
            Column(label="Share > 0.3", kind=Kind.SHARE, weight=2),
            Column(
                label="By hour", kind=Kind.SPARK, weight=2, help="share above 0.3, oldest first, up to now"
            ),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
        empty="no version with a score ran",
    )


def _series(found: Mapping[Key, Hours], hours: Sequence[datetime]) -> tuple[Series, ...]:
    by_model: dict[str, Hours] = {}
    for (model_id, role, _), by_hour in sorted(found.items()):
        if role == Role.PRIMARY:
            by_model[model_id] = {**by_model.get(model_id, {}), **by_hour}
    shares = {m: tuple(_share(held.get(h)) for h in hours) for m, held in by_model.items()}
    shown = sorted(
        (m for m, values in shares.items() if any(v is not None for v in values)),
        key=lambda m: (-max(v for v in shares[m] if v is not None), m),
    )
    if not shown or len(hours) < 2:
        return ()
    left = len(shown) - MOST_LINES
    return (
        Series(
            title="Share of scores above 0.3, champions",
            kind=Kind.SHARE,
            at=tuple(h.isoformat() for h in hours),
            lines=tuple(Line(label=m, values=shares[m]) for m in shown[:MOST_LINES]),
            note=f"without {several(left, 'model')} of lower shares" if left > 0 else "",
        ),
    )
