"""Lineage of trained versions: which data and labels each has learned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from airflow_detection.domain.specs import require_utc
from airflow_detection.store.database import Database
from airflow_detection.store.registry import fetch

TABLE = "detection_trainings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Training of a version: instants in UTC, `data_end` exclusive.

    Labels count as known at `as_of`; `row_count` are the input rows of `window_count` past cycles.
    `artifact_uri`, `trained_at` and `actor` are the database's.
    """

    model_id: str
    version: str
    base_version: str
    data_start: datetime
    data_end: datetime
    as_of: datetime
    seed: int
    window_count: int
    row_count: int
    label_count: int
    input_digest: str
    artifact_sha256: str
    metrics: Mapping[str, float]
    artifact_uri: str = ""
    trained_at: datetime | None = None
    actor: str = ""

    @property
    def label(self) -> str:
        """`model@version`, as people write it."""
        return f"{self.model_id}@{self.version}"

    def __str__(self) -> str:
        return (
            f"from {self.model_id}@{self.base_version}, data of [{self.data_start.isoformat()},"
            f" {self.data_end.isoformat()}), as of {self.as_of.isoformat()}: {self.row_count} rows,"
            f" {self.label_count} labels"
        )


def put_training(db: Database, training: Training, *, actor: str | None = None) -> None:
    """Write what a version was trained from; call it in the transaction that registers the version.

    Raises:
        RegistrationError: the database refused it.
    """
    values = asdict(training) | {"metrics": Jsonb(dict(training.metrics)), "actor": actor}
    fetch(db, TABLE, "put", values)


def trainings(db: Database, model_id: str | None = None) -> dict[str, Training]:
    """Return the trainings of a model's versions, or of all, by `model@version`."""
    found = (_training(row) for row in fetch(db, TABLE, "all", {"model_id": model_id}))
    return {training.label: training for training in found}


def _training(row: Mapping[str, object]) -> Training:
    instants = {name: require_utc(name, value) for name, value in row.items() if isinstance(value, datetime)}
    return Training(**{**row, **instants})  # type: ignore[arg-type]  # columns of the view
