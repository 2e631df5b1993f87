"""The operators around the models: open a cycle, run what has no task of its own, close it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowSkipException,
    DownstreamTasksSkipped,
)

from airflow_detection.domain.cron import clock_change
from airflow_detection.domain.names import (
    CLOSE,
    INLINE,
    LEGACY,
    OPEN,
    OTHER,
    asset_uri_of,
    task_id,
    task_id_of,
)
from airflow_detection.domain.specs import Mode, Outcome, Role, VersionSpec
from airflow_detection.engine import flags
from airflow_detection.operators.arguments import TemplatedOperator
from airflow_detection.operators.assets import add_partition_keys
from airflow_detection.operators.context import (
    cycle_of_run,
    instant_of,
    mode_of,
    open_artifact,
    open_database,
    param,
    reader_conninfo_of,
    schedule_of,
    settings_of,
    terminal_errors,
)
from airflow_detection.operators.lineage import TaskRun, WithLineage, WithOutputs
from airflow_detection.operators.model import DetectionModelOperator, DetectionShardOperator
from airflow_detection.operators.telemetry import emit, log_context

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import DAG, Context

    from airflow_detection.domain.reports import CycleSummary, RunReport
    from airflow_detection.domain.settings import Settings
    from airflow_detection.engine.plan import ExecutionPlan
    from airflow_detection.store.database import Database

COUNTS, MODE, LABELS = "counts", "mode", "labels"


def _model_tasks(dag: DAG) -> dict[tuple[str, str | None], DetectionModelOperator]:
    return {(t.model_id, t.version): t for t in dag.tasks if isinstance(t, DetectionModelOperator)}


def _shard_tasks(dag: DAG) -> dict[str, tuple[str, int]]:
    """Return the mapped task of each version that runs in shards, and how many, by the version's task."""
    return {
        task.task_id: (other, task.shards or 1)
        for task in _model_tasks(dag).values()
        for other in task.upstream_task_ids
        if getattr(dag.task_dict[other], "operator_class", None) is DetectionShardOperator
    }


def _states_by_name(dag: DAG, states: Mapping[str, str]) -> dict[str, str]:
    """Return the states of a Dag's model tasks by the names that the plan has for them.

    A task whose id had to give way to another's is known to the plan by its model and version. One that did
    not run because a shard of its version failed counts as failed.
    """
    shards = _shard_tasks(dag)

    def state_of(task_id: str) -> str:
        mapped, count = shards.get(task_id, ("", 0))
        of_shards = {states.get(f"{mapped}_{number}") for number in range(count)}
        is_failed = states[task_id] == "upstream_failed" and "failed" in of_shards
        return "failed" if is_failed else str(states[task_id])

    tasks = _model_tasks(dag).items()
    return {task_id_of(*key): state_of(t.task_id) for key, t in tasks if t.task_id in states}


def _instances(dag: DAG, task_ids: Iterable[str]) -> list[str | tuple[str, int]]:
    """Return what Airflow is told to skip: tasks, and each part of a mapped one."""
    counts = dict(_shard_tasks(dag).values())
    return [
        *sorted(task_ids),
        *((task_id, number) for task_id in sorted(task_ids) for number in range(counts.get(task_id, 0))),
    ]


def divide(
    dag: DAG, plan: ExecutionPlan, steps: Sequence[VersionSpec], mode: Mode
) -> tuple[set[str], list[VersionSpec]]:
    """Divide a plan between the Dag's tasks and `other_versions`.

    Returns the ids of the tasks that have something to do, and the steps that no task can run: the version
    has none, or the plan's order is not the Dag's (a past cycle under other dependencies), and what depends
    on such a step.
    """
    tasks = _model_tasks(dag)
    enabled = [s for s in steps if plan.is_enabled(s.model_id)]
    keys = [(s.model_id, None if s.role is Role.PRIMARY else s.version) for s in enabled]
    if mode is Mode.OVERRIDE:  # replays read stored champions: order does not matter
        out_of_order: set[str] = set()
    else:
        out_of_order = _out_of_order(tasks, plan)
    task_ids = {tasks[k].task_id for k in keys if k in tasks and k[0] not in out_of_order}
    left = [s for s, k in zip(enabled, keys, strict=True) if k not in tasks or k[0] in out_of_order]
    if mode is not Mode.OVERRIDE:
        task_ids |= {tasks[m, None].task_id for m in plan.broken if (m, None) in tasks and plan.is_enabled(m)}
    return task_ids, left


