"""A connection that is opened when something first uses it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

from airflow_detection.store.connection import Connection


class LazyConnection:
    """Stands for a connection that may never be needed; whoever opens it also closes it.

    Args:
        dial: opens it, called once; what it raises is raised where the connection is first used.
    """

    def __init__(self, dial: Callable[[], Connection]) -> None:
        self._dial = dial

    @cached_property
    def _conn(self) -> Connection:
        return self._dial()

    def __getattr__(self, name: str) -> Any:  # Any: whatever a connection has
        return getattr(self._conn, name)

    @property
    def as_connection(self) -> Connection:
        """This, under the type of what it stands for."""
        return cast("Connection", self)
