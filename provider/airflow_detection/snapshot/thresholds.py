"""The numbers behind a verdict."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a run counts as unusual; every default is an option of the same name, after `verdict_`.

    `history_cycles` healthy cycles make a baseline; with fewer than `min_history_cycles` a verdict waits.
    """

    history_cycles: int = 60
    min_history_cycles: int = 36
    canary_tolerance: float = 1e-4
    feature_null_floor: float = 0.05
    feature_null_factor: float = 3.0
    feature_distinct_share: float = 0.5
    score_null_floor: float = 0.2
    score_null_factor: float = 2.0
    stale_cycles: float = 2.0
    input_mad_factor: float = 6.0
    input_share: float = 0.7
    p_value: float = 0.001
