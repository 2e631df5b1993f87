"""The Dags of an installation that uses the registry."""

from __future__ import annotations

import pytest

from airflow_detection.engine import flags


@pytest.fixture(autouse=True)
def _registry_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(flags.USE_MODEL_REGISTRY, "1")
