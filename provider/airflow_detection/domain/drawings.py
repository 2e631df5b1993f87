"""Drawings of an entity that a pack of models offers, as SVG: what is asked for, and what a pack answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

ENTRY_POINT_GROUP = "airflow_detection.drawings"
"""Entry points of this group are classes with a `title` and the methods of `EntityDrawing`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnEntity:
    """An entity in [start, end), UTC, with its highest score in each cycle, the oldest first."""

    entity_id: str
    start: datetime
    end: datetime
    scores: Sequence[tuple[datetime, float]] = ()
