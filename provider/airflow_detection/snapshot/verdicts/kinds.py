"""The words of a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_detection.domain.specs import Role


class VerdictKind(StrEnum):
    """What is concluded, the worst first."""

    DID_NOT_RUN = "DID_NOT_RUN"  # planned, or due and never opened, and no manifest
    FAILED = "FAILED"
    SKIPPED_UPSTREAM = "SKIPPED_UPSTREAM"  # a champion that it needs has no result
    SILENT_FAULT = "SILENT_FAULT"  # it ran, and what it says cannot be relied on
    INPUT_DEGRADED = "INPUT_DEGRADED"  # the feed is late, or much of it is missing
    SUSPECT = "SUSPECT"  # far less than usual, and no canary vouches for the model
    SURGE = "SURGE"  # far more than usual
    NO_INPUT = "NO_INPUT"  # there was nothing to look at
    NO_SIGNAL_UNUSUAL = "NO_SIGNAL_UNUSUAL"  # far less than usual, and canaries vouch for the model: quiet
    WARMING_UP = "WARMING_UP"  # too little history to compare with
    NO_SIGNAL = "NO_SIGNAL"  # nothing found, which is not unusual
    OK = "OK"

    @property
    def is_bad(self) -> bool:
        """Whether a person should look.

        A sea that is empty, or quieter than ever while the canaries are found, is no fault: a feed that
        stopped is INPUT_DEGRADED, and a silence that no canary vouches for is SUSPECT.
        """
        return self.rank < VerdictKind.NO_INPUT.rank

    @property
    def is_healthy(self) -> bool:
        """Whether the run may stand in a baseline."""
        return self in (VerdictKind.WARMING_UP, VerdictKind.NO_SIGNAL, VerdictKind.OK)

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(VerdictKind)}


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
