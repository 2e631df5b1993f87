"""Triggers that look at the registry again and again, in the triggerer, until there is what they wait for."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

import psycopg
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_detection.errors import DetectionError

if TYPE_CHECKING:
    from airflow_detection.store.database import Database


class RegistryTrigger(BaseTrigger):
    """Trigger that fires when a look at the registry gives something, or at the end of its time.

    A registry that does not answer is asked again.

    Args:
        detection_conn_id: the connection to the registry's database.
        poll_s: seconds between two looks.
        until: when to fire at the latest (ISO 8601), with an event of `{}`; None for never.
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    """Names of the arguments that a subclass takes besides these."""

    def __init__(self, *, detection_conn_id: str, poll_s: float, until: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's own is untyped
        self.detection_conn_id = detection_conn_id
        self.poll_s = poll_s
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:  # Any: JSON values
        """The class and its arguments, as Airflow stores a trigger."""
        names = ("detection_conn_id", "poll_s", "until", *self.arguments)
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    @abstractmethod
    def look(self, db: Database) -> dict[str, Any] | None:  # Any: JSON values
        """Return the event's payload; None for nothing yet."""

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        payload: dict[str, Any] | None = None  # Any: JSON values
        while payload is None and (wait_s := self._wait_s()) > 0:
            await asyncio.sleep(wait_s)
            try:
                payload = await sync_to_async(self._look)()
            except (DetectionError, psycopg.Error) as error:
                self.log.warning("the registry is asked again in %g s: %s", self.poll_s, error)
        yield TriggerEvent(payload or {})  # type: ignore[no-untyped-call]  # Airflow's own is untyped

    def _wait_s(self) -> float:
        if self.until is None:
            return self.poll_s
        return min(self.poll_s, (datetime.fromisoformat(self.until) - datetime.now(UTC)).total_seconds())

    def _look(self) -> dict[str, Any] | None:  # Any: JSON values
        with _registry(self.detection_conn_id) as db:
            return self.look(db)


@contextmanager
def _registry(conn_id: str) -> Iterator[Database]:
    from airflow_detection.config import settings
    from airflow_detection.hooks.detection import DetectionHook
    from airflow_detection.store.database import Database

    schema = settings().schema
    with DetectionHook(conn_id, schema=schema).connect(read_only=True) as conn:
        yield Database(conn, schema)
