"""Collisions of gear identities: all of them, and the open ones by severity."""

from __future__ import annotations

from airflow_detection.domain.scores import SEVERITIES
from airflow_detection.snapshot.report import Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope
from airflow_detection.snapshot.sections.events import MAX_ROWS

STATUSES = ("OPEN", "CLOSED", "RETRACTED")


class Gear(BaseSection):
    """`gear_identity_collisions`, raw and OPEN by severity."""

    name, title, pack = "gear_identity_collisions", "Gear identity collisions", "maritime"

    def query(self, scope: Scope) -> tuple[list[Row], list[Row]]:
        """Return the counts, and the gravest collisions that are open."""
        return (
            scope.rows("by_severity", self.name),
            scope.rows("gravest_open", self.name, most=MAX_ROWS[scope.kind]),
        )

    def render(self, data: tuple[list[Row], list[Row]], scope: Scope) -> Findings:
        """Show a row for each severity, a column for each status."""
        del scope
        rows, open_rows = data
        counts = {(r["severity"], r["status"]): r["collisions"] for r in rows}
        total = sum(counts.values())
        open_count = sum(n for (_, status), n in counts.items() if status == "OPEN")
        critical = counts.get(("CRITICAL", "OPEN"), 0)
        return Findings(
            status=Status.ATTENTION if critical else Status.OK,
            summary=f"{total} on record, {open_count} open",
            facts=(
                Fact(label="On record", value=total, note="raw count"),
                Fact(label="Open", value=open_count),
                Fact(
                    label="CRITICAL and open", value=critical, status=Status.ATTENTION if critical else None
                ),
            ),
            tables=(
                Table(
                    columns=(
                        Column(label="Severity"),
                        *(Column(label=s.capitalize(), kind=Kind.COUNT) for s in STATUSES),
                    ),
                    rows=tuple(
                        (severity, *(counts.get((severity, s), 0) for s in STATUSES))
                        for severity in SEVERITIES
                    )
                    if rows
                    else (),
                    empty="none was ever found",
                ),
                *_open(open_rows, open_count),
            ),
        )


def _open(rows: list[Row], count: int) -> list[Table]:
    if not rows:
        return []
    return [
        Table(
            title="Open, gravest first",
            columns=(
                Column(label="Identity", kind=Kind.CODE),
                Column(label="Severity"),
                Column(label="Since", kind=Kind.INSTANT),
                Column(label="Last seen", kind=Kind.INSTANT, weight=2),
            ),
            rows=tuple(
                (r["identity"], r["severity"], r["first_seen_at"].isoformat(), r["last_seen_at"].isoformat())
                for r in rows
            ),
            left_out=max(0, count - len(rows)),
        )
    ]
