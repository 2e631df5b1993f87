"""A trigger that waits for the next result of a version."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_detection.triggers.polling import RegistryTrigger

if TYPE_CHECKING:
    from airflow_detection.store.database import Database


class NextResultTrigger(RegistryTrigger):
    """Fires when a version has another number of results than were seen, or at the end of a watch.

    The event says nothing: whoever waited looks again.

    Args:
        version_id: the version whose results are waited for.
        since: results of cycles from this instant on count (ISO 8601).
        seen: how many of them there were.
    """

    arguments = ("version_id", "since", "seen")

    def __init__(self, *, version_id: int, since: str, seen: int, **polling: Any) -> None:
        super().__init__(**polling)
        self.version_id = version_id
        self.since = since
        self.seen = seen

    def look(self, db: Database) -> dict[str, Any] | None:  # Any: JSON values
        """Return an empty payload once there is another number of results."""
        from airflow_detection.store import promotions

        count = promotions.results_since(db, self.version_id, datetime.fromisoformat(self.since))
        return None if count == self.seen else {}