def _out_of_order(
    tasks: dict[tuple[str, str | None], DetectionModelOperator], plan: ExecutionPlan
) -> set[str]:
    out_of_order: set[str] = set()
    for model_id in plan.topo_order:
        task = tasks.get((model_id, None))
        before = task.get_flat_relative_ids(upstream=True) if task else set()
        for upstream in plan.upstreams(model_id):
            other = tasks.get((upstream, None))
            if upstream in out_of_order or other is None or other.task_id not in before:
                out_of_order.add(model_id)
        if task is None:
            out_of_order.add(model_id)
    return out_of_order


class CycleOperator(TemplatedOperator):
    """Base of the operators of a cycle.

    Args:
        cycle_id: the registered cycle.
        detection_conn_id: the connection to the registry's database.
    """

    template_fields: Sequence[str] = ("cycle_id",)

    def __init__(
        self,
        *,
        cycle_id: str,
        detection_conn_id: str = "detection_default",
        **kwargs: Any,  # Any: BaseOperator's own
    ) -> None:
        super().__init__(**kwargs)
        self.cycle_id = cycle_id
        self.detection_conn_id = detection_conn_id

    def _around(self) -> DAG:
        dag = self.get_dag()
        if dag is None:
            raise AirflowFailException(f"{type(self).__name__} needs a Dag around it")
        return dag

    def _opened(self, context: Context) -> dict[str, Any] | None:  # Any: counts, and the mode
        """Return what `open_cycle` has recorded of the cycle; None if it has not opened it."""
        counts: dict[str, Any] | None = context["ti"].xcom_pull(task_ids=OPEN, key=COUNTS)
        return counts


def _require_registry(counts: Mapping[str, Any] | None) -> None:  # Any: counts, and the mode
    """Skip a task that was added to the run after the cycle was opened without the registry."""
    if counts is not None and "legacy" in counts:
        raise AirflowSkipException("not in this cycle's plan: the model registry was off when it was opened")


def _mode(context: Context, counts: Mapping[str, Any] | None) -> Mode:  # Any: counts, and the mode
    """The mode in which the cycle was opened: a comparison is an `override`, though `as_of` was asked for."""
    return Mode((counts or {}).get(MODE) or mode_of(context))


def no_path_reason(cycle_id: str) -> str:
    """Say why nothing runs in a cycle without a legacy path while the registry is off."""
    return (
        f"cycle {cycle_id!r} runs nothing: the model registry is off and it has no legacy_entrypoint; set"
        f" {flags.USE_MODEL_REGISTRY}=1 where schedulers, workers and the Dag processor run"
    )


