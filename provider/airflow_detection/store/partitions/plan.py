"""Plan of the upkeep of table partitions, made from bounds, policies and the clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from psycopg import sql

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import StorageError
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import (
    FIRST,
    LAST,
    PartitionedTable,
    Span,
    Step,
    TablePartition,
    covered_until,
    entity_indexes,
    free_names,
    gaps,
    literal,
    period_of,
    read_table,
    rows,
    statement,
)


class ActionKind(StrEnum):
    """Kind of an action; `keep`, `refuse` and `alarm` change nothing, they are for the report."""

    CREATE = "create"
    INDEX = "index"
    FINALIZE = "finalize"
    DETACH = "detach"
    EXPORT = "export"
    DROP = "drop"
    KEEP = "keep"
    REFUSE = "refuse"
    ALARM = "alarm"


class Phase(StrEnum):
    """Phase of upkeep; each is switched on separately."""

    ENSURE = "ensure"
    RETAIN = "retain"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepLimits:
    """Limits of a run.

    Args:
        max_drops: at most so many detachments, and as many exports and drops, a run.
        max_indexes: at most so many table partitions of a table get an index a run.
        max_skew: by how much the clocks of this host and of the database may differ.
        lock_timeout: how long a statement waits for a lock, and so how long writers queue behind it.
        detach_wait: how long a concurrent detachment waits for older transactions; it blocks nobody.
        index_wait: how long an index that is made concurrently waits for them; it blocks nobody.
        attempts: how often a statement that got no lock is tried.
        pause: the mean time between two attempts.
        lease: how long a run through a pooler excludes others if it is killed.
    """

    max_drops: int = 6
    max_indexes: int = 6
    max_skew: timedelta = timedelta(minutes=5)
    lock_timeout: timedelta = timedelta(milliseconds=400)
    detach_wait: timedelta = timedelta(seconds=5)
    index_wait: timedelta = timedelta(minutes=1)
    attempts: int = 6
    pause: timedelta = timedelta(milliseconds=500)
    lease: timedelta = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Policy of a table, its intervals already resolved to instants (UTC).

    `period` is the start of the current month or day, by `step`, `ahead_until` the end of the last one that
    should exist, `alarm_until` the instant up to which they must exist, `cutoff` the latest upper bound of a
    partition that is detached (None keeps all), and `grace_cutoff` the instant before which a table must have
    been detached to be dropped. `empties_default`: what the default partition holds of past periods is moved
    to partitions of their own. `entity_index`: every partition gets an index of entity and time.
    `retention_export`: the URI of the folder to which a detached table is exported before it is dropped.
    """

    table_name: str
    period: datetime
    ahead_until: datetime
    alarm_until: datetime
    cutoff: datetime | None
    grace_cutoff: datetime
    empties_default: bool = False
    step: Step = Step.MONTH
    entity_index: bool = False
    retention_export: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "step", Step(self.step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Line of a plan; bounds in UTC."""

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
        """Whether the action changes the database."""
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
    """Span of time (UTC) that retention does not touch, and the reason."""

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
    """Return what a run at `now` would do, in order; nothing is changed.

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
            of_table, of_leaves = _indexes(db, table, policy, limits.max_indexes)
            actions += [*of_table, *_creations(db, table, policy), *of_leaves]
        if Phase.RETAIN in phases:
            actions += _detachments(db, table, policy, now)
            actions += _drops(db, table, policy, now)
    return tuple(_within_limit(actions, limits.max_drops))


def policies(db: Database, now: datetime) -> list[Policy]:
    """Return every policy, resolved at `now`."""
    params = {"now": require_utc("now", now)}
    return [Policy(**r) for r in rows(db, "policies", params, "detection_partition_policies")]


def headroom_alarm(table: PartitionedTable, policy: Policy, now: datetime) -> Action | None:
    """Return an alarm if the partitions ahead of `now` cover less than half of what the policy asks for."""
    until = covered_until(table.ranges, now)
    if until >= policy.alarm_until:
        return None
    note = f"no table partition from {until.isoformat()} on, below half of what is wanted ahead"
    return Action(kind=ActionKind.ALARM, table=table.name, note=note)


def alarms(db: Database, *, now: datetime) -> tuple[Action, ...]:
    """Return alarms for the tables whose headroom is too small at `now`."""
    results: list[Action | None] = []
    for policy in policies(db, now):
        try:
            table = read_table(db, policy.table_name)
        except StorageError as error:
            results.append(Action(kind=ActionKind.ALARM, table=policy.table_name, note=str(error)))
        else:
            results.append(headroom_alarm(table, policy, now))
    return tuple(a for a in results if a)


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
    past = _default_periods(db, table, policy)
    spans = [span for period in past for span in gaps(table.ranges, *period, policy.step)]
    spans += gaps(table.ranges, policy.period, policy.ahead_until, policy.step)
    names = free_names(db, table.name, spans, policy.step)
    return [
        Action(kind=ActionKind.CREATE, table=table.name, partition=name, lower=low, upper=high)
        for name, (low, high) in zip(names, spans, strict=True)
    ]


def _indexes(
    db: Database, table: PartitionedTable, policy: Policy, max_a_run: int
) -> tuple[list[Action], list[Action]]:
    """Return the action for the table itself, and those for its partitions, the newest first."""
    if not policy.entity_index:
        return [], []
    done = {r["oid"]: r["is_done"] for r in entity_indexes(db, table)}
    of_table = Action(kind=ActionKind.INDEX, table=table.name, note="of entities, for new table partitions")
    missing = [p for p in reversed(table.partitions) if not done.get(p.oid, True)]
    later = len(missing) - max_a_run
    of_leaves = [_on(ActionKind.INDEX, table, p, "of entities") for p in missing[:max_a_run]]
    if later > 0:
        of_leaves[-1] = replace(of_leaves[-1], note=f"of entities; {later} more in later runs")
    return [] if done[table.oid] else [of_table], of_leaves


def _default_periods(db: Database, table: PartitionedTable, policy: Policy) -> list[Span]:
    """Return past months or days of which the default partition holds rows to move; the oldest first."""
    if table.default is None or not policy.empties_default:
        return []
    found = db.conn.execute(
        statement(
            db.schema,
            "default_periods",
            namespace=sql.Identifier(table.default.namespace),
            default=sql.Identifier(table.default.name),
            key=sql.Identifier(table.key),
            before=literal(policy.period),
            step=sql.Literal(policy.step.value),
        )
    )
    return [period_of(row[0], policy.step) for row in found.fetchall()]


def protections(db: Database, policy: Policy, now: datetime) -> list[Protection]:
    """Return the spans of time that retention does not touch in this table."""
    params = {
        "table": policy.table_name,
        "now": now,
        "grace_cutoff": policy.grace_cutoff,
        "step": policy.step.value,
    }
    return [
        Protection(reason=r["reason"], lower=r["lower"] or FIRST, upper=r["upper"] or LAST)
        for r in rows(db, "protections", params, "detection_partition_policies")
    ]


def _protected_by(span: tuple[datetime, datetime], protected: Sequence[Protection]) -> str:
    return "; ".join(p.reason for p in protected if p.lower < span[1] and p.upper > span[0])


def _detachments(db: Database, table: PartitionedTable, policy: Policy, now: datetime) -> list[Action]:
    if policy.cutoff is None:
        return []
    protected = protections(db, policy, now)
    attached = [p for p in table.ranges if not p.is_detaching]
    old = [p for p in attached if p.upper and p.upper <= min(policy.cutoff, policy.period)]
    foreign_keys = rows(db, "referring", {"oids": [table.oid, *(p.oid for p in old)]})
    actions = []
    for child in old:
        if referring := sorted({r["name"] for r in foreign_keys if r["oid"] in (table.oid, child.oid)}):
            reason = f"referred to by a foreign key of {', '.join(referring)}"
            actions.append(_on(ActionKind.REFUSE, table, child, reason))
        elif child.kind != "r":
            actions.append(_on(ActionKind.REFUSE, table, child, "not an ordinary table"))
        elif reason := _protected_by(child.span, protected):
            actions.append(_on(ActionKind.KEEP, table, child, reason))
        elif len(old) == len(attached) and child is attached[-1]:
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
        elif reason := _protected_by(child.span, protected):
            yield _on(ActionKind.KEEP, table, child, reason)
        elif policy.cutoff is None or child.span[1] > policy.cutoff:
            yield _on(ActionKind.KEEP, table, child, "it is within retention again")
        elif child.span[1] > policy.period:
            yield _on(ActionKind.REFUSE, table, child, f"it reaches into this {policy.step}")
        else:
            if policy.retention_export and row["exported_rows"] is None:
                yield _on(ActionKind.EXPORT, table, child, f"to {policy.retention_export}")
            yield _on(ActionKind.DROP, table, child)


def _within_limit(actions: Sequence[Action], max_a_run: int) -> Iterator[Action]:
    """Replace the actions beyond the limit of a run by `keep`: a later run does them."""
    remaining = dict.fromkeys((ActionKind.DETACH, ActionKind.EXPORT, ActionKind.DROP), max_a_run)
    for action in actions:
        if action.kind not in remaining or remaining[action.kind] > 0:
            yield action
        else:
            yield Action(
                kind=ActionKind.KEEP, table=action.table, partition=action.partition, lower=action.lower,
                upper=action.upper, note=f"to {action.kind} in a later run: at most {max_a_run} a run",
                oid=action.oid, namespace=action.namespace,
            )  # fmt: skip
        if action.kind in remaining:
            remaining[action.kind] -= 1
