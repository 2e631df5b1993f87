"""A whole plan in one task: each version in a process of its own, and one connection that writes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import cache, partial
from importlib import import_module

from airflow_detection.cycle.child_store import PostgresBase, limits_of
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
from airflow_detection.domain.specs import CycleSpec, Mode, VersionSpec
from airflow_detection.engine.alarm import alarm
from airflow_detection.engine.entrypoints import Registry
from airflow_detection.engine.executor import CycleReport, DAGExecutor, summarize
from airflow_detection.engine.isolation.runner import Forked
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.engine.run_log import Telling
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.session import limited_statements

log = logging.getLogger(__name__)


def run_inline(
    conn: Connection,
    settings: Settings,
    cycle_id: str,
    started_at: datetime,
    *,
    mode: Mode,
    concurrent_shadows: bool = False,
    telling: Telling | None = None,
    reading: str | None = None,
) -> CycleReport:
    """Run the whole plan of a cycle, one process for each version; this one holds one connection.

    Args:
        telling: makes another logging system's lines carry the facts of each run.
        reading: the connection string for what models read; that of `conn` when None.

    Raises:
        PlanError: unknown cycle, or `override` without a recorded plan.
        TerminalModelError, RegistryUnavailable: the input query failed.
    """
    spec, opened = planned(conn, settings, cycle_id, started_at, mode=mode)
    plan = opened.plan
    if mode is Mode.OVERRIDE:  # replays read stored champions, which do not run again
        reports = tuple(run_steps(conn, settings, spec, opened, opened.steps, telling, reading))
        return CycleReport(reports=reports, summary=summarize(plan, reports))
    inputs = _inputs(conn, settings, spec, opened)
    known = Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes)
    _import(settings.inline_preload)
    _prepare(known, plan, settings.inline_timeout_s)
    with closing(PostgresBase(conn, settings, opened, reading)) as base:
        return DAGExecutor(
            plan,
            instantiate=known.instantiate,
            store=base.store,
            inputs=inputs,
            concurrent_shadows=concurrent_shadows,
            runner=Forked(base, lambda model: limits_of(settings, model), telling),
        ).run(opened.cycle)


def _import(names: Iterable[str]) -> None:
    """Import once what many processes would import each; what is not installed is left out."""
    for name in names:
        with suppress(ImportError):
            import_module(name)


def _prepare(known: Registry, plan: ExecutionPlan, timeout_s: float) -> None:
    """Load once what the champions' classes share; a class that cannot is left to fail in its own run."""

    def ring() -> None:
        raise TimeoutError(f"it had not ended after {timeout_s:g} s")

    for champion in plan.primaries.values():
        try:
            with alarm(timeout_s, ring):
                known.model_class(champion).prepare()
        except (Exception, SystemExit):
            log.warning("%s could not be prepared", champion.label, exc_info=True)


def run_steps(
    conn: Connection,
    settings: Settings,
    spec: CycleSpec,
    opened: OpenedCycle,
    steps: Sequence[VersionSpec],
    telling: Telling | None = None,
    reading: str | None = None,
) -> list[RunReport]:
    """Run some steps of a plan one after the other, whatever becomes of each; the inputs are read once."""
    reports = []
    if len(steps) > 1:
        _import(settings.inline_preload)
    with closing(PostgresBase(conn, settings, opened, reading)) as base:
        runner = Forked(base, lambda model: limits_of(settings, model), telling)
        inputs = cache(lambda: base.again(lambda conn: _inputs(conn, settings, spec, opened)))
        for step in steps:
            report = base.again(partial(skipped_step, settings=settings, opened=opened, step=step))
            if report is None:
                inputs()  # read here, once, where every child will find it
                (report,) = runner.run([job_of(settings, opened, step, inputs)], 1)
            reports.append(report)
    return reports


def _inputs(conn: Connection, settings: Settings, spec: CycleSpec, opened: OpenedCycle) -> Inputs:
    seconds = settings.statement_timeout_s or settings.inline_timeout_s
    with limited_statements(Database(conn, settings.schema), seconds):
        return read_inputs(reader(conn, settings, opened), spec)
