"""A version in shards: each runs and is staged by itself, and when all are there they become its result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import IO

from airflow_detection.cycle.child_store import PostgresChildStore, limits_of, spool_of
from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.cycle.shard_ranges import ShardRanges, shard_inputs, shard_ranges
from airflow_detection.cycle.versions import artifact_cache, job_of, skip_unrunnable
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.scores import EventRule
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, VersionSpec
from airflow_detection.engine.artifact_files import Opener, open_local
from airflow_detection.engine.isolation.report_json import report_json, report_of
from airflow_detection.engine.isolation.runner import SubprocessRunner
from airflow_detection.engine.job import not_run_report, record_failure
from airflow_detection.engine.run_log import LogContext, run_facts
from airflow_detection.engine.shard_reports import merged_metrics, merged_report
from airflow_detection.errors import DetectionError, RegistryUnavailable, StorageError, TransientModelError
from airflow_detection.store import shards
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.shards import ShardedRun, StagedOutputs, StagedShard

log = logging.getLogger(__name__)

_ROUNDS = 2
"""How often a result is tried to be put together of its shards, which another process may delete."""


class ShardStore(PostgresChildStore):
    """Store of the shards of a version: the result of each is staged, its failure is one of the version.

    One attempt for all: of two processes that run the same shards, the one that began later wins.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        opened: OpenedCycle,
        run: ShardedRun,
        reader_conninfo: str | None = None,
    ) -> None:
        super().__init__(db, settings, [opened], reader_conninfo)
        self.run = run
        self.shard: int | None = None
        """The shard that is run; None where all are put together."""
        self.ranges: ShardRanges | None = None
        """Where the shards begin, once that is known: for all that this process runs."""

    def save(
        self,
        file: IO[bytes],
        spool_facts: JsonMapping,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """Stage the outputs that a child has encoded; raises as `stage`."""
        spool = spool_of(file, spool_facts)
        if spool.count != report.output_count:
            raise StorageError(f"{spool.count} encoded outputs were found, not {report.output_count}")
        staged = StagedShard(
            shard=self.shard or 0,
            report=report_json(report),
            metrics=metrics,
            score_counts=spool.score_counts,
        )
        self.with_reconnect(lambda db: shards.stage(db, self.run, staged, spool, self.store.attempt))
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """Store the manifest of a failure, which names the shard."""
        super().save_failure(model, version, cycle, self.named(report))

    def named(self, report: RunReport) -> RunReport:
        """Return the report of a failure with the shard that failed in its error."""
        if self.shard is None:
            return report
        return replace(report, error=f"shard {self.shard} of {self.run.shard_count}: {report.error}")

    def put_together(self, model: ModelSpec) -> RunReport | None:
        """Make the staged shards the result of the version, in one transaction.

        Returns:
            Its report; None where one of them is not there (any more), and nothing was changed.

        Raises:
            StaleAttempt, StorageError, RegistryUnavailable: as `PostgresStore.save_spool`.
        """
        run, stored = self.run, None
        try:
            with connect(self._conninfo) as conn, shards.snapshot(conn):
                db = Database(conn, self._db.schema)
                staged = shards.staged(db, run)
                if len(staged) < run.shard_count:
                    return None
                reports = [report_of(shard.report, run.version) for shard in staged]
                report = merged_report(reports, model.entity_key or "")
                metrics = merged_metrics(reports, [shard.metrics for shard in staged])
                outputs = StagedOutputs(db, run, staged, report.output_count)
                self.with_reconnect(
                    lambda _: self.store.save_spool(model, run.version, run.cycle, outputs, report, metrics)
                )
                stored = report
        except RegistryUnavailable:
            if stored is None:  # else the transaction that has read was lost, and it had done its work
                raise
        return stored


def run_in_shards(
    child_store: PostgresChildStore,
    opened: OpenedCycle,
    step: VersionSpec,
    count: int,
    log_context: LogContext | None,
    opener: Opener,
) -> RunReport:
    """Run the shards of a step that are not there yet, one after the other, and store its result.

    A step that cannot run, or a shard that fails, is the report; what was staged of other shards stays, and
    counts in the next attempt, until the cycle is opened again. Where another process has put the shards
    together and deleted them meanwhile, they are run once more: this attempt began later, and is what counts.
    """

    def run(db: Database) -> RunReport:
        settings, sharded = child_store.settings, _run(opened, step, count)
        with closing(ShardStore(db, settings, opened, sharded, child_store.reader_conninfo)) as store:
            return _run_missing(store, opened, step, log_context, opener)

    return child_store.with_reconnect(run)


def _run_missing(
    store: ShardStore,
    opened: OpenedCycle,
    step: VersionSpec,
    log_context: LogContext | None,
    opener: Opener,
) -> RunReport:
    model, count = opened.plan.models[step.model_id], store.run.shard_count
    report = store.with_reconnect(partial(skip_unrunnable, opened=opened, step=step))
    if report is not None:
        return report
    for _ in range(_ROUNDS):
        there = {staged.shard for staged in store.with_reconnect(lambda db: shards.staged(db, store.run))}
        for shard in sorted(set(range(count)) - there):
            report = _run_one(store, opened, step, shard, log_context, opener)
            if report.outcome is not Outcome.SUCCEEDED:
                return report
        store.shard = None
        if report := _put_together(store, model, log_context):
            return report
    error = TransientModelError(f"{count} shards of {step.label} were staged, and were gone again")
    return record_failure(store, model, not_run_report(step, Outcome.FAILED, ""), opened.cycle, error)


def _put_together(store: ShardStore, model: ModelSpec, log_context: LogContext | None) -> RunReport | None:
    """Store the result and delete its shards; None where they are not there any more."""
    run = store.run
    with run_facts(run.version, run.cycle, log_context):
        try:
            report = store.put_together(model)
        except Exception as error:
            failed = not_run_report(run.version, Outcome.FAILED, "")
            return record_failure(store, model, failed, run.cycle, error)
    if report is not None:
        _clear(lambda: store.with_reconnect(lambda db: shards.clear(db, run, store.store.attempt)))
    return report


def run_shard(
    db: Database,
    settings: Settings,
    opened: OpenedCycle,
    step: VersionSpec,
    shard: int,
    count: int,
    *,
    log_context: LogContext | None = None,
    reader_conninfo: str | None = None,
    opener: Opener = open_local,
) -> RunReport:
    """Run one shard of a step in a process of its own and stage its result, in place of an earlier one."""
    with closing(ShardStore(db, settings, opened, _run(opened, step, count), reader_conninfo)) as store:
        if shard == 0:
            _clear(partial(store.with_reconnect, shards.clear_old))
        report = store.with_reconnect(partial(skip_unrunnable, opened=opened, step=step))
        return report or _run_one(store, opened, step, shard, log_context, opener)


def _clear(delete: Callable[[], None]) -> None:
    """Delete shards that are spent; those that stay go with a later run."""
    try:
        delete()
    except DetectionError as error:
        log.warning("spent shards could not be deleted: %s", error)


def _run(opened: OpenedCycle, step: VersionSpec, count: int) -> ShardedRun:
    return ShardedRun(
        cycle=opened.cycle,
        version=step,
        shard_count=count,
        opened_at=opened.opened_at,
        score_edges=EventRule.of(opened.plan.models[step.model_id].events).edges,
    )


def _run_one(
    store: ShardStore,
    opened: OpenedCycle,
    step: VersionSpec,
    shard: int,
    log_context: LogContext | None,
    opener: Opener,
) -> RunReport:
    store.shard, settings = shard, store.settings
    inputs = _inputs(store, opened, opened.plan.models[step.model_id], shard)
    runner = SubprocessRunner(store, partial(limits_of, settings), log_context)
    with artifact_cache(settings, opener) as artifacts:
        job = replace(job_of(settings, opened, step, inputs, artifacts), is_shard=True)
        (report,) = runner.run([job], 1)
    return store.named(report) if report.outcome is Outcome.FAILED else report


def _inputs(store: ShardStore, opened: OpenedCycle, model: ModelSpec, shard: int) -> Callable[[], Inputs]:
    """Read the rows of a shard before the fork; an error is raised where they are asked for."""
    try:
        with store.reading() as reading:
            if store.ranges is None:
                count = store.run.shard_count
                store.ranges = store.with_reconnect(
                    lambda db: shard_ranges(db, reading, opened, model, count)
                )
            inputs = shard_inputs(reading, opened, store.ranges, shard)
    except Exception as error:
        failure = error

        def fail() -> Inputs:
            raise failure

        return fail
    return lambda: inputs
