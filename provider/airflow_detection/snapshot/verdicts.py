"""What to conclude of one version in one cycle: a quiet sea, or a broken model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_detection.domain import Role
from airflow_detection.snapshot.thresholds import Thresholds
from airflow_detection.store.connection import Connection


class VerdictKind(StrEnum):
    """What is concluded, the worst first."""

    DID_NOT_RUN = "DID_NOT_RUN"
    FAILED = "FAILED"
    SKIPPED_UPSTREAM = "SKIPPED_UPSTREAM"
    SILENT_FAULT = "SILENT_FAULT"
    INPUT_DEGRADED = "INPUT_DEGRADED"
    SUSPECT = "SUSPECT"
    NO_SIGNAL_UNUSUAL = "NO_SIGNAL_UNUSUAL"
    SURGE = "SURGE"
    NO_INPUT = "NO_INPUT"
    WARMING_UP = "WARMING_UP"
    NO_SIGNAL = "NO_SIGNAL"
    OK = "OK"

    @property
    def is_bad(self) -> bool:
        """Whether a person should look."""
        return self.rank < VerdictKind.NO_INPUT.rank

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return list(VerdictKind).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is concluded of one version in one cycle (`cycle_started_at` UTC), and from what."""

    cycle_id: str
    cycle_started_at: datetime
    model_id: str
    version_id: int
    version: str
    role: Role
    kind: VerdictKind
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values


def verdicts(
    conn: Connection,
    schema: str,
    *,
    start: datetime,
    end: datetime,
    thresholds: Thresholds = Thresholds(),  # noqa: B008 - frozen
) -> list[Verdict]:
    """The verdict of every version planned for a cycle in [start, end), by cycle, model and version."""
    return []
