"""The operator that trains a version of a model, and registers it as a CHALLENGER."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_detection.domain.specs import require_utc
from airflow_detection.errors import TerminalModelError
from airflow_detection.operators.context import (
    cycle_started_at,
    open_artifact,
    open_database,
    reader_conninfo_of,
    settings_of,
    terminal_errors,
    write_artifact,
)
from airflow_detection.operators.telemetry import log_context

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_detection.cycle.training_plan import TrainingRequest


class TrainModelOperator(BaseOperator):
    """Train a version of a model on past windows, write its artefact and register it as a CHALLENGER.

    A retry comes to the same result: what is registered already is not trained again. All arguments but the
    connection are templates.

    Args:
        version: the new version, as `model@version`.
        base: the registered version of the model whose class has the training step, and whose params the new
            one gets.
        data_start, data_end: learn from data of [data_start, data_end), instants with a time zone.
        as_of: what was known later does not count, an instant; the run's logical date, or when it was due,
            where it is empty.
        target: the folder, an absolute path or a URI such as `s3://conn_id@bucket/models`, for the artefact.
        seed: all that is random in the training follows from it.
        detection_conn_id: a connection to the registry's database whose login may register versions.

    Returns (XCom): `version`, `artifact`, `sha256`, `rows`, `labels`, `metrics`.
    """

    template_fields: Sequence[str] = (
        "version", "base", "data_start", "data_end", "as_of", "target", "seed",
    )  # fmt: skip
    ui_color = "#e9e3f4"

    def __init__(
        self,
        *,
        version: str,
        base: str,
        data_start: str,
        data_end: str,
        target: str,
        as_of: str = "",
        seed: int | str = 1,
        detection_conn_id: str = "detection_default",
        **kwargs: Any,  # Any: BaseOperator's own
    ) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.base = base
        self.data_start = data_start
        self.data_end = data_end
        self.as_of = as_of
        self.target = target
        self.seed = seed
        self.detection_conn_id = detection_conn_id

    def execute(self, context: Context) -> dict[str, Any]:  # Any: a small JSON object
        """Train; see the class for what is returned.

        Raises:
            AirflowFailException: trying again will not help.
        """
        from airflow_detection.cycle.training import train

        settings = settings_of()
        try:
            with terminal_errors(), open_database(self.detection_conn_id, settings) as db:
                trained = train(
                    db,
                    settings,
                    self._request(context),
                    actor=getattr(context.get("dag_run"), "triggering_user_name", None),
                    log_context=log_context,
                    reader_conninfo=lambda: reader_conninfo_of(settings),
                    opener=open_artifact,
                    writer=write_artifact,
                )
        except TerminalModelError as error:
            raise AirflowFailException(str(error)) from error
        self.log.info("%s is registered as a CHALLENGER, trained %s", trained.label, trained)
        return {
            "version": trained.label,
            "artifact": trained.artifact_uri,
            "sha256": trained.artifact_sha256,
            "rows": trained.row_count,
            "labels": trained.label_count,
            "metrics": dict(trained.metrics),
        }

    def _request(self, context: Context) -> TrainingRequest:
        from airflow_detection.cycle.training_plan import TrainingRequest

        model_id, _, version = self.version.partition("@")
        return TrainingRequest(
            model_id=model_id,
            version=version,
            base=self.base,
            start=_instant("data_start", self.data_start),
            end=_instant("data_end", self.data_end),
            as_of=_instant("as_of", self.as_of) if self.as_of else cycle_started_at(context, self.log),
            target=self.target,
            seed=int(self.seed),
        )


def _instant(name: str, text: str) -> datetime:
    """Read an argument that is an instant; a ValueError names it."""
    try:
        return require_utc(name, datetime.fromisoformat(text))
    except ValueError as error:
        raise ValueError(f"{name} is {text!r}: must be an instant such as 2026-01-31T00:00:00Z") from error
