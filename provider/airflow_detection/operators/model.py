"""The operator that runs one version of one model for one cycle."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_detection.errors import (
    ConfigurationError,
    ExpiredPartition,
    MigrationError,
    PlanError,
    RegistrationError,
)
from airflow_detection.operators.signals import emit, telling
from airflow_detection.registered import Mode, Outcome, Role, require_utc

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.config import Settings
    from airflow_detection.domain import RunReport
    from airflow_detection.planning import Conn

TERMINAL = (ConfigurationError, ExpiredPartition, MigrationError, PlanError, RegistrationError, ValueError)


def cycle_started_at(context: Context, log: logging.Logger | Any) -> datetime:  # Any: Airflow's own logger
    """The cycle of this run: its logical date, else (a manual run without one) the time it was due."""
    logical_date = context.get("logical_date")
    if logical_date is not None:
        return require_utc("logical_date", logical_date)
    run_after: datetime = context["dag_run"].run_after
    log.warning("the run has no logical date: the cycle is %s, when it was due", run_after.isoformat())
    return require_utc("run_after", run_after)


def param(context: Context, name: str) -> Any:  # Any: a Dag param
    """A Dag param; None where the Dag has no such param."""
    params: Mapping[str, Any] = context.get("params") or {}
    return params.get(name)


def mode_of(context: Context) -> Mode:
    """Where this run's plan comes from; `as_of` unless the run says otherwise."""
    return Mode(param(context, "mode") or Mode.AS_OF)


@contextmanager
def terminal_errors() -> Iterator[None]:
    """Turn the errors that trying again cannot mend into a failure without a retry."""
    try:
        yield
    except TERMINAL as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def connect(conn_id: str, *, read_only: bool = False) -> Conn:
    """Open a connection; the driver is imported where a task runs alone: parsing must stay cheap."""
    from airflow_detection.hooks import airflow_connection

    return airflow_connection.connect(conn_id, read_only=read_only)


def reading_of(settings: Settings) -> str | None:
    """The connection string that models in processes of their own read with; None for the registry's own."""
    if settings.reader_conn_id is None:
        return None
    from airflow_detection.inline import conninfo_of

    with connect(settings.reader_conn_id, read_only=True) as conn:
        return conninfo_of(conn)


def settings_of() -> Settings:
    """The `[detection]` section."""
    from airflow_detection import config

    return config.settings()


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
        fact = f"{report.version.label}: {report.error}"
        is_tried_again = report.is_transient and report.version.role is Role.PRIMARY
        raise AirflowException(fact) if is_tried_again else AirflowFailException(fact)
    return {"input_count": report.input_count, "output_count": report.output_count}


class DetectionModelOperator(BaseOperator):
    """Run one version of a model for the run's cycle and store what it found.

    In a generated Dag it follows the plan that `open_cycle` recorded. In a Dag of your own it needs no other
    task: it resolves the plan as of the cycle itself and makes the month's table partitions.

    Args:
        model_id: the registered model.
        version: the registered version; None runs the champion of the cycle.
        cycle_id: the model's own cycle when None.
        detection_conn_id: the connection to the registry's database.
        problem: a fault of the registration; the task fails with it and does nothing else.

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
        from airflow_detection import inline

        if self.problem:
            raise AirflowFailException(self.problem)
        conn_id, settings = self.detection_conn_id, settings_of()
        read_id = settings.reader_conn_id or conn_id
        with terminal_errors(), ExitStack() as opened, connect(conn_id) as conn:
            report = inline.run_task(
                conn,
                lambda: opened.enter_context(connect(read_id, read_only=True)),
                settings,
                self.cycle_id,
                cycle_started_at(context, self.log),
                model_id=self.model_id,
                version=self.version,
                mode=mode_of(context),
                telling=telling,
                reading=lambda: reading_of(settings),
            )
        emit(self.cycle_id, [report])
        self.log.info(
            "%s %s: %d inputs, %d outputs, %.0f ms",
            report.version.label,
            report.outcome.value,
            report.input_count,
            report.output_count,
            report.duration_ms,
        )
        return conclude(report)
