"""Upkeep of table partitions: carries out a plan, one after the other; a run may be killed at any point."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from airflow_detection.errors import ConfigurationError, RegistryUnavailable, StorageError
from airflow_detection.store.connection import Connection, in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.partitions.catalog import FIRST, LAST, literal, read_table, rows, statement
from airflow_detection.store.partitions.create import (
    NO_LOCK,
    create,
    create_together,
    limit_locks,
    lock_parent,
    note,
    retry_on_lock,
)
from airflow_detection.store.partitions.entity_index import make_entity_index
from airflow_detection.store.partitions.export import FileAccess, export_table
from airflow_detection.store.partitions.plan import (
    Action,
    ActionKind,
    Phase,
    UpkeepLimits,
    alarms,
    plan,
    policies,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionResult:
    """Outcome of one action: `done`, `skipped` or `failed`, with the error, reason or note in `details`."""

    action: Action
    outcome: str
    details: str = ""

    def __str__(self) -> str:
        return f"{self.action} -> {self.outcome}{f' ({self.details})' if self.details else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepReport:
    """Report of a run of upkeep; `is_skipped` if another run had the lock and this one did nothing."""

    results: tuple[ActionResult, ...] = ()
    alarms: tuple[Action, ...] = ()
    is_skipped: bool = False

    @property
    def failed(self) -> tuple[ActionResult, ...]:
        """The actions that failed."""
        return tuple(r for r in self.results if r.outcome == "failed")

    @property
    def is_success(self) -> bool:
        """Whether all that was planned was done, and enough table partitions exist ahead."""
        return not (self.is_skipped or self.failed or self.alarms)

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        if self.is_skipped:
            return ["skipped: another run holds the lock"]
        return [str(r) for r in self.results] + [str(a) for a in self.alarms]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What the actions of a run share: its limits, whether a pooler is before the server, access to files."""

    limits: UpkeepLimits
    is_pooled: bool
    files: FileAccess | None


def apply(
    db: Database,
    phase: Phase,
    *,
    now: datetime,
    limits: UpkeepLimits | None = None,
    files: FileAccess | None = None,
) -> UpkeepReport:
    """Carry out the plan of one phase.

    An action that fails is noted, and the others are carried out.

    Args:
        db: its connection is in autocommit mode; otherwise a detachment is not concurrent.
        now: the clock of this host.
        files: access to where tables are exported; without it an export fails, and nothing that waits for one
            is dropped.

    Raises:
        StorageError: the database is read-only, or its clock and `now` are too far apart; nothing was done.
        RegistryUnavailable: the database did not answer.
    """
    limits = limits or UpkeepLimits()
    with storage_errors():
        is_pooled = _check_server(db, now, limits)
        with (
            _exclusive_run(db, phase, limits, is_pooled=is_pooled) as is_mine,
            _session_lock_timeout(db, limits, is_pooled=is_pooled),
        ):
            if not is_mine:
                note(db, Action(kind=ActionKind.KEEP, table=""), "skipped", logged_as=phase.value,
                     fact="another run holds the lock")  # fmt: skip
                return UpkeepReport(is_skipped=True)
            run = _Run(limits=limits, is_pooled=is_pooled, files=files)
            planned = plan(db, now=now, limits=limits, phases=(phase,))
            results = tuple(
                result
                for (_, is_new), group in groupby(planned, lambda a: (a.table, a.kind is ActionKind.CREATE))
                for result in _carry_out(db, phase, tuple(group), run, is_new=is_new)
            )
            raised_alarms = alarms(db, now=now)
            for alarm in raised_alarms:
                log.warning("partitions_headroom %s", alarm)
                note(db, alarm, "failed")
    return UpkeepReport(results=results, alarms=raised_alarms)


def _check_server(db: Database, now: datetime, limits: UpkeepLimits) -> bool:
    """Tell whether a pooler is before the server; StorageError if it is read-only or its clock differs."""
    row = db.conn.execute(db.queries("table_partitions")["server"]).fetchone()
    if row is None:
        raise StorageError("the database did not return its clock")
    clock, pid, is_read_only = row
    if is_read_only:
        raise StorageError("the database is read-only: upkeep needs the primary server")
    if abs(clock - now) > limits.max_skew:
        raise StorageError(
            f"the clocks of the database ({clock.isoformat()}) and of this host ({now.isoformat()}) "
            f"differ by more than {limits.max_skew}: nothing was done"
        )
    return bool(pid != db.conn.info.backend_pid)


