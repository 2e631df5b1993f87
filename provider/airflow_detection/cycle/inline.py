"""Run of a whole plan in one task: each version in a process of its own, one connection that writes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from datetime import datetime
from functools import cache, partial
from importlib import import_module

from airflow_detection.cycle.child_store import PostgresChildStore, limits_of
from airflow_detection.cycle.planning import OpenedCycle, planned_cycle
from airflow_detection.cycle.shards import run_in_shards
from airflow_detection.cycle.versions import artifact_cache, job_of, skip_unrunnable
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, VersionSpec
from airflow_detection.engine.alarm import alarm
from airflow_detection.engine.artifact_files import Opener, open_local
from airflow_detection.engine.artifacts import ArtifactCache
from airflow_detection.engine.entrypoints import Registry
from airflow_detection.engine.executor import CycleReport, DAGExecutor, summarize
from airflow_detection.engine.isolation.runner import SubprocessRunner
from airflow_detection.engine.job import describe
from airflow_detection.engine.model import load_once
from airflow_detection.engine.plan import ExecutionPlan
from airflow_detection.engine.run_log import LogContext, with_own_frames
from airflow_detection.errors import StorageError
from airflow_detection.store.database import Database

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
    opener: Opener = open_local,
) -> CycleReport:
    """Run the whole plan of a cycle, each version in a process of its own; this process has one connection.

    Args:
        log_context: makes another logging system's lines carry the facts of each run.
        reader_conninfo: the connection string that models read with; that of `db` when None.
        opener: opens the file of an artefact's URI.

    Raises:
        PlanError: unknown cycle, or `override` without a recorded plan.
        TerminalModelError, RegistryUnavailable: the input query failed.
    """
    opened = planned_cycle(db, cycle_id, started_at, mode=mode)
    plan = opened.plan
    if mode is Mode.OVERRIDE:  # replays read stored champions, which do not run again
        reports = tuple(run_steps(db, settings, opened, opened.steps, log_context, reader_conninfo, opener))
        return CycleReport(reports=reports, summary=summarize(plan, reports))
    models = Registry(plan.models.values(), allowed_prefixes=settings.allowed_prefixes)
    with (
        artifact_cache(settings, opener) as artifacts,
        closing(PostgresChildStore(db, settings, [opened], reader_conninfo)) as child_store,
    ):
        inputs = _read(child_store, opened, (StorageError,))
        import_modules(settings.inline_preload)
        _prepare(models, plan, artifacts, settings.inline_timeout_s)
        return DAGExecutor(
            plan,
            instantiate=models.instantiate,
            store=child_store.store,
            inputs=inputs,
            concurrent_shadows=concurrent_shadows,
            runner=SubprocessRunner(child_store, lambda model: limits_of(settings, model), log_context),
            artifact=artifacts.of,
        ).run(opened.cycle)


def run_steps(
    db: Database,
    settings: Settings,
    opened: OpenedCycle,
    steps: Sequence[VersionSpec],
    log_context: LogContext | None = None,
    reader_conninfo: str | None = None,
    opener: Opener = open_local,
    shards: int | None = None,
) -> list[RunReport]:
    """Run some steps of a plan in turn, each in a process of its own; the inputs are read once.

    A step that cannot run, or fails, is a report; the others run all the same. The shards of a version that
    runs in shards follow one another, each with rows of its own.

    Args:
        shards: in how many shards a version runs; as many as its model's task options have when None.
    """
    reports = []
    if len(steps) > 1:
        import_modules(settings.inline_preload)
    with (
        artifact_cache(settings, opener) as artifacts,
        closing(PostgresChildStore(db, settings, [opened], reader_conninfo)) as child_store,
    ):
        runner = SubprocessRunner(child_store, lambda model: limits_of(settings, model), log_context)
        inputs = cache(partial(_read, child_store, opened, is_shared=len(steps) < len(opened.steps)))
        for step in steps:
            count = shards or opened.plan.models[step.model_id].shards
            if count > 1:
                reports.append(run_in_shards(child_store, opened, step, count, log_context, opener))
                continue
            report = child_store.with_reconnect(partial(skip_unrunnable, opened=opened, step=step))
            if report is None:
                (report,) = runner.run([job_of(settings, opened, step, inputs(), artifacts)], 1)
            reports.append(report)
    return reports


def _read(
    child_store: PostgresChildStore,
    opened: OpenedCycle,
    left_to_children: tuple[type[Exception], ...] = (Exception,),
    *,
    is_shared: bool = False,
) -> Callable[[], Inputs]:
    """Read the inputs before the fork, so that each child finds them in its memory.

    An error of a kind `left_to_children` is raised where they are asked for: each version fails with it.
    """
    try:
        inputs = child_store.inputs(opened, is_shared=is_shared)
    except left_to_children as error:
        failure = error

        def fail() -> Inputs:
            raise failure

        return fail
    return lambda: inputs


def import_modules(names: Iterable[str]) -> None:
    """Import modules that the forked versions then share; one that is not installed is left out."""
    for name in names:
        with suppress(ImportError):
            import_module(name)


def _prepare(models: Registry, plan: ExecutionPlan, artifacts: ArtifactCache, timeout_s: float) -> None:
    """Call `prepare` of each champion's class, and load its artefact; after an error, which is logged, the
    version runs all the same.
    """

    def on_timeout() -> None:
        raise TimeoutError(f"it had not ended after {timeout_s:g} s")

    for champion in plan.primaries.values():
        try:
            with alarm(timeout_s, on_timeout):
                model = models.model_class(champion)
                model.prepare()
                if (path := artifacts.of(champion)) is not None:
                    load_once(model, path, champion.params)
        except (Exception, SystemExit) as error:
            log.warning(
                "%s could not be prepared: %s",
                champion.label,
                describe(error),
                exc_info=with_own_frames(error),
            )
