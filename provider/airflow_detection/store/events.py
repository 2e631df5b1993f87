"""Events: periods in which a champion scores an entity above 0.5, kept in step with the stored outputs.

They are a function of the stored PRIMARY outputs and manifests, in whatever order those were written: a
backfill, a rerun and live cycles at once leave the events that the same cycles in order would leave.
(RETRACTED rows record what an operator may have seen meanwhile, and so depend on the order.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_detection.store.database import Database

DETAILS_BYTES = 8192
"""Bytes of JSON of the latest output that an event keeps; of a longer one it keeps the beginning as text."""

RunKey = Mapping[str, Any]  # Any: the params that name one run


def flagged_entities(db: Database, run: RunKey) -> Sequence[str]:
    """Return the entities that the stored run flags; call it before the run is replaced."""
    row = db.conn.execute(db.queries("detection_events")["flagged_entities"], run).fetchone()
    return row[0] if row else ()


def refresh(
    db: Database,
    run: RunKey,
    *,
    previously_flagged: Sequence[str],
    has_flagged: bool,
    projection: str | None = None,
) -> None:
    """Bring the events of a model up to date with a run that has just been written, in its transaction.

    Args:
        previously_flagged: the entities that the run flagged before it was replaced.
        has_flagged: whether it may flag entities now.
        projection: a file of `sql/queries` whose statement `refresh` is run afterwards, with `%(model_id)s`.
    """
    queries = db.queries("detection_events")
    db.conn.execute(queries["lock"], run)
    if previously_flagged or has_flagged:
        params = {**run, "previously_flagged": list(previously_flagged), "details_bytes": DETAILS_BYTES}
        at = run["cycle_started_at"]
        low, high = db.conn.execute(queries["span"], params).fetchone() or (None, None)
        db.conn.execute(queries["cut"], params | {"low": low or at, "high": high or at})
    db.conn.execute(queries["close"], run)
    if projection is not None:
        db.conn.execute(db.queries(projection)["refresh"], {"model_id": run["model_id"]})
