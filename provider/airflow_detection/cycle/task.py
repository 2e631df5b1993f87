"""Run of one version of one cycle, as an Airflow task does it: the one way to run a version."""

from __future__ import annotations

from collections.abc import Callable

from airflow_detection.cycle.inline import run_steps
from airflow_detection.cycle.shards import run_shard
from airflow_detection.cycle.versions import VersionRequest, find_step
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.engine.artifact_files import Opener, open_local
from airflow_detection.engine.run_log import LogContext
from airflow_detection.store.database import Database


def run_task(
    db: Database,
    settings: Settings,
    request: VersionRequest,
    *,
    log_context: LogContext | None = None,
    reader_conninfo: Callable[[], str | None] = lambda: None,
    opener: Opener = open_local,
    shard: int | None = None,
    shards: int | None = None,
) -> RunReport:
    """Run one version, or one shard of it, in a process of its own and store its result.

    It may then hang, exit, use up its memory or leave processes behind: its process is ended, and the task
    goes on.

    Args:
        log_context: makes another logging system's lines carry the facts of the run.
        reader_conninfo: gives the connection string that it reads with; that of `db` if it gives None.
        opener: opens the file of an artefact's URI.
        shard: the one of its `shards` that is run and staged. When None, those that are not there yet are
            run, and the result is stored.
        shards: as `run_steps`.

    Raises:
        PlanError: the plan has no such version.
        RegistrationError: the model's registration is broken; the message is the reason.
    """
    opened, step = find_step(db, request)
    if shard is not None:
        return run_shard(
            db,
            settings,
            opened,
            step,
            shard,
            shards or opened.plan.models[step.model_id].shards,
            log_context=log_context,
            reader_conninfo=reader_conninfo(),
            opener=opener,
        )
    (report,) = run_steps(db, settings, opened, [step], log_context, reader_conninfo(), opener, shards)
    return report