@contextmanager
def _exclusive_run(db: Database, phase: Phase, limits: UpkeepLimits, *, is_pooled: bool) -> Iterator[bool]:
    """Take the session's advisory lock of a phase and yield whether it was free: one run at a time.

    Behind a pooler, where each transaction may have another session, a lease in the log takes its place, and
    each action takes the advisory lock of its table as well.
    """
    queries = db.queries("table_partitions")
    params = {"kind": phase.value, "schema": db.schema}
    if is_pooled:
        with _run_lease(db, phase, limits) as is_mine:
            yield is_mine
        return
    row = db.conn.execute(queries["try_run_lock"], params).fetchone()
    is_mine = bool(row and row[0])
    try:
        yield is_mine
    finally:
        if is_mine and _is_usable(db.conn):
            db.conn.execute(queries["run_unlock"], params)


@contextmanager
def _run_lease(db: Database, phase: Phase, limits: UpkeepLimits) -> Iterator[bool]:
    """Take the phase's lease in the log and yield whether it was free; it ends with the run."""
    params = {"kind": phase.value, "schema": db.schema, "lease": limits.lease}
    run = Action(kind=ActionKind.KEEP, table="", note="a pooler stands before the database")
    with db.conn.transaction():
        locked = db.conn.execute(db.queries("table_partitions")["try_run_lock_in_transaction"], params)
        is_locked = (locked.fetchone() or (False,))[0]
        last = db.conn.execute(db.queries("detection_partition_policies")["last_run"], params)
        is_mine = bool(is_locked) and not (last.fetchone() or (False,))[0]
        if is_mine:
            note(db, run, "done", logged_as=f"{phase}_begun")
    try:
        yield is_mine
    finally:
        if is_mine and _is_usable(db.conn):
            note(db, run, "done", logged_as=f"{phase}_ended")


def _is_usable(conn: Connection) -> bool:
    return not conn.closed and conn.info.transaction_status != TransactionStatus.INERROR


@contextmanager
def _session_lock_timeout(db: Database, limits: UpkeepLimits, *, is_pooled: bool) -> Iterator[None]:
    """Limit the lock waits of statements that cannot run in a transaction; behind a pooler there are none."""
    queries = db.queries("table_partitions")
    row = None if is_pooled else db.conn.execute(queries["lock_setting"]).fetchone()
    if row is None:
        yield
        return
    db.conn.execute(queries["limit_locks_of_session"], {"limit": in_ms(limits.detach_wait)})
    try:
        yield
    finally:
        if _is_usable(db.conn):
            db.conn.execute(queries["limit_locks_of_session"], {"limit": row[0]})


def _carry_out(
    db: Database, phase: Phase, actions: Sequence[Action], run: _Run, *, is_new: bool
) -> Iterator[ActionResult]:
    """Carry out the actions of one table; several creations are tried in one transaction, then one by one."""
    if is_new and len(actions) > 1 and _are_created_together(db, phase, actions, run.limits):
        for action in actions:
            log.info("partition_action_done phase=%s %s", phase, action)
            yield ActionResult(action=action, outcome="done")
        return
    for action in actions:
        yield _attempt(db, phase, action, run)


def _are_created_together(
    db: Database, phase: Phase, actions: Sequence[Action], limits: UpkeepLimits
) -> bool:
    try:
        return create_together(db, actions, limits) is not None
    except (psycopg.Error, StorageError) as error:
        if db.conn.closed:
            raise RegistryUnavailable(f"the connection was lost: {str(error).strip()}") from error
        log.info("partition_actions_one_by_one phase=%s table=%s: %s", phase, actions[0].table, error)
        return False


