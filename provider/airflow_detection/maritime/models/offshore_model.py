"""The base of the models that ask how far offshore a ship is, and how it was heard before the window."""

from __future__ import annotations

from abc import abstractmethod
from datetime import datetime, timedelta
from typing import ClassVar, Protocol

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel
from airflow_detection.maritime.tracks.coast import load_shorelines
from airflow_detection.maritime.tracks.history import HISTORY_TABLES


class HistoryRule(Protocol):
    """The params of a version, with how far back it reads, hours."""

    @property
    def history_h(self) -> float: ...


class OffshoreModel(BaseDetectionModel):
    """A model that needs the shorelines, and the positions of the last `history_h` hours."""

    history_tables: ClassVar[tuple[str, ...]] = HISTORY_TABLES

    @classmethod
    def prepare(cls) -> None:
        """Read the shorelines."""
        load_shorelines()

    @staticmethod
    @abstractmethod
    def rule(params: JsonMapping) -> HistoryRule:
        """Read the params.

        Raises:
            TerminalModelError: one is not a number, or out of bounds.
        """

    def reads_since(self, cycle: Cycle) -> datetime:
        """Return the instant from which on starts are looked for, UTC."""
        return cycle.started_at - timedelta(hours=self.rule(self.params).history_h)
