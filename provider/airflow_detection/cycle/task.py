"""Run of one version of one cycle, as an Airflow task does it: the one way to run a version."""

from __future__ import annotations

from collections.abc import Callable

from airflow_detection.cycle.inline import run_steps
from airflow_detection.cycle.versions import VersionRequest, find_step, run_step
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Role
from airflow_detection.engine.run_log import LogContext
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database


def run_task(
    db: Database,
    open_reader: Callable[[], Connection],
    settings: Settings,
    request: VersionRequest,
    *,
    log_context: LogContext | None = None,
    reader_conninfo: Callable[[], str | None] = lambda: None,
) -> RunReport:
    """Run one version and store its result: a champion in this process, any other in a process of its own.

    A shadow may then hang, exit, use up its memory or leave processes behind: its process is ended, and the
    task goes on.

    Args:
        open_reader: opens the connection that a champion reads with, when it first reads.
        log_context: makes another logging system's lines carry the facts of the run.
        reader_conninfo: gives the connection string that a shadow reads with; that of `db` if it gives None.

    Raises:
        PlanError: the plan has no such version.
        RegistrationError: the model's registration is broken; the message is the reason.
    """
    opened, step = find_step(db, request)
    if step.role is Role.PRIMARY and not step.is_replay:
        return run_step(db, open_reader, settings, opened, step, log_context)
    (report,) = run_steps(db, settings, opened, [step], log_context, reader_conninfo())
    return report
