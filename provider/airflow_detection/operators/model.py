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
from airflow_detection.registered import Mode, Outcome, require_utc

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


def settings_of() -> Settings:
    """The `[detection]` section."""
    from airflow_detection import config

    return config.settings()


def conclude(report: RunReport) -> dict[str, int]:
    """The counts of a run that succeeded.

    Raises:
        AirflowSkipException: a champion that it needs has no result.
        AirflowFailException: it failed and trying again will not help.
        AirflowException: it failed and trying again may help.
    """
    if report.outcome is Outcome.SKIPPED:
        raise AirflowSkipException(report.error or "skipped")
    if report.outcome is Outcome.FAILED:
        fact = f"{report.version.label}: {report.error}"
        raise AirflowException(fact) if report.is_transient else AirflowFailException(fact)
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
        from airflow_detection import pipeline

        if self.problem:
            raise AirflowFailException(self.problem)
        conn_id = self.detection_conn_id
        with terminal_errors(), ExitStack() as opened, connect(conn_id) as conn:
            report = pipeline.run_one(
                conn,
                lambda: opened.enter_context(connect(conn_id, read_only=True)),
                settings_of(),
                self.cycle_id,
                cycle_started_at(context, self.log),
                model_id=self.model_id,
                version=self.version,
                mode=mode_of(context),
                telling=telling,
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
