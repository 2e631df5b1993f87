"""Score buckets of each version, by its model's severities, with their shares over the trailing day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from airflow_detection.domain.scores import FLAGGED, GRADES
from airflow_detection.domain.specs import Role
from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Cell, Column, Fact, Kind, Line, Series, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

HOUR = timedelta(hours=1)
MAX_LINES = 6
SHARE_BUCKET = "medium"
"""The share of scores that is shown is of those above the edge of this bucket: MEDIUM and graver."""
VersionInRole = tuple[str, str, str]
"""Model, role, version."""
Hours = Mapping[datetime, Row]
_LABELS = {"gt0": "> 0", "medium": "MEDIUM", "high": "HIGH", "critical": "CRITICAL", FLAGGED: "Flagged"}
_HELP = {"medium": "and graver", "high": "and graver", FLAGGED: "above the model's threshold"}


class Scores(BaseSection):
    """Outputs above 0, of each severity and graver, and flagged ones, as the manifests counted them."""

    name, title = "scores", "Score buckets"

    def query(self, scope: Scope) -> dict[VersionInRole, dict[datetime, Row]]:
        """Return the counts by version and hour."""
        by_version: dict[VersionInRole, dict[datetime, Row]] = defaultdict(dict)
        for row in scope.rows("scores"):
            by_version[row["model_id"], row["role"], row["version"]][row["hour"]] = row
        return by_version

    def render(self, data: dict[VersionInRole, dict[datetime, Row]], scope: Scope) -> Findings:
        """Show a row for each version, and the champions' share of scores above an edge, hour by hour."""
        count = -((scope.day - scope.end) // HOUR)
        hours = [scope.end - (n + 1) * HOUR for n in reversed(range(count))]
        rows, marks, totals = [], [], dict.fromkeys(("scored", "nulls", *_LABELS), 0)
        for key, by_hour in sorted(data.items(), key=lambda item: _order(item[0])):
            now = [row for hour, row in by_hour.items() if hour >= scope.start]
            if not now:
                continue
            sums = {name: sum(r[name] or 0 for r in now) for name in totals}
            if key[1] == Role.PRIMARY:
                totals = {name: totals[name] + sums[name] for name in totals}
            rows.append(_row(key, sums, now, by_hour, hours))
            counts = [sums[name] for name in ("scored", *GRADES)]
            marks.append(None if counts == sorted(counts, reverse=True) else Status.BAD)
        broken = sum(m is not None for m in marks)
        return Findings(
            status=Status.BAD if broken else Status.OK,
            summary=f"buckets that cannot be, of {counted(broken, 'version')}"
            if broken
            else f"champions scored {totals['scored']:,} and flagged {totals[FLAGGED]:,}",
            facts=(
                Fact(label="Scored by champions", value=totals["scored"]),
                Fact(label="Null", value=totals["nulls"], note="a score that cannot be known"),
                *(Fact(label=label, value=totals[name]) for name, label in _LABELS.items()),
            ),
            tables=(_table(rows, marks),),
            series=_series(data, hours),
        )


def _order(key: VersionInRole) -> tuple[str, int, str]:
    """Return the sort key: by model, its champion first."""
    return key[0], tuple(Role).index(Role(key[1])), key[2]


def _row(
    key: VersionInRole, sums: Mapping[str, int], now: Sequence[Row], by_hour: Hours, hours: Sequence[datetime]
) -> tuple[Cell, ...]:
    outputs = sums["scored"] + sums["nulls"]
    return (
        f"{key[0]}@{key[2]}",
        key[1],
        outputs,
        sums["nulls"] / outputs if outputs else None,
        *(sums[name] for name in _LABELS),
        _thresholds(now),
        sums[SHARE_BUCKET] / sums["scored"] if sums["scored"] else None,
        tuple(_share(by_hour.get(hour)) for hour in hours),
    )


def _thresholds(rows: Sequence[Row]) -> str:
    """Return the thresholds by which the rows were flagged: more than one where the model's was changed."""
    return (
        ", ".join(f"{above:g}" for above in sorted({a for row in rows for a in row["flagged_above"]}))
        or "none"
    )


def _share(row: Row | None) -> float | None:
    return row[SHARE_BUCKET] / row["scored"] if row and row["scored"] else None


def _table(rows: Sequence[tuple[Cell, ...]], marks: Sequence[Status | None]) -> Table:
    return Table(
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="Role", weight=3),
            Column(label="Outputs", kind=Kind.COUNT, weight=2),
            Column(label="Null", kind=Kind.SHARE, weight=2),
            *(
                Column(label=label, kind=Kind.COUNT, help=_HELP.get(name, ""))
                for name, label in _LABELS.items()
            ),
            Column(label="Flagged above", weight=2, help="none: the model opens no events"),
            Column(label="Share", kind=Kind.SHARE, weight=2, help="MEDIUM and graver, of its scores"),
            Column(
                label="By hour",
                kind=Kind.SPARK,
                weight=2,
                help="share of MEDIUM and graver, oldest first, up to now",
            ),
        ),
        rows=tuple(rows),
        marks=tuple(marks),
        empty="no version with a score ran",
    )


def _series(by_version: Mapping[VersionInRole, Hours], hours: Sequence[datetime]) -> tuple[Series, ...]:
    by_model: dict[str, Hours] = {}
    for (model_id, role, _), by_hour in sorted(by_version.items()):
        if role == Role.PRIMARY:
            by_model[model_id] = {**by_model.get(model_id, {}), **by_hour}
    shares = {m: tuple(_share(by_hour.get(h)) for h in hours) for m, by_hour in by_model.items()}
    shown = sorted(
        (m for m, values in shares.items() if any(v is not None for v in values)),
        key=lambda m: (-max(v for v in shares[m] if v is not None), m),
    )
    if not shown or len(hours) < 2:
        return ()
    omitted = len(shown) - MAX_LINES
    return (
        Series(
            title="Share of MEDIUM and graver scores, champions",
            kind=Kind.SHARE,
            at=tuple(h.isoformat() for h in hours),
            lines=tuple(Line(label=m, values=shares[m]) for m in shown[:MAX_LINES]),
            note=f"without {counted(omitted, 'model')} of lower shares" if omitted > 0 else "",
        ),
    )
