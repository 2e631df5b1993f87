"""A whole plan in one task: each version in a process of its own, and one connection that writes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import cache, partial
from importlib import import_module

from airflow_detection.cycle.child_store import PostgresChildStore, limits_of
from airflow_detection.cycle.planning import OpenedCycle, planned
from airflow_detection.cycle.versions import (
    job_of,
    read_inputs,
    reader,
    skipped_step,
)
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, VersionSpec
from airflow_detection.engine.alarm import alarm
from airflow_detection.engine.entrypoints import Registry
from airflow_detection.engine.executor import CycleReport, DAGExecutor, summarize
from airflow_detection.engine.isolation.runner import SubprocessRunner
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.engine.run_log import LogContext
from airflow_detection.store.database import Database
from airflow_detection.store.session import limited_statements

log = logging.getLogger(__name__)


def run_inline(
    db: Database,
    settings: Settings,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    concurrent_shadows: bool = False,
    log_context: LogContext | None = None,
    reader_conninfo: str | None = None,
) -> CycleReport:
    """Run the whole plan of a cycle, one process for each version; this one holds one connection.

    Args:
        log_context: makes another logging system's lines carry the facts of each run.
        reader_conninfo: the connection string that models read with; that of `db` when None.

    Raises:
        PlanError: unknown cycle, or `override` without a recorded plan.
        TerminalModelError, RegistryUnavailable: the input query failed.
    """
    opened = planned(db, cycle_id, started_at, mode=mode)
    plan = opened.plan
    if mode is Mode.OVERRIDE:  # replays read stored champions, which do not run again
        reports = tuple(run_steps(db, settings, opened, opened.steps, log_context, reader_conninfo))
        return CycleReport(reports=reports, summary=summarize(plan, reports))
    inputs = _inputs(db, settings, opened)
    known = Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes)
    _import(settings.inline_preload)
    _prepare(known, plan, settings.inline_timeout_s)
    with closing(PostgresChildStore(db, settings, opened, reader_conninfo)) as child_store:
        return DAGExecutor(
            plan,
            instantiate=known.instantiate,
            store=child_store.store,
            inputs=inputs,
            concurrent_shadows=concurrent_shadows,
            runner=SubprocessRunner(child_store, lambda model: limits_of(settings, model), log_context),
        ).run(opened.cycle)


def run_steps(
    db: Database,
    settings: Settings,
    opened: OpenedCycle,
    steps: Sequence[VersionSpec],
    log_context: LogContext | None = None,
    reader_conninfo: str | None = None,
) -> list[RunReport]:
    """Run some steps of a plan one after the other, whatever becomes of each; the inputs are read once."""
    reports = []
    if len(steps) > 1:
        _import(settings.inline_preload)
    with closing(PostgresChildStore(db, settings, opened, reader_conninfo)) as child_store:
        runner = SubprocessRunner(child_store, lambda model: limits_of(settings, model), log_context)
        inputs = cache(lambda: child_store.with_reconnect(lambda db: _inputs(db, settings, opened)))
        for step in steps:
            report = child_store.with_reconnect(partial(skipped_step, opened=opened, step=step))
            if report is None:
                inputs()  # read here, once, where every child will find it
                (report,) = runner.run([job_of(settings, opened, step, inputs)], 1)
            reports.append(report)
    return reports


def _import(names: Iterable[str]) -> None:
    """Import once what many processes would import each; what is not installed is left out."""
    for name in names:
        with suppress(ImportError):
            import_module(name)


def _prepare(known: Registry, plan: ExecutionPlan, timeout_s: float) -> None:
    """Load once what the champions' classes share; a class that cannot is left to fail in its own run."""

    def on_timeout() -> None:
        raise TimeoutError(f"it had not ended after {timeout_s:g} s")

    for champion in plan.primaries.values():
        try:
            with alarm(timeout_s, on_timeout):
                known.model_class(champion).prepare()
        except (Exception, SystemExit):
            log.warning("%s could not be prepared", champion.label, exc_info=True)


def _inputs(db: Database, settings: Settings, opened: OpenedCycle) -> Inputs:
    seconds = settings.statement_timeout_s or settings.inline_timeout_s
    with limited_statements(db, seconds):
        return read_inputs(reader(db, opened), opened.spec)