class OpenCycleOperator(CycleOperator):
    """Record the cycle's plan, and skip every task that has no part in it.

    With `PREDICTION_USE_MODEL_REGISTRY` off, everything but `legacy_path` is skipped and no plan is made; a
    cycle without a legacy path fails.
    Run params: `mode` (as_of, as_run, override), `replay` (`model@version`, ...), `known_at` (ISO 8601).
    """

    ui_color = "#e6e6e6"

    def execute(self, context: Context) -> None:
        """Open the cycle.

        Raises:
            DownstreamTasksSkipped: the way Airflow is told what to skip; the task itself succeeds.
            AirflowFailException: no plan can be given, or nothing would run.
        """
        dag, schedule = self._around(), schedule_of(context)
        change = schedule and clock_change(schedule, cycle_of_run(context, self.log))
        if change:
            self.log.info("%s", change)
        others = {t.task_id for t in dag.tasks} - {self.task_id, CLOSE}
        with terminal_errors():
            is_registry = flags.use_model_registry()
            task_ids, counts = self._open(context, dag) if is_registry else self._legacy(others)
        context["ti"].xcom_push(key=COUNTS, value=counts)
        task_ids |= {mapped for task_id, (mapped, _) in _shard_tasks(dag).items() if task_id in task_ids}
        if skipped := _instances(dag, others - task_ids):
            raise DownstreamTasksSkipped(tasks=skipped)  # type: ignore[no-untyped-call]

    def _legacy(self, others: set[str]) -> tuple[set[str], dict[str, Any]]:  # Any: counts
        if LEGACY not in others:
            raise AirflowFailException(no_path_reason(self.cycle_id))
        return {LEGACY}, {"legacy": 1}

    def _open(self, context: Context, dag: DAG) -> tuple[set[str], dict[str, Any]]:  # Any: counts, mode
        from airflow_detection.cycle import planning

        known_at = param(context, "known_at")
        with open_database(self.detection_conn_id, settings_of()) as db:
            opened = planning.open_cycle(
                db,
                self.cycle_id,
                cycle_of_run(context, self.log),
                mode=mode_of(context),
                replay=param(context, "replay") or (),
                known_at=instant_of("known_at", known_at) if known_at else None,
                dag_run_id=context["dag_run"].run_id,
            )
        steps, plan = opened.steps, opened.plan
        primaries = sum(1 for s in steps if s.role is Role.PRIMARY)
        counts = {"primaries": primaries, "shadows": len(steps) - primaries, "broken": len(plan.broken)}
        is_comparison = opened.mode is not mode_of(context)
        mode = {MODE: opened.mode.value} if is_comparison else {}
        if INLINE in dag.task_dict:
            return {INLINE}, {**counts, **mode, "other": 0}
        # A model's task knows only the mode of the run's params: here it would run the live version.
        task_ids, left = (set(), list(steps)) if is_comparison else divide(dag, plan, steps, opened.mode)
        labels = [s.label for s in left]
        self.log.info("without a task of their own: %s", ", ".join(labels) or "none")
        # Its task runs though nothing is left for it: a grid without a fault has one colour.
        return task_ids | {OTHER}, {**counts, **mode, "other": len(left), LABELS: labels}


class OtherVersionsOperator(WithLineage, CycleOperator):
    """Run the versions of the plan that have no task in the Dag: past shadows, replays, past orders.

    Without any it succeeds. Each is run whatever became of the others; the task fails if one of them failed.
    """

    ui_color = "#efe3f5"

    def execute(self, context: Context) -> dict[str, int]:
        """Run them one after the other; returns counts of outcomes."""
        from airflow_detection.cycle import inline, planning

        if (counts := self._opened(context)) is None:
            raise AirflowSkipException("the cycle was not opened")
        _require_registry(counts)
        if not counts["other"]:
            self.log.info("every version of the plan has a task of its own")
            return {o.value.lower(): 0 for o in Outcome}
        settings, mode = settings_of(), _mode(context, counts)
        at = cycle_of_run(context, self.log)
        with terminal_errors(), open_database(self.detection_conn_id, settings) as db:
            opened = planning.planned_cycle(db, self.cycle_id, at, mode=mode)
            left: Sequence[VersionSpec] = opened.steps
            if MODE not in counts:
                _, left = divide(self._around(), opened.plan, opened.steps, mode)
            conninfo = reader_conninfo_of(settings)
            reports = inline.run_steps(db, settings, opened, left, log_context, conninfo, open_artifact)
        emit(self.cycle_id, reports)
        self.ran = TaskRun(self.cycle_id, at, mode, reports)
        raise_failed([r for r in reports if r.outcome is Outcome.FAILED])
        return {o.value.lower(): sum(1 for r in reports if r.outcome is o) for o in Outcome}


def raise_failed(failed: Sequence[RunReport]) -> None:
    """Fail the task if some versions failed; Airflow tries again if another try may help one of them."""
    if not failed:
        return
    reasons = "; ".join(f"{r.version.label}: {r.error}" for r in failed)
    raise (AirflowException if any(r.is_transient for r in failed) else AirflowFailException)(reasons)


