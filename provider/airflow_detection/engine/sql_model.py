"""A model that is one SQL statement: its rows go from the database to the database."""

from __future__ import annotations

from typing import ClassVar

from airflow_detection.domain.inputs import SelectedOutputs
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.errors import TerminalModelError


class SqlDetectionModel(BaseDetectionModel):
    """Base of a model that is one SELECT: set `statement` and register the class as any other model.

    `statement` is one SELECT of three columns: `entity` (text or a whole number), `score` (a number or null)
    and `outputs` (a jsonb object). It has `:window_start`, `:window_end`, `:cycle_started_at`, `:opened_at`
    and each of the version's params as `:name`. It can only read: the rows of upstream champions are in
    `detection_model_run_outputs` (`cycle_started_at = :cycle_started_at`, `role = 'PRIMARY'`, not
    `is_replay`). Canaries do not travel with it: its inputs are tables.
    """

    statement: ClassVar[str] = ""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Return the statement as the outputs: the store runs it.

        Raises:
            TerminalModelError: there is no statement, or no database.
        """
        if not self.statement.strip():
            raise TerminalModelError(f"{type(self).__name__} has no statement")
        if ctx.database is None:
            raise TerminalModelError(f"{type(self).__name__} needs a database")
        window = {
            "window_start": ctx.window.start,
            "window_end": ctx.window.end,
            "cycle_started_at": ctx.cycle.started_at,
        }
        if ":opened_at" in self.statement:  # the context does not have it, each query of the database does
            window["opened_at"] = ctx.database.query("select :opened_at as at")["at"][0]
        return ModelResult(
            outputs_per_input=SelectedOutputs(
                self.statement, {**ctx.params, **window}, ctx.database.query, self.score_range
            )
        )