def _attempt(db: Database, phase: Phase, action: Action, run: _Run) -> ActionResult:
    """Carry out one action; an error is noted and ends this action only."""
    if not action.changes:
        if action.kind is ActionKind.REFUSE:
            note(db, action, "skipped")
        return ActionResult(action=action, outcome="skipped", details=action.note)
    try:
        details = _CARRY_OUT[action.kind](db, action, run)
    except (psycopg.Error, StorageError, ConfigurationError) as error:
        if db.conn.closed:
            raise RegistryUnavailable(f"the connection was lost: {str(error).strip()}") from error
        log.warning("partition_action_failed phase=%s %s: %s", phase, action, error)
        details = str(error).strip()
        note(db, action, "failed", error=details)
        return ActionResult(action=action, outcome="failed", details=details)
    log.info("partition_action_done phase=%s %s %s", phase, action, details)
    return ActionResult(action=action, outcome="done", details=details)


def _do_create(db: Database, action: Action, run: _Run) -> str:
    if action.lower is None or action.upper is None:
        raise StorageError("a new table partition needs two bounds")
    created = create(db, action.table, (action.lower, action.upper), name=action.partition, limits=run.limits)
    if created is None:
        return "it was there"
    notes = [f"as {created.name}"] if created.name != action.partition else []
    notes += [f"{created.moved} rows out of the default partition"] if created.moved else []
    return "; ".join(notes)


def _do_finalize(db: Database, action: Action, run: _Run) -> str:
    child = next((p for p in read_table(db, action.table).partitions if p.oid == action.oid), None)
    if child is not None and child.is_detaching:
        retry_on_lock(
            lambda: _in_transaction(db, run.limits, _ddl(db.schema, "finalize", action)), run.limits
        )
    elif child is not None:
        return "it is attached"
    if _was_ours(db, action):
        note(db, action, "done", logged_as="detach")
        return "now counted as detached"
    note(db, action, "done")
    return "it was not upkeep that began it: it is never dropped"


def _was_ours(db: Database, action: Action) -> bool:
    retired = rows(db, "retired", _table_of(db, action), "detection_partition_policies")
    return any(r["oid"] == action.oid for r in retired)


def _do_detach(db: Database, action: Action, run: _Run) -> str:
    limits = run.limits
    reason = _reason_against_concurrent(db.conn, is_pooled=run.is_pooled)
    # The start is noted first: a run that is killed after the detachment leaves a note that upkeep began it.
    if not reason and not note(
        db, action, "done", logged_as="detach_started", async_commit=True, unless_default=True
    ):
        reason = "the table has a default partition"
    if reason:

        def detach() -> None:
            with db.conn.transaction():
                lock_parent(db, action.table, limits)
                db.conn.execute(_ddl(db.schema, "detach", action))
                note(db, action, "done", path="plain", reason=reason)

        retry_on_lock(detach, limits)
        return f"in one step: {reason}"
    try:
        try:
            db.conn.execute(_ddl(db.schema, "detach_concurrently", action))
        except NO_LOCK:
            retry_on_lock(lambda: _finalize_interrupted(db, action, limits), limits)
    except psycopg.Error:
        if not db.conn.closed and _is_untouched(db, action):
            note(db, action, "done", logged_as="attach", reason="the detachment did not begin")
        raise
    note(db, action, "done", async_commit=True, path="concurrent")
    return ""


def _is_untouched(db: Database, action: Action) -> bool:
    partitions = read_table(db, action.table).partitions
    return any(p.oid == action.oid and not p.is_detaching for p in partitions)


def _reason_against_concurrent(conn: Connection, *, is_pooled: bool) -> str:
    if is_pooled:
        return "a pooler stands before the database"
    if not conn.autocommit or conn.info.transaction_status != TransactionStatus.IDLE:
        return "the connection is in a transaction"
    return ""


def _finalize_interrupted(db: Database, action: Action, limits: UpkeepLimits) -> None:
    """Finalize a detachment that timed out waiting for older readers, or begin it if it did not begin."""
    if _is_untouched(db, action):
        db.conn.execute(_ddl(db.schema, "detach_concurrently", action))
    else:
        _in_transaction(db, limits, _ddl(db.schema, "finalize", action))


def _ddl(schema: str, name: str, action: Action) -> sql.Composed:
    return statement(
        schema,
        name,
        parent=sql.Identifier(action.table),
        namespace=sql.Identifier(action.namespace or schema),
        child=sql.Identifier(action.partition or ""),
    )


