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
from airflow_detection.operators.links import FindingsLink
from airflow_detection.operators.telemetry import emit, log_context

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.cycle.versions import VersionRequest
    from airflow_detection.domain.reports import RunReport


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

    Returns (XCom, but not in a generated Dag): `input_count` and `output_count`. The outputs are in
    `detection_model_run_outputs`.
    """

    template_fields: Sequence[str] = ("model_id", "version", "cycle_id")
    operator_extra_links = (FindingsLink(),)
    ui_color = "#d7e8f7"

    def __init__(
        self,
        *,
        model_id: str,
        version: str | None = None,
        cycle_id: str | None = None,
        detection_conn_id: str = "detection_default",
        problem: str | None = None,
        **kwargs: Any,  # Any: BaseOperator's own
    ) -> None:
        super().__init__(**kwargs)
        self.model_id = model_id
        self.version = version
        self.cycle_id = cycle_id
        self.detection_conn_id = detection_conn_id
        self.problem = problem

    def execute(self, context: Context) -> dict[str, int]:
        """Run the version; see the class for what is raised and returned."""
        from airflow_detection.cycle.task import run_task
        from airflow_detection.cycle.versions import find_step

        settings, request = settings_of(), self._request(context)
        with (
            terminal_errors(),
            _skipped_if_not_in_plan(),
            open_database(self.detection_conn_id, settings) as db,
        ):
            if self.problem:
                find_step(db, request)
                raise AirflowFailException(self.problem)
            report = run_task(
                db,
                settings,
                request,
                log_context=log_context,
                reader_conninfo=lambda: reader_conninfo_of(settings),
                opener=open_artifact,
            )
        emit(self.cycle_id, [report])
        self.ran = TaskRun(self.cycle_id, request.started_at, request.mode, [report])
        self.log.info(
            "%s %s: %d inputs, %d outputs, %.0f ms",
            report.version.label,
            report.outcome.value,
            report.input_count,
            report.output_count,
            report.duration_ms,
        )
        counts = conclude(report)
        add_partition_keys(context, self.outlets, request.started_at, settings)
        return counts

    def _request(self, context: Context) -> VersionRequest:
        from airflow_detection.cycle.versions import VersionRequest

        dag = self.get_dag()
        others = [t for t in dag.tasks if t is not self] if dag is not None else []
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
