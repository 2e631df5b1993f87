"""The registered cycles and the models of each: what it takes to tell whose a row is."""

from __future__ import annotations

from airflow_detection.store.database import Database
from airflow_detection.store.registry import fetch


def cycles_of_models(db: Database) -> tuple[list[str], dict[str, str]]:
    """Return the ids of all registered cycles, and the cycle of each model."""
    rows = fetch(db, "pages", "cycles_and_models")
    cycle_ids = [row["cycle_id"] for row in rows]
    return cycle_ids, {model_id: row["cycle_id"] for row in rows for model_id in row["model_ids"]}
