"""Runs as their manifests record them, in the form that a verdict needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from airflow_detection.domain.reports import CanaryResult, FeatureProfile
from airflow_detection.domain.specs import Outcome, Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRun:
    """One version in one cycle; `outcome` None where it left no manifest. Instants in UTC.

    `step` is the time from one cycle to the next, `lookback` the length of the window. `reads_since` is where
    the model's data begin, if not at the window; `has_past` whether there were inputs since then, and
    `past_rows` about how many. `reads` says what was really read (see migration 0026), and
    `other_params` that the params which ran are not those that are registered.
    """

    cycle_id: str
    cycle_started_at: datetime
    model_id: str
    version_id: int
    version: str
    role: Role
    step: timedelta
    lookback: timedelta
    outcome: Outcome | None = None
    error: str | None = None
    input_count: int = 0
    input_digest: str | None = None
    newest_input_at: datetime | None = None
    reads_since: datetime | None = None
    has_past: bool = True
    past_rows: float = 0.0
    reads: Mapping[str, float] = field(default_factory=dict)
    other_params: bool = False
    output_count: int = 0
    output_digest: str | None = None
    score_counts: Mapping[str, int] = field(default_factory=dict)
    score_edges: Mapping[str, float] = field(default_factory=dict)
    canaries: tuple[CanaryResult, ...] = ()
    features: Mapping[str, FeatureProfile] = field(default_factory=dict)
    is_off_grid: bool = False

    @property
    def overlap(self) -> float:
        """Number of cycles for which a row stays in the window."""
        return self.lookback / self.step

    @property
    def score_null_rate(self) -> float | None:
        """Share of outputs without a score; None where there is no output, or no score key."""
        counted = self.score_counts.get("scored", 0) + self.score_counts.get("null", 0)
        return self.score_counts["null"] / counted if counted else None

    @property
    def unflagged_count(self) -> int:
        """Number of outputs without a finding: score null or not above 0."""
        return self.output_count - self.score_counts.get("gt0", 0)
