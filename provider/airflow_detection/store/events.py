"""Events: spells in which a champion scores an entity above 0.5, kept in step with the stored outputs.

They are a function of the PRIMARY outputs and manifests that are stored, in whatever order those came:
a backfill, a rerun and live cycles at once leave the events that the same cycles in order would leave.
(RETRACTED rows tell what an operator may have seen meanwhile, and so depend on the order.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_detection.store.database import Database

DETAILS_BYTES = 8192
"""Bytes of JSON that an event keeps of the latest output; of a longer one it keeps its beginning as text."""

Run = Mapping[str, Any]  # Any: the params that name one run


def sighted(db: Database, run: Run) -> Sequence[str]:
    """The entities of which the stored run has a sighting: to be asked before it is replaced."""
    row = db.conn.execute(db.queries("detection_events")["sighted"], run).fetchone()
    return row[0] if row else ()


def refresh(
    db: Database,
    run: Run,
    *,
    gone: Sequence[str],
    has_sightings: bool,
    projection: str | None = None,
) -> None:
    """Bring the events of a model up to date with a run that has just been written, in its transaction.

    Args:
        gone: the entities that the run had sighted before.
        has_sightings: whether it may have sightings now.
        projection: a file of `sql/queries` whose statement `refresh` follows, with `%(model_id)s`.
    """
    queries = db.queries("detection_events")
    db.conn.execute(queries["lock"], run)
    if gone or has_sightings:
        params = {**run, "gone": list(gone), "details_bytes": DETAILS_BYTES}
        at = run["cycle_started_at"]
        low, high = db.conn.execute(queries["span"], params).fetchone() or (None, None)
        db.conn.execute(queries["cut"], params | {"low": low or at, "high": high or at})
    db.conn.execute(queries["close"], run)
    if projection is not None:
        db.conn.execute(db.queries(projection)["refresh"], {"model_id": run["model_id"]})
