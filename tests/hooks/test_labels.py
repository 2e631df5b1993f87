"""Labels through the hook, as a task has it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests import sample_registry
from tests.operators.airflow_runs import airflow_uri

from airflow_detection.hooks.detection import DetectionHook
from airflow_detection.store.connection import Connection
from airflow_detection.store.labels import Label

if TYPE_CHECKING:
    import pytest


def test_labels_go_in_and_come_out(database: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    sample_registry.register(database)
    since = datetime(2026, 3, 1, tzinfo=UTC)
    label = Label(cycle_id="fleet", entity_id="a", is_positive=True, source="desk", valid_from=since)
    hook = DetectionHook()
    before = datetime.now(UTC)
    assert hook.add_labels(iter([label]), actor="ana") == 1
    assert hook.add_labels([label]) == 0
    found = hook.labels("fleet", model_id="tracks")
    assert [(f.entity_id, f.is_positive, f.actor, f.valid_to) for f in found] == [("a", True, "ana", None)]
    assert hook.labels("fleet", known_at=before) == []
