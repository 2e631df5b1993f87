"""The drawings that packs of models offer, by the entry-point group `airflow_detection.drawings`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Protocol

from airflow_detection.domain.drawings import ENTRY_POINT_GROUP, DrawnEntity
from airflow_detection.store.database import Database

log = logging.getLogger(__name__)


class EntityDrawing(Protocol):
    """A drawing: it tells of which entities it knows something, and draws one."""

    title: str

    def is_known(self, db: Database, entity: DrawnEntity) -> bool:
        """Tell whether there is anything to draw, at little cost."""

    def draw(self, db: Database, entity: DrawnEntity) -> str:
        """Return an `<svg>` element; every text in it is escaped."""


@cache
def drawings() -> Mapping[str, EntityDrawing]:
    """Return the drawings by the names of their entry points; one that cannot be loaded is left out."""
    found: dict[str, EntityDrawing] = {}
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda e: e.name):
        try:
            found[entry.name] = entry.load()()
        except Exception:  # a pack that is broken costs the pages nothing but its drawing
            log.warning("the drawing %s cannot be loaded", entry.name, exc_info=True)
    return found
