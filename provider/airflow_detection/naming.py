"""The names that a cycle has in Airflow, in one place: the Dag, the summary and the UI share them."""

from __future__ import annotations

import re

from airflow_detection.domain import Role, VersionSpec

OPEN, CLOSE, LEGACY = "open_cycle", "close_cycle", "legacy_path"
INLINE, OTHER = "run_cycle", "other_versions"
RESERVED = frozenset({OPEN, CLOSE, LEGACY, INLINE, OTHER})


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def dag_id_of(cycle_id: str) -> str:
    """The Dag of a cycle."""
    return _safe(f"detection_{cycle_id}")


def task_id_of(model_id: str, version: str | None = None) -> str:
    """The Airflow task id of a champion (no `version`) or of a shadow."""
    return _safe(model_id if version is None else f"{model_id}__{version}")


def task_id(version: VersionSpec) -> str:
    """The Airflow task id of a version in its role."""
    return task_id_of(version.model_id, None if version.role is Role.PRIMARY else version.version)
