"""What changed in the registry: who, what, why."""

from __future__ import annotations

from datetime import datetime

from airflow_detection.snapshot.rendering.formats import several
from airflow_detection.snapshot.report import Column, Fact, Kind, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope

Change = tuple[datetime, str, str, str, str]
"""When, which version, what, who, why."""


class RegistryChanges(BaseSection):
    """Roles that began or ended, corrections, and new versions, from the history itself."""

    name, title = "registry", "Registry changes"

    def query(self, scope: Scope) -> tuple[list[Row], list[Row]]:
        """Roles and versions that changed in the period."""
        return scope.rows("role_changes"), scope.rows("new_versions")

    def render(self, found: tuple[list[Row], list[Row]], scope: Scope) -> Findings:
        """One row for each change, newest first."""
        roles, versions = found
        changes = [c for row in roles for c in _changes(row, roles, scope)]
        changes += [
            (r["created_at"], f"{r['model_id']}@{r['version']}", "registered", r["created_by"], r["notes"])
            for r in versions
        ]
        changes.sort(key=lambda c: (c[0], c[1], c[2]), reverse=True)
        promoted = sum(c[2] == "became PRIMARY" for c in changes)
        return Findings(
            summary=several(len(changes), "change")
            + (f", {several(promoted, 'promotion')}" if promoted else "")
            if changes
            else "nothing changed",
            facts=(Fact(label="Changes", value=len(changes)), Fact(label="Promotions", value=promoted)),
            tables=(
                Table(
                    columns=(
                        Column(label="At", kind=Kind.INSTANT),
                        Column(label="Version", kind=Kind.CODE),
                        Column(label="What"),
                        Column(label="Who", weight=2),
                        Column(label="Why", weight=2),
                    ),
                    rows=tuple(
                        (at.isoformat(), label, what, who, why) for at, label, what, who, why in changes
                    ),
                    empty="nothing changed",
                ),
            )
            if changes
            else (),
        )


def _changes(row: Row, roles: list[Row], scope: Scope) -> list[Change]:
    """What became of one row of the history within the period."""
    label, role = f"{row['model_id']}@{row['version']}", row["role"]

    def is_within(instant: datetime | None) -> bool:
        return instant is not None and scope.start <= instant < scope.end

    told: list[Change] = []
    if row["is_founding"] and is_within(row["recorded_at"]):
        since = row["since"]
        told.append(
            (
                row["recorded_at"],
                label,
                f"{role} since {since:%Y-%m-%d %H:%M} (its first)",
                row["actor"],
                row["reason"],
            )
        )
    elif row["is_correction"] and is_within(row["recorded_at"]):
        told.append((row["recorded_at"], label, f"corrected: {role}", row["actor"], row["reason"]))
    elif is_within(row["since"]):
        told.append((row["since"], label, f"became {role}", row["actor"], row["reason"]))
    elif is_within(row["recorded_at"]):
        told.append((row["recorded_at"], label, f"is to become {role}", row["actor"], row["reason"]))
    if is_within(row["until"]):
        successor = next(
            (r for r in roles if r["since"] == row["until"] and r["model_id"] == row["model_id"]), None
        )
        who, why = (successor["actor"], successor["reason"]) if successor else ("", "")
        told.append((row["until"], label, f"ceased to be {role}", who, why))
    if is_within(row["superseded_at"]):
        told.append((row["superseded_at"], label, f"{role} was superseded", "", ""))
    return told
