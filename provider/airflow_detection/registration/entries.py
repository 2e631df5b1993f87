"""What a registration file holds, checked, with the lines of its entries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_detection.domain.specs import Artifact, CycleSpec, ModelSpec, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionEntry:
    """One version as the file has it; `line` counts from 1."""

    version: str
    line: int
    role: Role | None = None
    since: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)  # Any: a JSON object
    artifact: Artifact | None = None
    entrypoint: str | None = None
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One model as the file has it."""

    spec: ModelSpec
    line: int
    versions: tuple[VersionEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleEntry:
    """One cycle as the file has it."""

    spec: CycleSpec
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A file's content, checked."""

    cycles: tuple[CycleEntry, ...] = ()
    models: tuple[ModelEntry, ...] = ()