class InlineCycleOperator(WithOutputs, CycleOperator):
    """Run the whole plan of a cycle in this one task.

    `PREDICTION_CONCURRENT_SHADOWS` lets shadows run beside each other. A failed PRIMARY fails the task; a
    failed shadow is logged and has its manifest. Airflow announces the outlets whose champions succeeded.
    """

    ui_color = "#d7e8f7"

    def execute(self, context: Context) -> dict[str, int]:
        """Run the plan; returns counts of outcomes."""
        from airflow_detection.cycle import inline

        counts, settings = self._opened(context), settings_of()
        _require_registry(counts)
        at, mode = cycle_of_run(context, self.log), _mode(context, counts)
        with terminal_errors(), open_database(self.detection_conn_id, settings) as db:
            report = inline.run_inline(
                db,
                settings,
                self.cycle_id,
                at,
                mode=mode,
                concurrent_shadows=flags.concurrent_shadows(),
                log_context=log_context,
                reader_conninfo=reader_conninfo_of(settings),
                opener=open_artifact,
            )
        emit(self.cycle_id, report.reports)
        self.ran = TaskRun(self.cycle_id, at, mode, report.reports)
        failed = [r for r in report.reports if r.outcome is Outcome.FAILED]
        for shadow in (r for r in failed if r.version.role is not Role.PRIMARY):
            self.log.warning("%s failed: %s", shadow.version.label, shadow.error)
        raise_failed([r for r in failed if r.version.role is Role.PRIMARY])
        self._announce(report.reports)
        add_partition_keys(context, self.outlets, at, settings)
        return {o.value.lower(): sum(1 for r in report.reports if r.outcome is o) for o in Outcome}

    def _announce(self, reports: Sequence[RunReport]) -> None:
        """Keep the outlets of live champions that succeeded: Airflow announces those that are left.

        Not through an asset alias: two runs that are the first to announce an asset through one at the same
        time both write the row that connects the two, and Airflow fails the task that comes second.
        """
        live = (r for r in reports if r.version.role is Role.PRIMARY and r.outcome is Outcome.SUCCEEDED)
        uris = {asset_uri_of(self.cycle_id, r.version.model_id) for r in live}
        self.outlets = [outlet for outlet in self.outlets if getattr(outlet, "uri", None) in uris]


class LegacyPathOperator(CycleOperator):
    """Call the cycle's legacy entry point with the `Cycle`: what ran before there was a registry."""

    ui_color = "#f3ead7"

    def execute(self, context: Context) -> None:
        """Call it; an entry point that is not allowed fails the task without a retry."""
        from airflow_detection.cycle import legacy

        if "legacy" not in (self._opened(context) or {"legacy": 1}):
            raise AirflowSkipException("not in this cycle's plan: it was opened with the model registry")
        at = cycle_of_run(context, self.log)
        settings = settings_of()
        with open_database(self.detection_conn_id, settings) as db, terminal_errors():
            call = legacy.legacy_function(db, settings, self.cycle_id, at)
        call()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """A cycle whose tasks have ended: their states, and the counts with which it was opened."""

    settings: Settings
    at: datetime
    mode: Mode
    states: Mapping[str, str]
    counts: Mapping[str, Any]  # Any: counts, and the mode


