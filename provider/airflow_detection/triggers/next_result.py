"""A trigger that waits, in the triggerer, for the next result of a version."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import psycopg
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_detection.errors import DetectionError


class NextResultTrigger(BaseTrigger):
    """Fires when a version has another number of results than were seen, or at the end of a watch.

    A registry that does not answer is asked again. The event says nothing: whoever waited looks again.

    Args:
        detection_conn_id: the connection to the registry's database.
        version_id: the version whose results are waited for.
        since: results of cycles from this instant on count (ISO 8601).
        seen: how many of them there were.
        poll_s: seconds between two looks.
        until: when to fire at the latest (ISO 8601).
    """

    def __init__(
        self, *, detection_conn_id: str, version_id: int, since: str, seen: int, poll_s: float, until: str
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own is untyped
        self.detection_conn_id = detection_conn_id
        self.version_id = version_id
        self.since = since
        self.seen = seen
        self.poll_s = poll_s
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:  # Any: JSON values
        """The class and its arguments, as Airflow stores a trigger."""
        names = ("detection_conn_id", "version_id", "since", "seen", "poll_s", "until")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        until = datetime.fromisoformat(self.until)
        while (left := (until - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(min(self.poll_s, left))
            try:
                if await sync_to_async(self._count)() != self.seen:
                    break
            except (DetectionError, psycopg.Error) as error:
                self.log.warning("the registry is asked again in %g s: %s", self.poll_s, error)
        yield TriggerEvent({})  # type: ignore[no-untyped-call]  # Airflow's own is untyped

    def _count(self) -> int:
        from airflow_detection.config import settings
        from airflow_detection.hooks.detection import DetectionHook
        from airflow_detection.store import promotions
        from airflow_detection.store.database import Database

        schema = settings().schema
        with DetectionHook(self.detection_conn_id, schema=schema).connect() as conn:
            since = datetime.fromisoformat(self.since)
            return promotions.results_since(Database(conn, schema), self.version_id, since)
