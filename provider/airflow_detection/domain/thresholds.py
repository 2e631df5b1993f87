"""The numbers behind a verdict."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a run counts as unusual; every default is an option of the same name, after `verdict_`.

    history_cycles: healthy cycles that make a baseline.
    min_history_cycles: with fewer a verdict says WARMING_UP; with fewer than a third nothing is compared.
    canary_tolerance: how far a canary's score may be off.
    feature_null_floor, feature_null_factor: a null rate is unusual above max(floor, factor x highest).
    feature_distinct_share: a distinct ratio is unusual below this share of its median.
    distinct_share: newest rows, and outputs' entities, repeat each other where fewer are different than this
        share of the usual; a model left rows out where it used less than this share of the usual.
    shift_share: a mean has moved if by this share of the standard deviation, at least.
    score_null_floor, score_null_factor: the same for null scores, with the 99th percentile.
    stale_cycles: cycles that the newest input may be old; also how many cycles count as newly arrived.
    input_mad_factor, input_share: inputs are too few below min(median - factor x MAD, share x median).
    newest_share: the newest rows are too few below this share of those of the cycles just before.
    p_value: how improbable a count must be.
    """

    history_cycles: int = 60
    min_history_cycles: int = 36
    canary_tolerance: float = 1e-4
    feature_null_floor: float = 0.05
    feature_null_factor: float = 3.0
    feature_distinct_share: float = 0.5
    distinct_share: float = 0.8
    shift_share: float = 0.15
    score_null_floor: float = 0.2
    score_null_factor: float = 2.0
    stale_cycles: int = 2
    input_mad_factor: float = 6.0
    input_share: float = 0.7
    newest_share: float = 0.75
    p_value: float = 0.001