class CloseCycleOperator(WithLineage, CycleOperator):
    """Write the cycle's summary; fail if a PRIMARY failed, or a replay that was asked for.

    The single leaf, so that it decides the run.

    What lost its task while the run was under way, such as a challenger that was promoted, is run first.
    """

    ui_color = "#e6e6e6"

    def execute(self, context: Context) -> dict[str, int]:
        """Close the cycle; returns the summary's counts.

        Raises:
            AirflowFailException: a PRIMARY failed, a version that was to be replayed has no result, the
                legacy path failed, or the cycle was not opened.
        """
        ti = context["ti"]
        states = ti.get_task_states(dag_id=self._around().dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
        counts = self._opened(context)
        if counts is None or states.get(OPEN) != "success":
            raise AirflowFailException("the cycle was not opened")
        if "legacy" in counts:
            if states.get(LEGACY) in ("failed", "upstream_failed"):
                raise AirflowFailException("the legacy path failed")
            return {}
        ended = _Ended(
            settings=settings_of(),
            at=cycle_of_run(context, self.log),
            mode=_mode(context, counts),
            states=states,
            counts=counts,
        )
        may_be_lost = MODE not in counts and OTHER in self._around().task_dict and OTHER in states
        summary = None
        with terminal_errors(), open_database(self.detection_conn_id, ended.settings) as db:
            if not (may_be_lost and self._run_lost(db, ended)):
                summary = self._summary(db, ended)
        if summary is None:  # on a session that has not waited while versions ran
            with terminal_errors(), open_database(self.detection_conn_id, ended.settings) as db:
                summary = self._summary(db, ended)
        return self._conclude(summary, states, is_override=mode_of(context) is Mode.OVERRIDE)

    def _run_lost(self, db: Database, ended: _Ended) -> bool:
        """Run the steps of the plan whose tasks the Dag has lost since the cycle was opened; tell if any ran.

        Of the versions that were left to `other_versions` from the start (their labels are given), only those
        that it had to skip are run: now what they read may be there.
        """
        from airflow_detection.cycle import inline, planning

        dag, settings = self._around(), ended.settings
        opened = planning.planned_cycle(db, self.cycle_id, ended.at, mode=ended.mode)
        own_states = _states_by_name(dag, ended.states)
        _, left = divide(dag, opened.plan, opened.steps, ended.mode)
        untried = [s for s in left if own_states.get(task_id(s), "skipped") == "skipped"]
        lost = planning.without_result(db, opened, untried, tried=ended.counts.get(LABELS, ()))
        if not lost:
            return False
        self.log.warning("the Dag has changed: %s have no task", ", ".join(s.label for s in lost))
        conninfo = reader_conninfo_of(settings)
        reports = inline.run_steps(db, settings, opened, lost, log_context, conninfo, open_artifact)
        emit(self.cycle_id, reports)
        self.ran = TaskRun(self.cycle_id, ended.at, ended.mode, reports)
        return True

    def _summary(self, db: Database, ended: _Ended) -> CycleSummary:
        from airflow_detection.cycle import closing
        from airflow_detection.cycle.shared_inputs import remove_inputs

        states = ended.states
        if not ended.counts.get("other") and states.get(OTHER) == "success":
            states = {**states, OTHER: "skipped"}  # it had nothing to run, and answers for no version
        by_name = _states_by_name(self._around(), states)
        collective = {key: states[key] for key in (OTHER, INLINE) if key in states}
        task_states = {k: str(v) for k, v in {**by_name, **collective}.items()}
        summary = closing.close_cycle(db, self.cycle_id, ended.at, mode=ended.mode, task_states=task_states)
        remove_inputs(db, ended.settings, self.cycle_id, ended.at, ended.mode)
        return summary

    def _conclude(
        self, summary: CycleSummary, states: Mapping[str, str], *, is_override: bool
    ) -> dict[str, int]:
        """Log how the cycle ended, and return its counts.

        Raises:
            AirflowFailException: it ended badly.
        """
        from airflow_detection.cycle import closing

        self.log.info("cycle closed: %s", summary)
        if summary.marked_successful:
            labels = ", ".join(summary.marked_successful)
            self.log.warning("marked successful by hand, without a result: %s", labels)
        if summary.failed:
            raise AirflowFailException(f"{summary.failed} of the cycle's champions failed; see their tasks")
        if summary.not_replayed:
            reasons = "; ".join(f"{label} {reason}" for label, reason in summary.not_replayed.items())
            if is_override:
                raise AirflowFailException(f"not replayed: {reasons}")
            self.log.warning("not compared with what ran: %s", reasons)  # a change of the registry, no fault
        if states.get(INLINE) in ("failed", "upstream_failed"):
            raise AirflowFailException(f"task {INLINE!r} failed")
        return {k: v for k, v in closing.summary_json(summary).items() if isinstance(v, int)}


class RefusedOperator(TemplatedOperator):
    """Stand for a registration that cannot run: fail at once with the reason, which is no template."""

    template_fields: Sequence[str] = ("reason",)
    ui_color = "#f7d7d7"

    def __init__(self, *, reason: str, **kwargs: Any) -> None:  # Any: BaseOperator's own
        super().__init__(is_templated=False, **kwargs)
        self.template_fields = ("reason",)  # shown as it is
        self.reason = reason

    def execute(self, context: Context) -> None:
        """Fail with the reason."""
        raise AirflowFailException(self.reason)
