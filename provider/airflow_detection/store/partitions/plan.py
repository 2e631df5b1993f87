"""What the upkeep of table partitions would do now: data, decided from bounds, policies and the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import StorageError
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import (
    FIRST,
    LAST,
    PartitionedTable,
    TablePartition,
    covered_until,
    free_names,
    gaps,
    month_of,
    read_table,
    rows,
)


class ActionKind(StrEnum):
    """What is done; `keep`, `refuse` and `alarm` change nothing and are for people to see."""

    CREATE = "create"
    FINALIZE = "finalize"
    DETACH = "detach"
    DROP = "drop"
    KEEP = "keep"
    REFUSE = "refuse"
    ALARM = "alarm"


class Phase(StrEnum):
    """The two halves of upkeep, each with a switch of its own."""

    ENSURE = "ensure"
    RETAIN = "retain"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepLimits:
    """How far a run may go.

    Args:
        max_drops: detachments, and as many drops, a run at most.
        max_skew: by how much the clocks of this host and of the database may differ.
        lock_timeout: how long a statement waits for a lock, and so how long writers wait behind it.
        detach_wait: how long a concurrent detachment waits for older transactions; it holds nobody up.
        attempts: how often a statement that got no lock is tried.
        pause: the mean time between two attempts.
        lease: for how long a run through a pooler keeps others off if it is killed.
    """

    max_drops: int = 6
    max_skew: timedelta = timedelta(minutes=5)
    lock_timeout: timedelta = timedelta(milliseconds=400)
    detach_wait: timedelta = timedelta(seconds=5)
    attempts: int = 6
    pause: timedelta = timedelta(milliseconds=500)
    lease: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A table's policy, its intervals already reckoned from now (UTC).

    `month` is the start of the current month, `ahead_until` the end of the last month that should exist,
    `cutoff` what the upper bound of a partition must not exceed for it to go (None keeps every month), and
    `grace_cutoff` the instant before which it must have been detached to be dropped.
    """

    table_name: str
    month: datetime
    ahead_until: datetime
    alarm_until: datetime
    cutoff: datetime | None
    grace_cutoff: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One line of a plan."""

    kind: ActionKind
    table: str
    partition: str | None = None
    lower: datetime | None = None
    upper: datetime | None = None
    note: str = ""
    oid: int | None = None
    namespace: str | None = None

    @property
    def changes(self) -> bool:
        """Whether it does anything to the database."""
        return self.kind not in (ActionKind.KEEP, ActionKind.REFUSE, ActionKind.ALARM)

    def __str__(self) -> str:
        span = f" [{_bound(self.lower)}, {_bound(self.upper)})" if self.partition else ""
        return f"{self.kind:<8} {self.partition or self.table}{span}{f': {self.note}' if self.note else ''}"


def _bound(instant: datetime | None) -> str:
    if instant is None:
        return "-"
    return f"{instant:%Y-%m-%d}" if instant.time() == datetime.min.time() else f"{instant.isoformat()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """A stretch of time that retention leaves alone, and why."""

    reason: str
    lower: datetime
    upper: datetime


def plan(
    db: Database,
    *,
    now: datetime,
    limits: UpkeepLimits = UpkeepLimits(),
    phases: Sequence[Phase] = tuple(Phase),
) -> tuple[Action, ...]:
    """What a run at `now` would do, in order. Changes nothing.

    Raises:
        ValueError: `now` has no time zone.
    """
    actions: list[Action] = []
    for policy in policies(db, now):
        try:
            table = read_table(db, policy.table_name)
        except StorageError as error:
            actions.append(Action(kind=ActionKind.REFUSE, table=policy.table_name, note=str(error)))
            continue
        actions += _interrupted(table)
        if Phase.ENSURE in phases:
            actions += _creations(db, table, policy)
        if Phase.RETAIN in phases:
            actions += _detachments(db, table, policy, now)
            actions += _drops(db, table, policy, now)
    return tuple(_limited(actions, limits.max_drops))


def policies(db: Database, now: datetime) -> list[Policy]:
    """Every policy, reckoned from `now`."""
    params = {"now": require_utc("now", now)}
    return [Policy(**r) for r in rows(db, "policies", params, "detection_partition_policies")]


def headroom_alarm(table: PartitionedTable, policy: Policy, now: datetime) -> Action | None:
    """An alarm if fewer months lie ahead of `now` than half of what the policy asks for."""
    until = covered_until(table.ranges, now)
    if until >= policy.alarm_until:
        return None
    note = f"no table partition from {until.isoformat()} on, below half of what is wanted ahead"
    return Action(kind=ActionKind.ALARM, table=table.name, note=note)


def alarms(db: Database, *, now: datetime) -> tuple[Action, ...]:
    """The tables whose headroom is too small at `now`."""
    raised: list[Action | None] = []
    for policy in policies(db, now):
        try:
            table = read_table(db, policy.table_name)
        except StorageError as error:
            raised.append(Action(kind=ActionKind.ALARM, table=policy.table_name, note=str(error)))
        else:
            raised.append(headroom_alarm(table, policy, now))
    return tuple(a for a in raised if a)


def _on(kind: ActionKind, table: PartitionedTable, child: TablePartition, note: str = "") -> Action:
    return Action(
        kind=kind,
        table=table.name,
        partition=child.name,
        lower=child.lower,
        upper=child.upper,
        note=note,
        oid=child.oid,
        namespace=child.namespace,
    )


def _interrupted(table: PartitionedTable) -> Iterator[Action]:
    if table.detaching:
        yield _on(ActionKind.FINALIZE, table, table.detaching, "its detachment was interrupted")


def _creations(db: Database, table: PartitionedTable, policy: Policy) -> list[Action]:
    spans = list(gaps(table.ranges, policy.month, policy.ahead_until))
    names = free_names(db, table.name, spans)
    return [
        Action(kind=ActionKind.CREATE, table=table.name, partition=name, lower=low, upper=high)
        for name, (low, high) in zip(names, spans, strict=True)
    ]


def protections(db: Database, policy: Policy, now: datetime) -> list[Protection]:
    """What retention leaves alone in this table."""
    params = {"table": policy.table_name, "now": now, "grace_cutoff": policy.grace_cutoff}
    found = rows(db, "protections", params, "detection_partition_policies")
    return [
        Protection(reason=r["reason"], lower=r["lower"] or FIRST, upper=r["upper"] or LAST) for r in found
    ]


def _why_kept(span: tuple[datetime, datetime], protected: Sequence[Protection]) -> str:
    return "; ".join(p.reason for p in protected if p.lower < span[1] and p.upper > span[0])


def _detachments(db: Database, table: PartitionedTable, policy: Policy, now: datetime) -> list[Action]:
    if policy.cutoff is None:
        return []
    protected = protections(db, policy, now)
    standing = [p for p in table.ranges if not p.is_detaching]
    old = [p for p in standing if p.upper and p.upper <= min(policy.cutoff, policy.month)]
    found = rows(db, "referring", {"oids": [table.oid, *(p.oid for p in old)]})
    actions = []
    for child in old:
        if referring := sorted({r["name"] for r in found if r["oid"] in (table.oid, child.oid)}):
            facts = f"referred to by a foreign key of {', '.join(referring)}"
            actions.append(_on(ActionKind.REFUSE, table, child, facts))
        elif child.kind != "r":
            actions.append(_on(ActionKind.REFUSE, table, child, "not an ordinary table"))
        elif reason := _why_kept(child.span, protected):
            actions.append(_on(ActionKind.KEEP, table, child, reason))
        elif len(old) == len(standing) and child is standing[-1]:
            actions.append(_on(ActionKind.KEEP, table, child, "it is the last"))
        else:
            actions.append(_on(ActionKind.DETACH, table, child))
    return actions


def _drops(db: Database, table: PartitionedTable, policy: Policy, now: datetime) -> Iterator[Action]:
    params = {"schema": db.schema, "table": table.name}
    protected = protections(db, policy, now)
    for row in rows(db, "retired", params, "detection_partition_policies"):
        child = TablePartition(
            oid=row["oid"], name=row["name"], namespace=db.schema, kind=row["kind"], lower=row["lower"],
            upper=row["upper"], is_default=False, is_detaching=False,
        )  # fmt: skip
        if row["action"] == "detach_started":
            yield _on(ActionKind.FINALIZE, table, child, "it was detached, but nobody noted it")
        elif row["logged_at"] > policy.grace_cutoff:
            continue
        elif reason := _why_kept(child.span, protected):
            yield _on(ActionKind.KEEP, table, child, reason)
        elif policy.cutoff is None or child.span[1] > policy.cutoff:
            yield _on(ActionKind.KEEP, table, child, "it is within retention again")
        elif child.span[1] > month_of(now)[0]:
            yield _on(ActionKind.REFUSE, table, child, "it reaches into this month")
        else:
            yield _on(ActionKind.DROP, table, child)


def _limited(actions: Sequence[Action], most: int) -> Iterator[Action]:
    """Turn what goes beyond the limit of a run into something that is kept until the next."""
    left = {ActionKind.DETACH: most, ActionKind.DROP: most}
    for action in actions:
        if action.kind not in left or left[action.kind] > 0:
            yield action
        else:
            yield Action(
                kind=ActionKind.KEEP, table=action.table, partition=action.partition, lower=action.lower,
                upper=action.upper, note=f"to {action.kind} in a later run: at most {most} a run",
                oid=action.oid, namespace=action.namespace,
            )  # fmt: skip
        if action.kind in left:
            left[action.kind] -= 1
