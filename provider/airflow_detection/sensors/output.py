"""A sensor that waits until a model has outputs for a cycle."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf

from airflow_detection.domain.specs import Outcome
from airflow_detection.operators.context import (
    cycle_started_at,
    instant_of,
    open_database,
    settings_of,
    terminal_errors,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.triggers.output import DetectionOutputTrigger


class DetectionOutputSensor(BaseSensorOperator):
    """Wait until a model's champion, or one of its versions, has run for a cycle and ended in a certain way.

    It waits while there is no run, and after one that ended otherwise: a run that failed may be tried again.
    Replays do not count. Returns (XCom) the run: `cycle_id`, `version`, `role`, `outcome`, `input_count`,
    `output_count`, `duration_ms`.

    `model_id`, `version` and `cycle_started_at` are templates.

    Args:
        model_id: the registered model.
        version: the registered version; None waits for the champion.
        cycle_started_at: the cycle, ISO 8601 with its time zone or a datetime; None is the logical date of
            this run, which then must be a tick of the model's cycle.
        outcomes: of `SUCCEEDED`, `FAILED` and `SKIPPED`, those that are waited for.
        detection_conn_id: the connection to the registry's database; `[detection] conn_id` unless given.
        deferrable: wait in the triggerer; `[operators] default_deferrable` unless given.
    """

    template_fields: Sequence[str] = ("model_id", "version", "cycle_started_at")
    ui_color = "#d7e8f7"

    def __init__(
        self,
        *,
        model_id: str,
        version: str | None = None,
        cycle_started_at: datetime | str | None = None,
        outcomes: Collection[str] = (Outcome.SUCCEEDED,),
        detection_conn_id: str | None = None,
        deferrable: bool | None = None,
        **kwargs: Any,  # Any: BaseSensorOperator's own
    ) -> None:
        super().__init__(**kwargs)
        self.model_id = model_id
        self.version = version
        self.cycle_started_at = cycle_started_at
        self.outcomes = [Outcome(outcome).value for outcome in outcomes]
        self.detection_conn_id = detection_conn_id
        self.deferrable = deferrable

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        from airflow_detection.store.manifests import run_of

        settings = settings_of()
        conn_id = self.detection_conn_id or settings.conn_id
        with terminal_errors():
            at = self._cycle(context)
            with open_database(conn_id, settings) as db:
                run = run_of(db, self.model_id, at, version=self.version, outcomes=self.outcomes)
        return PokeReturnValue(is_done=run is not None, xcom_value=run)

    def execute(self, context: Context) -> Any:  # Any: JSON values
        """Wait here or in the triggerer; return the run."""
        is_deferrable = self.deferrable
        if is_deferrable is None:
            is_deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        if not is_deferrable:
            return super().execute(context)
        found = self.poke(context)
        if not found.is_done:
            self.defer(
                trigger=self._trigger(context),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )
        return found.xcom_value

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:  # Any: JSON values
        """Return the run that the trigger found."""
        del context
        return event

    def _trigger(self, context: Context) -> DetectionOutputTrigger:
        from airflow_detection.triggers.output import DetectionOutputTrigger

        return DetectionOutputTrigger(
            detection_conn_id=self.detection_conn_id or settings_of().conn_id,
            poll_s=self.poke_interval,
            model_id=self.model_id,
            version=self.version,
            cycle_started_at=self._cycle(context).isoformat(),
            outcomes=self.outcomes,
        )

    def _cycle(self, context: Context) -> datetime:
        if self.cycle_started_at is None:
            return cycle_started_at(context, self.log)
        return instant_of("cycle_started_at", self.cycle_started_at)