def _in_transaction(db: Database, limits: UpkeepLimits, ddl: sql.Composed) -> None:
    with db.conn.transaction():
        limit_locks(db, limits.lock_timeout)
        db.conn.execute(ddl)


def _exported_rows(db: Database, action: Action) -> int | None:
    """Return how many rows the table's last export has; None if it has none that succeeded.

    Raises:
        StorageError: it is no longer the table that was detached, nor its copy with no other rows.
    """
    retired = rows(db, "retired", _table_of(db, action), "detection_partition_policies")
    row = next((r for r in retired if r["oid"] == action.oid and r["kind"] == "r"), None)
    if row is None:
        raise StorageError(f"{action.partition!r} is no longer the table that was detached")
    exported: int | None = row["exported_rows"]
    if not row["is_restored"]:
        return exported
    outside = statement(
        db.schema, "outside", child=sql.Identifier(row["name"]), lower=literal(row["lower"] or FIRST),
        upper=literal(row["upper"] or LAST), key=sql.Identifier(read_table(db, action.table).key),
    )  # fmt: skip
    if db.conn.execute(outside).fetchone() is not None:
        raise StorageError(f"{action.partition!r} has rows outside the span that was detached: it is kept")
    return exported


def _table_of(db: Database, action: Action) -> dict[str, object]:
    return {"schema": db.schema, "table": action.table}


def _do_drop(db: Database, action: Action, run: _Run) -> str:
    def drop() -> None:
        with db.conn.transaction():
            child = sql.Identifier(action.partition or "")
            limit = sql.Literal(in_ms(run.limits.lock_timeout))
            db.conn.execute(statement(db.schema, "lock_child", child=child, limit=limit), prepare=False)
            _check_exported(db, action, _exported_rows(db, action))
            db.conn.execute(statement(db.schema, "drop", child=child))
            note(db, action, "done")

    try:
        retry_on_lock(drop, run.limits)
    except _ExportOutdated as error:
        note(db, action, "failed", logged_as=ActionKind.EXPORT.value, error=str(error))
        raise
    return ""


class _ExportOutdated(StorageError):
    """The table has other rows than its export."""


def _check_exported(db: Database, action: Action, exported: int | None) -> None:
    """Raise StorageError unless the policy wants no export, or the last one has as many rows as the table."""
    uri = _export_uri(db, action)
    if uri is None:
        return
    if exported is None:
        raise StorageError(f"{action.partition!r} has not been exported to {uri}: it is kept")
    counted = db.conn.execute(
        statement(db.schema, "count_rows", child=sql.Identifier(action.partition or ""))
    ).fetchone()
    if counted != (exported,):
        found = counted[0] if counted else None
        raise _ExportOutdated(f"{action.partition!r} has {found} rows, and its export {exported}: it is kept")


def _export_uri(db: Database, action: Action) -> str | None:
    named = {p.table_name: p.retention_export for p in policies(db, datetime.now(UTC))}
    return named.get(action.table)


def _do_export(db: Database, action: Action, run: _Run) -> str:
    uri = _export_uri(db, action)
    if uri is None:
        return "the policy wants no export any more"
    if run.files is None:
        raise StorageError(f"{action.partition!r} cannot be exported: this run has no access to files")
    began_s = time.monotonic()
    folder, export = export_table(db, action, uri, run.files)
    note(
        db, action, "done", uri=folder, rows=export.rows, bytes=export.size_bytes, sha256=export.sha256,
        seconds=round(time.monotonic() - began_s, 1),
    )  # fmt: skip
    return f"{export.rows} rows, {export.size_bytes} bytes in {folder}"


def _do_index(db: Database, action: Action, run: _Run) -> str:
    return make_entity_index(db, action, run.limits, is_pooled=run.is_pooled)


_CARRY_OUT: Mapping[ActionKind, Callable[[Database, Action, _Run], str]] = {
    ActionKind.CREATE: _do_create,
    ActionKind.INDEX: _do_index,
    ActionKind.FINALIZE: _do_finalize,
    ActionKind.DETACH: _do_detach,
    ActionKind.EXPORT: _do_export,
    ActionKind.DROP: _do_drop,
}
