"""Configuration in force: versions and their params, plans, caches and flags."""

from __future__ import annotations

from datetime import datetime

from airflow_detection.snapshot.rendering.formats import counted
from airflow_detection.snapshot.report import Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope
from airflow_detection.store.manifests import params_digest

DIGEST_CHARS = 12
"""Characters of a digest that are shown."""


class Configuration(BaseSection):
    """Versions that hold a role at the end of the period, beside the params that they ran with."""

    name, title = "configuration", "Configuration in force"

    def query(self, scope: Scope) -> tuple[list[Row], list[Row]]:
        """Return the versions in a role, and the last plan of each cycle."""
        return scope.rows("in_force"), scope.rows("plans_in_force")

    def render(self, data: tuple[list[Row], list[Row]], scope: Scope) -> Findings:
        """Show a row for each version, one for each cycle, and the facts of this process."""
        versions, plans = data
        process_facts = scope.process_facts
        deviating = [f"{r['model_id']}@{r['version']}" for r in versions if _has_run_with_other_params(r)]
        codes = sorted({r["code_version"] for r in versions if r["code_version"]})
        remarks = (
            [f"ran with params other than those registered: {', '.join(deviating)}"] if deviating else []
        )
        if len(codes) > 1:
            remarks.append(f"{len(codes)} versions of the package ran: {', '.join(codes)}")
        return Findings(
            status=Status.BAD if deviating else Status.ATTENTION if len(codes) > 1 else Status.OK,
            summary="; ".join(remarks)
            or f"{counted(len(versions), 'version')} in a role, {counted(len(plans), 'cycle')}",
            facts=(
                Fact(label="Package", value=process_facts.code_version or None, kind=Kind.TEXT),
                *(
                    Fact(label=name, value=value, kind=Kind.TEXT)
                    for name, value in sorted(process_facts.flags.items())
                ),
                Fact(
                    label="Plan file",
                    value=_age_s(process_facts.plan_read_at, scope),
                    kind=Kind.SECONDS,
                    note="age of the last known good plan"
                    if process_facts.plan_read_at
                    else "not seen from here",
                ),
                Fact(
                    label="Plan cache",
                    value=process_facts.plan_ttl_s,
                    kind=Kind.SECONDS,
                    note="how long a plan is kept",
                ),
            ),
            tables=(_versions(versions), _plans(plans, scope)),
        )


def _age_s(instant: datetime | None, scope: Scope) -> float | None:
    return None if instant is None else (scope.taken_at - instant).total_seconds()


def _has_run_with_other_params(row: Row) -> bool:
    return bool(row["params_digest"]) and row["params_digest"] != params_digest(row["params"])


def _versions(rows: list[Row]) -> Table:
    return Table(
        title="Versions",
        columns=(
            Column(label="Version", kind=Kind.CODE),
            Column(label="Role"),
            Column(label="Since", kind=Kind.INSTANT, weight=2),
            Column(label="Params", kind=Kind.CODE, help="sha256 of the registered params, its beginning"),
            Column(label="Ran with", kind=Kind.CODE, weight=2, help="the same of its last run"),
            Column(label="Artefact", kind=Kind.CODE, weight=3, help="sha256 that its last run loaded"),
            Column(label="Entry point", kind=Kind.CODE, weight=3),
            Column(label="Is on", weight=3),
        ),
        rows=tuple(
            (
                f"{r['model_id']}@{r['version']}",
                r["role"],
                r["since"].isoformat(),
                params_digest(r["params"])[:DIGEST_CHARS],
                (r["params_digest"] or "")[:DIGEST_CHARS] or None,
                (r["artifact_sha256"] or "")[:DIGEST_CHARS] or None,
                r["entrypoint"],
                "yes" if r["is_enabled"] else "no",
            )
            for r in rows
        ),
        marks=tuple(Status.BAD if _has_run_with_other_params(r) else None for r in rows),
        empty="no version holds a role",
    )


def _plans(rows: list[Row], scope: Scope) -> Table:
    return Table(
        title="Plans",
        columns=(
            Column(label="Cycle", kind=Kind.CODE),
            Column(label="Execution", weight=2),
            Column(label="Is on", weight=2),
            Column(label="Plan", kind=Kind.CODE, help="digest of the last recorded plan, its beginning"),
            Column(label="Of cycle", kind=Kind.INSTANT),
            Column(label="Age", kind=Kind.SECONDS, weight=2, help="since it was recorded"),
        ),
        rows=tuple(
            (
                r["cycle_id"],
                r["execution"],
                "yes" if r["is_enabled"] else "no",
                (r["plan_digest"] or "")[:DIGEST_CHARS] or None,
                r["cycle_started_at"].isoformat() if r["cycle_started_at"] else None,
                _age_s(r["opened_at"], scope),
            )
            for r in rows
        ),
        empty="no cycle is registered",
    )
