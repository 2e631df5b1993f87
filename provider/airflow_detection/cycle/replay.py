"""Replay of a version over past cycles, so that a challenger that was never live has a history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode
from airflow_detection.engine.artifact_files import Opener, open_local
from airflow_detection.engine.run_log import LogContext
from airflow_detection.store.database import Database


def replay(
    db: Database,
    settings: Settings,
    cycle_id: str,
    label: str,
    cycles: Sequence[datetime],
    *,
    log_context: LogContext | None = None,
    reader_conninfo: str | None = None,
    opener: Opener = open_local,
) -> Iterator[RunReport]:
    """Replay `model@version` in each of the cycles, as a run in mode `override` does; yield each report.

    It runs in a process of its own and reads what the champions have stored; its results are marked as a
    replay and stand beside the live ones. A cycle that is replayed again replaces its earlier replay.

    Raises:
        PlanError, ExpiredPartition: no plan can be given for a cycle.
        RegistryUnavailable: the database did not answer.
    """
    for at in cycles:
        opened = planning.open_cycle(db, cycle_id, at, mode=Mode.OVERRIDE, replay=[label])
        yield from inline.run_steps(db, settings, opened, opened.steps, log_context, reader_conninfo, opener)
