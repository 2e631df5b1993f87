"""The operator that runs one version of one model for one cycle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_detection.domain.names import OPEN
from airflow_detection.domain.specs import Outcome, Role
from airflow_detection.errors import NotInPlan
from airflow_detection.operators.arguments import TemplatedOperator
from airflow_detection.operators.assets import add_partition_keys
from airflow_detection.operators.context import (
    cycle_of_run,
    mode_of,
    open_artifact,
    open_database,
    reader_conninfo_of,
    settings_of,
    terminal_errors,
)
from airflow_detection.operators.lineage import TaskRun, WithOutputs
from airflow_detection.operators.telemetry import emit, log_context

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.cycle.versions import VersionRequest
    from airflow_detection.domain.reports import RunReport
    from airflow_detection.domain.settings import Settings


def conclude(report: RunReport) -> dict[str, int]:
    """The counts of a run that succeeded.

    Raises:
        AirflowSkipException: a champion that it needs has no result.
        AirflowFailException: it failed and trying again will not help; or it is a shadow, for which its cycle
            would wait.
        AirflowException: it failed and trying again may help.
    """
    if report.outcome is Outcome.SKIPPED:
        raise AirflowSkipException(report.error or "skipped")
    if report.outcome is Outcome.FAILED:
        reason = f"{report.version.label}: {report.error}"
        is_tried_again = report.is_transient and report.version.role is Role.PRIMARY
        raise AirflowException(reason) if is_tried_again else AirflowFailException(reason)
    return {"input_count": report.input_count, "output_count": report.output_count}


@contextmanager
def _skipped_if_not_in_plan() -> Iterator[None]:
    try:
        yield
    except NotInPlan as error:
        raise AirflowSkipException(str(error)) from error


class DetectionModelOperator(WithOutputs, TemplatedOperator):
    """Run one version of a model for the run's cycle and store its outputs.

    In a generated Dag it follows the plan that `open_cycle` recorded, and is skipped where that does not have
    its version: the registry has changed since. In a Dag of your own it needs no other task: it resolves the
    plan as of the cycle itself and makes the month's table partitions.

    `model_id`, `version` and `cycle_id` are templates, but for generated Dags.

    Args:
        model_id: the registered model.
        version: the registered version; None runs the champion of the cycle.
        cycle_id: the model's own cycle when None.
        detection_conn_id: the connection to the registry's database.
        problem: the reason why the registration cannot run; the task fails with it and does nothing else.
        shards: in how many shards the version runs; as many as its model's task options have when None. Those
            that other tasks have not run are run here, one after the other.

    Returns (XCom, but not in a generated Dag): `input_count` and `output_count`. The outputs are in
    `detection_model_run_outputs`.
    """

    template_fields: Sequence[str] = ("model_id", "version", "cycle_id")
    ui_color = "#d7e8f7"

    def __init__(
        self,
        *,
        model_id: str,
        version: str | None = None,
        cycle_id: str | None = None,
        detection_conn_id: str = "detection_default",
        problem: str | None = None,
        shards: int | None = None,
        **kwargs: Any,  # Any: BaseOperator's own
    ) -> None:
        super().__init__(**kwargs)
        self.model_id = model_id
        self.version = version
        self.cycle_id = cycle_id
        self.detection_conn_id = detection_conn_id
        self.problem = problem
        self.shards = shards

    def execute(self, context: Context) -> dict[str, int]:
        """Run the version; see the class for what is raised and returned."""
        settings, request = settings_of(), self._request(context)
        report = self._run(request, settings)
        emit(self.cycle_id, [report])
        self.ran = TaskRun(self.cycle_id, request.started_at, request.mode, [report])
        self._tell(report, report.version.label)
        counts = conclude(report)
        add_partition_keys(context, self.outlets, request.started_at, settings)
        return counts

    def _run(self, request: VersionRequest, settings: Settings, shard: int | None = None) -> RunReport:
        from airflow_detection.cycle.task import run_task
        from airflow_detection.cycle.versions import find_step

        with (
            terminal_errors(),
            _skipped_if_not_in_plan(),
            open_database(self.detection_conn_id, settings) as db,
        ):
            if self.problem:
                find_step(db, request)
                raise AirflowFailException(self.problem)
            return run_task(
                db,
                settings,
                request,
                log_context=log_context,
                reader_conninfo=lambda: reader_conninfo_of(settings),
                opener=open_artifact,
                shard=shard,
                shards=self.shards,
            )

    def _tell(self, report: RunReport, name: str) -> None:
        self.log.info(
            "%s %s: %d inputs, %d outputs, %.0f ms",
            name,
            report.outcome.value,
            report.input_count,
            report.output_count,
            report.duration_ms,
        )

    def _request(self, context: Context) -> VersionRequest:
        from airflow_detection.cycle.versions import VersionRequest

        dag = self.get_dag()
        others = [t for t in dag.tasks if t.task_id != self.task_id] if dag is not None else []
        is_opened = any(t.task_id == OPEN for t in others)
        return VersionRequest(
            model_id=self.model_id,
            version=self.version,
            cycle_id=self.cycle_id,
            started_at=cycle_of_run(context, self.log),
            mode=mode_of(context),
            is_opened=is_opened,
            is_beside_champion=is_opened
            and any(
                isinstance(t, DetectionModelOperator) and (t.model_id, t.version) == (self.model_id, None)
                for t in others
            ),
        )


class DetectionShardOperator(DetectionModelOperator):
    """Run one shard of a version and stage its result, for the version's own task behind it.

    It is expanded over the shards in a generated Dag. Nothing of it is a template.

    Args:
        shard: the shard, from 0 on.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, *, shard: int, **kwargs: Any) -> None:  # Any: DetectionModelOperator's own
        super().__init__(**kwargs)
        self.shard = shard

    def execute(self, context: Context) -> dict[str, int]:
        """Run the shard; what is raised and returned is as of the version."""
        report = self._run(self._request(context), settings_of(), self.shard)
        self._tell(report, f"{report.version.label}, shard {self.shard} of {self.shards}")
        return conclude(report)
