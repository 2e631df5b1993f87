"""A trigger that waits for the outputs of a model in one cycle."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_detection.triggers.polling import RegistryTrigger

if TYPE_CHECKING:
    from airflow_detection.store.database import Database


class DetectionOutputTrigger(RegistryTrigger):
    """Fires when a model's champion, or a version, has a run of one of the outcomes in a cycle.

    Args:
        model_id: the registered model.
        version: the registered version; None for the champion.
        cycle_started_at: the cycle, UTC (ISO 8601).
        outcomes: outcomes that are waited for.
    """

    arguments = ("model_id", "version", "cycle_started_at", "outcomes")

    def __init__(
        self,
        *,
        model_id: str,
        version: str | None,
        cycle_started_at: str,
        outcomes: Sequence[str],
        **polling: Any,
    ) -> None:
        super().__init__(**polling)
        self.model_id = model_id
        self.version = version
        self.cycle_started_at = cycle_started_at
        self.outcomes = list(outcomes)

    def look(self, db: Database) -> dict[str, Any] | None:  # Any: JSON values
        """Return the run (see `store.manifests.run_of`), or None."""
        from airflow_detection.store.manifests import run_of

        at = datetime.fromisoformat(self.cycle_started_at)
        return run_of(db, self.model_id, at, version=self.version, outcomes=self.outcomes)
