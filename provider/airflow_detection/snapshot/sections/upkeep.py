"""Headroom of the table partitions, and the last results of upkeep."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from airflow_detection.errors import StorageError
from airflow_detection.snapshot.rendering.formats import instant
from airflow_detection.snapshot.report import Column, Fact, Kind, Status, Table
from airflow_detection.snapshot.section import BaseSection, Findings, Row, Scope
from airflow_detection.store.partitions.catalog import LAST, PartitionedTable, covered_until, read_table
from airflow_detection.store.partitions.plan import Policy, headroom_alarm, policies


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """How far the partitions of a table reach, from its catalog, in UTC; `alarm` empty without one."""

    policy: Policy
    table: PartitionedTable | None
    until: datetime | None
    alarm: str


class Upkeep(BaseSection):
    """Table partitions from the catalog's bounds; the last result of each action of upkeep."""

    name, title = "upkeep", "Table partitions and upkeep"

    def query(self, scope: Scope) -> tuple[list[Headroom], list[Row]]:
        """Return the headroom of each table that has a policy, and the log."""
        tables = [_headroom(scope, p) for p in policies(scope.db, scope.taken_at)]
        return tables, scope.rows("upkeep")

    def render(self, data: tuple[list[Headroom], list[Row]], scope: Scope) -> Findings:
        """Show a row for each table, and one for each action."""
        tables, actions = data
        alarms = [h.alarm for h in tables if h.alarm]
        failed = [r for r in actions if r["outcome"] == "failed"]
        remarks = [*alarms, *(f"{r['action']} of {r['table_name'] or 'upkeep'} failed" for r in failed)]
        last = max((r["logged_at"] for r in actions), default=None)
        return Findings(
            status=Status.BAD if alarms else Status.ATTENTION if failed else Status.OK,
            summary="; ".join(remarks) or "enough table partitions lie ahead, and upkeep does its work",
            facts=(
                Fact(label="Tables", value=len(tables)),
                Fact(label="Alarms", value=len(alarms), status=Status.BAD if alarms else None),
                Fact(label="Last action", value=last.isoformat() if last else None, kind=Kind.INSTANT),
                Fact(label="Failed in the last day", value=sum(r["failed"] for r in actions)),
            ),
            tables=(
                Table(
                    title="Headroom",
                    columns=(
                        Column(label="Table", kind=Kind.CODE),
                        Column(label="Partitions", kind=Kind.COUNT, weight=2),
                        Column(label="Reach until", kind=Kind.INSTANT),
                        Column(label="Ahead", kind=Kind.SECONDS),
                        Column(label="Alarm before", kind=Kind.INSTANT, weight=3),
                        Column(label="Retention before", kind=Kind.INSTANT, weight=3),
                    ),
                    rows=tuple(_row(h, scope) for h in tables),
                    marks=tuple(Status.BAD if h.alarm else None for h in tables),
                    empty="no table has a policy",
                ),
                Table(
                    title="Upkeep, the last of each in a week",
                    columns=(
                        Column(label="At", kind=Kind.INSTANT, weight=2),
                        Column(label="Action"),
                        Column(label="Table", kind=Kind.CODE),
                        Column(label="Partition", kind=Kind.CODE, weight=3),
                        Column(label="Outcome"),
                        Column(label="Why", weight=2),
                    ),
                    rows=tuple(
                        (
                            r["logged_at"].isoformat(),
                            r["action"],
                            r["table_name"],
                            r["partition_name"],
                            r["outcome"],
                            r["why"],
                        )
                        for r in actions
                    ),
                    marks=tuple(Status.ATTENTION if r["outcome"] == "failed" else None for r in actions),
                    empty="upkeep did nothing in a week",
                ),
            ),
        )


def _headroom(scope: Scope, policy: Policy) -> Headroom:
    try:
        table = read_table(scope.db, policy.table_name)
    except StorageError as error:
        return Headroom(policy=policy, table=None, until=None, alarm=str(error))
    alarm = headroom_alarm(table, policy, scope.taken_at)
    until = covered_until(table.ranges, scope.taken_at)
    text = f"{alarm.table}: {alarm.note}" if alarm else ""
    shown = text.replace(until.isoformat(), f"{instant(until.isoformat())} UTC")
    return Headroom(policy=policy, table=table, until=until, alarm=shown)


def _row(h: Headroom, scope: Scope) -> tuple[str | int | float | None, ...]:
    is_endless = h.until == LAST
    ahead = (h.until - scope.taken_at).total_seconds() if h.until and not is_endless else None
    return (
        h.policy.table_name,
        len(h.table.partitions) if h.table else 0,
        h.until.isoformat() if h.until and not is_endless else None,
        ahead,
        h.policy.alarm_until.isoformat(),
        h.policy.cutoff.isoformat() if h.policy.cutoff else None,
    )
