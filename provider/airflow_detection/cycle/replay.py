"""Replay of versions over past cycles, so that a challenger that was never live has a history."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby

from airflow_detection.cycle import planning
from airflow_detection.cycle.child_store import PostgresChildStore, limits_of
from airflow_detection.cycle.closing import close_cycle
from airflow_detection.cycle.inline import import_modules
from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.shards import run_in_shards
from airflow_detection.cycle.versions import artifact_cache, job_of, skip_unrunnable
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode
from airflow_detection.engine.artifact_files import Opener, open_local
from airflow_detection.engine.isolation.runner import SubprocessRunner
from airflow_detection.engine.job import Job
from airflow_detection.engine.run_log import LogContext
from airflow_detection.errors import DetectionError
from airflow_detection.store import cycle_runs, registry
from airflow_detection.store.database import Database

log = logging.getLogger(__name__)

MAX_CYCLES = 48
"""Cycles that are replayed at a time, in one process of each version."""

LOOKBACKS = 3
"""The cycles that are replayed at a time begin within so many lookbacks: their rows are in memory."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """How the replay of a version ended in one cycle."""

    at: datetime
    report: RunReport


def cycles_to_replay(
    db: Database, cycle_id: str, labels: Sequence[str], *, start: datetime, end: datetime, again: bool = False
) -> tuple[list[datetime], int]:
    """Return the cycles in [start, end) that ran and lack a replay of one of the versions; and how many ran.

    A replay that was ended before its cycle was closed is none.

    Args:
        again: whether those with a replay of each are returned as well.

    Returns:
        The cycles in order of time, UTC.

    Raises:
        PlanError: an unknown cycle, or a version that is not registered.
    """
    registry.cycle_spec(db, cycle_id)
    version_ids = [version.version_id for version in registry.named_versions(db, labels)]
    rows = cycle_runs.replayable(db, cycle_id, version_ids, start=start, end=end)
    return [at for at, is_done in rows if again or not is_done], len(rows)


def stretches(cycles: Sequence[datetime], lookback: timedelta) -> Iterator[Sequence[datetime]]:
    """Cut cycles, in order of time, into stretches that are replayed at a time."""
    stretch: list[datetime] = []
    for at in cycles:
        if stretch and (len(stretch) == MAX_CYCLES or at - stretch[0] > LOOKBACKS * lookback):
            yield stretch
            stretch = []
        stretch.append(at)
    if stretch:
        yield stretch


def replay(
    db: Database,
    settings: Settings,
    cycle_id: str,
    labels: Sequence[str],
    cycles: Sequence[datetime],
    *,
    log_context: LogContext | None = None,
    reader_conninfo: str | None = None,
    opener: Opener = open_local,
) -> Iterator[Replayed]:
    """Replay versions, `model@version`, in each of the cycles, as runs in mode `override` do.

    They read what the champions have stored; their results are marked as a replay and stand beside the live
    ones. A cycle that is replayed again replaces its earlier replay. The cycles of a stretch have one
    process for each version, which keeps its modules, its artefact and its folder from cycle to cycle; each
    result is stored in a transaction of its own, while the process is at the next cycle.

    Args:
        cycles: in order of time, UTC.

    Yields:
        The results when those of a version in a stretch are stored: in order of time.

    Raises:
        PlanError, ExpiredPartition: no plan can be given for a cycle.
        RegistryUnavailable: the database did not answer.
    """
    import_modules(settings.inline_preload)
    for stretch in stretches(cycles, registry.cycle_spec(db, cycle_id).lookback):
        opened_cycles = planning.open_cycles(db, cycle_id, stretch, mode=Mode.OVERRIDE, replay=labels)
        for _, same in groupby(opened_cycles, lambda opened: (opened.spec, opened.plan.digest)):
            part = list(same)
            with (
                artifact_cache(settings, opener) as artifacts,
                closing(PostgresChildStore(db, settings, part, reader_conninfo)) as child_store,
            ):
                runner = SubprocessRunner(child_store, partial(limits_of, settings), log_context)
                inputs = _Inputs(child_store, part)
                for step in part[0].steps:
                    if (count := part[0].plan.models[step.model_id].shards) > 1:
                        for opened in part:
                            report = run_in_shards(child_store, opened, step, count, log_context, opener)
                            yield Replayed(opened.cycle.started_at, report)
                        continue
                    jobs = []
                    for opened in part:
                        skipped = child_store.with_reconnect(
                            partial(skip_unrunnable, opened=opened, step=step)
                        )
                        if skipped is not None:
                            yield Replayed(opened.cycle.started_at, skipped)
                            continue
                        jobs.append(job_of(settings, opened, step, partial(inputs.of, opened), artifacts))
                    yield from _run(runner, jobs)
        for opened in opened_cycles:
            close_cycle(db, cycle_id, opened.cycle.started_at, mode=Mode.OVERRIDE, task_states={})


def _run(runner: SubprocessRunner, jobs: Sequence[Job]) -> Iterator[Replayed]:
    """Run jobs of one version in one process; behind one that has ended the process, in another."""
    while jobs:
        reports = runner.run_series(jobs)
        for job, report in zip(jobs, reports, strict=False):
            yield Replayed(job.cycle.started_at, report)
        jobs = jobs[len(reports) :]


class _Inputs:
    """The input rows of the cycles of a stretch, read once if their windows can be taken from those rows."""

    def __init__(self, child_store: PostgresChildStore, part: Sequence[OpenedCycle]) -> None:
        self._child_store, self._stretch = child_store, None
        models = part[0].plan.models
        are_read = any(models[step.model_id].shards == 1 for step in part[0].steps)
        if part[0].spec.input_query and len(part) > 1 and are_read:
            from airflow_detection.cycle.stretch_inputs import stretch_inputs  # numpy

            try:
                with child_store.reading() as db:
                    self._stretch = stretch_inputs(db, part)
            except DetectionError as error:  # each version fails with it where it reads its rows
                log.warning("the rows of %d cycles could not be read at once: %s", len(part), error)

    def of(self, opened: OpenedCycle) -> Inputs:
        """In a version's process: return the rows of one cycle."""
        if not opened.spec.input_query:
            return Inputs()
        return self._stretch.of(opened) if self._stretch else self._child_store.inputs_in_child(opened)
