"""Kinds of verdicts, and the verdict on one version in one cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from airflow_detection.domain.specs import Role


class VerdictKind(StrEnum):
    """Kind of a verdict, the worst first."""

    DID_NOT_RUN = "DID_NOT_RUN"  # planned, or due and never opened, and no manifest
    FAILED = "FAILED"
    SKIPPED_UPSTREAM = "SKIPPED_UPSTREAM"  # a champion that it needs has no result
    SILENT_FAULT = "SILENT_FAULT"  # it ran, and its outputs cannot be relied on
    INPUT_DEGRADED = "INPUT_DEGRADED"  # the feed is late, or many of its rows are missing
    SUSPECT = "SUSPECT"  # far less than usual, and no canary shows that the model works
    SURGE = "SURGE"  # far more than usual
    NO_INPUT = "NO_INPUT"  # no rows in the window
    NO_SIGNAL_UNUSUAL = "NO_SIGNAL_UNUSUAL"  # far less than usual, and canaries show that the model works
    WARMING_UP = "WARMING_UP"  # too little history to compare with
    NO_SIGNAL = "NO_SIGNAL"  # no findings, which is not unusual
    OK = "OK"

    @property
    def is_bad(self) -> bool:
        """Tell whether a person should look.

        No traffic, or less than ever while the canaries are right, is not bad: a feed that stopped is
        INPUT_DEGRADED, and few findings without a canary are SUSPECT.
        """
        return self.rank < VerdictKind.NO_INPUT.rank

    @property
    def is_healthy(self) -> bool:
        """Tell whether the run may be part of a baseline."""
        return self in (VerdictKind.WARMING_UP, VerdictKind.NO_SIGNAL, VerdictKind.OK)

    @property
    def rank(self) -> int:
        """Position by gravity: 0 is the worst."""
        return _RANKS[self]


_RANKS = {kind: rank for rank, kind in enumerate(VerdictKind)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Verdict on one version in one cycle (`cycle_started_at` UTC), its reasons and its measures."""

    cycle_id: str
    cycle_started_at: datetime
    model_id: str
    version_id: int
    version: str
    role: Role
    kind: VerdictKind
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON values
