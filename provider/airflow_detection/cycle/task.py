"""One version of one cycle, as an Airflow task runs it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from airflow_detection.cycle.inline import run_steps
from airflow_detection.cycle.versions import (
    chosen,
    run_step,
)
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Role
from airflow_detection.engine.run_log import Telling
from airflow_detection.store.connection import Connection


def run_task(
    conn: Connection,
    reader_conn: Callable[[], Connection],
    settings: Settings,
    cycle_id: str | None,
    started_at: datetime,
    *,
    model_id: str,
    version: str | None,
    mode: Mode,
    telling: Telling | None = None,
    reading: Callable[[], str | None] = lambda: None,
) -> RunReport:
    """Run one version, as a task does: a champion in this process, any other in one of its own.

    A shadow can then hang, exit, take memory or leave processes behind as it likes: what it may is bounded,
    and the task goes on. See `pipeline.run_one` for the arguments and what is raised.

    Args:
        reading: gives the connection string for what a shadow reads.
    """
    spec, opened, step = chosen(
        conn, settings, cycle_id, started_at, model_id=model_id, version=version, mode=mode
    )
    if step.role is Role.PRIMARY and not step.is_replay:
        return run_step(conn, reader_conn, settings, spec, opened, step, telling)
    (report,) = run_steps(conn, settings, spec, opened, [step], telling, reading())
    return report
