"""Changes of the registry: which, by whom, and for what reason."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Column, Fact, Kind, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope


class RegistryChange(NamedTuple):
    """One change of a version, in UTC; `actor` and `reason` are empty where none is recorded."""

    at: datetime
    version: str
    change: str
    actor: str
    reason: str


class RegistryChanges(BaseSection):
    """Roles that began or ended, corrections, and new versions, from the history itself."""

    name, title = "registry", "Registry changes"

    def query(self, scope: Scope) -> tuple[list[Row], list[Row]]:
        """Return the roles and versions that changed in the period."""
        return scope.rows("role_changes"), scope.rows("new_versions")

    def render(self, data: tuple[list[Row], list[Row]], scope: Scope) -> Findings:
        """Show a row for each change, newest first."""
        roles, versions = data
        changes = [c for row in roles for c in _changes(row, roles, scope)]
        changes += [
            RegistryChange(
                r["created_at"], f"{r['model_id']}@{r['version']}", "registered", r["created_by"], r["notes"]
            )
            for r in versions
        ]
        changes.sort(key=lambda c: (c.at, c.version, c.change), reverse=True)
        promoted = sum(c.change == "became PRIMARY" for c in changes)
        return Findings(
            summary=counted(len(changes), "change")
            + (f", {counted(promoted, 'promotion')}" if promoted else "")
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
                    rows=tuple((c.at.isoformat(), c.version, c.change, c.actor, c.reason) for c in changes),
                    empty="nothing changed",
                ),
            )
            if changes
            else (),
        )


def _changes(row: Row, roles: list[Row], scope: Scope) -> list[RegistryChange]:
    """Return the changes within the period that one row of the history stands for."""
    label, role = f"{row['model_id']}@{row['version']}", row["role"]

    def is_within(instant: datetime | None) -> bool:
        return instant is not None and scope.start <= instant < scope.end

    changes: list[RegistryChange] = []

    def add(at: datetime, change: str, by: Row | None) -> None:
        actor, reason = (by["actor"], by["reason"]) if by else ("", "")
        changes.append(RegistryChange(at, label, change, actor, reason))

    if row["is_founding"] and is_within(row["recorded_at"]):
        add(row["recorded_at"], f"{role} since {row['since']:%Y-%m-%d %H:%M} (its first)", row)
    elif row["is_correction"] and is_within(row["recorded_at"]):
        add(row["recorded_at"], f"corrected: {role}", row)
    elif is_within(row["since"]):
        add(row["since"], f"became {role}", row)
    elif is_within(row["recorded_at"]):
        add(row["recorded_at"], f"is to become {role}", row)
    if is_within(row["until"]):
        successor = next(
            (r for r in roles if r["since"] == row["until"] and r["model_id"] == row["model_id"]), None
        )
        add(row["until"], f"ceased to be {role}", successor)
    if is_within(row["superseded_at"]):
        add(row["superseded_at"], f"{role} was superseded", None)
    return changes
