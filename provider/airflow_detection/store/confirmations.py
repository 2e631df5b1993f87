"""Confirmations by an operator: the models that a cycle is meant to have after most were taken away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from airflow_detection.domain.specs import ModelSpec, require_utc
from airflow_detection.store.database import Database
from airflow_detection.store.registry import fetch, models_at, with_exclusive_lock

TABLE = "detection_confirmations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """The models of a cycle that were confirmed, and when (UTC)."""

    models: frozenset[str]
    confirmed_at: datetime


def active_models(models: Iterable[ModelSpec]) -> frozenset[str]:
    """The ids of the models that have a version in a role."""
    return frozenset(model.model_id for model in models if model.versions)


def confirm(db: Database, cycle_id: str, *, actor: str | None = None, reason: str = "") -> frozenset[str]:
    """Confirm the models that a cycle has now, and return them; an empty set if the cycle no longer exists.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    with with_exclusive_lock(db):
        models = active_models(models_at(db, cycle_id, None))
        params = {"cycle_id": cycle_id, "models": sorted(models), "actor": actor, "reason": reason}
        fetch(db, TABLE, "confirm", params)
    return models


def newest(db: Database) -> Mapping[str, Confirmation]:
    """The newest confirmation of each cycle that has one, by cycle id."""
    return {
        row["cycle_id"]: Confirmation(
            models=frozenset(row["models"]), confirmed_at=require_utc("confirmed_at", row["confirmed_at"])
        )
        for row in fetch(db, TABLE, "newest")
    }
