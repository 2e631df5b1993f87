"""Execution of a whole plan for one cycle: which version runs, which is skipped, and the counts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import CycleSummary, RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.engine.job import (
    Job,
    Store,
    not_run_report,
    run_job,
    run_stage,
    run_version,
    save_failure,
)
from airflow_detection.engine.model import BaseDetectionModel, ReadOnlyDatabase
from airflow_detection.engine.plan import ExecutionPlan

__all__ = ["CycleReport", "DAGExecutor", "InProcess", "Runner", "run_stage", "run_version", "summarize"]

MAX_CONCURRENT_SHADOWS = 4

_log = logging.getLogger("airflow_detection.engine")


class Runner(Protocol):
    """Runs versions that do not depend on each other."""

    def run(self, jobs: Sequence[Job], at_once: int) -> list[RunReport]:
        """Run each job, at most `at_once` at a time; the reports are in the order of the jobs."""


@dataclass(frozen=True, slots=True)
class InProcess:
    """Runs versions in this process, one after the other: for notebooks, debuggers and tests.

    A model that hangs, leaves the process or exhausts memory takes the cycle with it; `SubprocessRunner`
    guards against that.
    """

    store: Store
    database: ReadOnlyDatabase | None = None

    def run(self, jobs: Sequence[Job], at_once: int) -> list[RunReport]:
        """Run each job in turn, whatever `at_once` allows."""
        return [run_job(job, self.store, self.database) for job in jobs]


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleReport:
    """Reports of every version of a plan, in plan order, and their counts."""

    reports: tuple[RunReport, ...] = ()
    summary: CycleSummary = field(default_factory=CycleSummary)


def summarize(plan: ExecutionPlan, reports: Iterable[RunReport]) -> CycleSummary:
    """Count a cycle. `skipped_missing_deps` counts models; a broken model counts as failed.

    What is switched off is not counted as skipped.
    """
    champions: dict[str, Outcome] = {}
    shadows: list[Outcome] = []
    for report in reports:
        if report.version.role is not Role.PRIMARY:
            if report.outcome is not Outcome.SKIPPED or plan.is_enabled(report.version.model_id):
                shadows.append(report.outcome)
        elif report.version.model_id not in plan.broken:
            champions[report.version.model_id] = report.outcome
    outcomes = list(champions.values())
    skipped = [
        m for m, outcome in champions.items() if outcome is Outcome.SKIPPED and plan.models[m].is_enabled
    ]
    return CycleSummary(
        executed=outcomes.count(Outcome.SUCCEEDED),
        failed=outcomes.count(Outcome.FAILED) + len(plan.broken),
        skipped_missing_deps=len(skipped),
        shadow_ran=shadows.count(Outcome.SUCCEEDED),
        shadow_failed=shadows.count(Outcome.FAILED),
        shadow_skipped=shadows.count(Outcome.SKIPPED),
        without_primary=tuple(m for m in plan.without_primary if m not in plan.broken),
    )


class DAGExecutor:
    """Runs a whole plan.

    Args:
        plan: what to run.
        instantiate: makes the model object of a version.
        store: where results go, and where upstream champions are read from.
        inputs: the cycle's input rows, or what gives them to each version.
        database: read-only access for models that want more.
        concurrent_shadows: a model's shadows may run at the same time, at most four; what they store is the
            same.
        runner: runs the versions; in this process unless given.
        artifact: gives the file of a version's artefact; none unless given.
    """

    def __init__(
        self,
        plan: ExecutionPlan,
        *,
        instantiate: Callable[[VersionSpec], BaseDetectionModel],
        store: Store,
        inputs: Inputs | Callable[[], Inputs] | None = None,
        database: ReadOnlyDatabase | None = None,
        concurrent_shadows: bool = False,
        runner: Runner | None = None,
        artifact: Callable[[VersionSpec], Path | None] = lambda _: None,
    ) -> None:
        self._plan, self._instantiate, self._store = plan, instantiate, store
        rows = Inputs() if inputs is None else inputs
        self._inputs = rows if callable(rows) else lambda: rows
        self._at_once = MAX_CONCURRENT_SHADOWS if concurrent_shadows else 1
        self._artifact = artifact
        self._runner = InProcess(store, database) if runner is None else runner

    def run(self, cycle: Cycle) -> CycleReport:
        """Run the plan for one cycle; a version that fails is a report, not an exception."""
        reports: list[RunReport] = []
        results: dict[str, VersionSpec] = {}  # champions that have a result
        for model_id in self._plan.topo_order:
            model_reports = self._run_model(self._plan.models[model_id], cycle, results)
            if model_reports and model_reports[0].outcome is Outcome.SUCCEEDED:
                results[model_id] = model_reports[0].version
            reports.extend(model_reports)
        return CycleReport(reports=tuple(reports), summary=summarize(self._plan, reports))

    def _run_model(
        self, model: ModelSpec, cycle: Cycle, results: Mapping[str, VersionSpec]
    ) -> list[RunReport]:
        """Run a champion, then its shadows. The champion's report is first; none if there is no champion."""
        champion = self._plan.primaries.get(model.model_id)
        shadows = self._plan.shadows.get(model.model_id, ())
        if champion is None:
            if shadows:
                _log.warning("model %s has shadows but no PRIMARY: it does not run", model.model_id)
            return []
        champion_report = self._unrunnable_report(model, champion, cycle, results)
        if champion_report is None:
            (champion_report,) = self._runner.run([self._job(model, champion, cycle, results)], 1)
        if champion_report.outcome is not Outcome.SUCCEEDED:
            reason = "its own champion has no result"
            return [champion_report, *(not_run_report(shadow, Outcome.SKIPPED, reason) for shadow in shadows)]
        jobs = [self._job(model, shadow, cycle, results) for shadow in shadows]
        return [champion_report, *(self._runner.run(jobs, self._at_once) if jobs else ())]

    def _unrunnable_report(
        self, model: ModelSpec, champion: VersionSpec, cycle: Cycle, results: Mapping[str, VersionSpec]
    ) -> RunReport | None:
        """Return the report of a champion that cannot run, with the reason; None if it can."""
        if (reason := self._plan.broken.get(model.model_id)) is not None:
            report = not_run_report(champion, Outcome.FAILED, reason)
            save_failure(self._store, model, report, cycle)
            return report
        if not model.is_enabled:
            return not_run_report(champion, Outcome.SKIPPED, "the model is switched off")
        if missing := [u for u in self._plan.upstreams(model.model_id) if u not in results]:
            reason = f"upstream champion without result: {', '.join(missing)}"
            return not_run_report(champion, Outcome.SKIPPED, reason)
        return None

    def _job(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, results: Mapping[str, VersionSpec]
    ) -> Job:
        return Job(
            model=model,
            version=version,
            cycle=cycle,
            instantiate=self._instantiate,
            inputs=self._inputs,
            upstreams={u: results[u] for u in self._plan.upstreams(model.model_id)},
            artifact=partial(self._artifact, version),
        )
