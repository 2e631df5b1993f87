"""Baselines: limits and tails compared with those of numpy and scipy, and counts at the edges."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy import stats

from airflow_detection.snapshot.verdicts.baseline import (
    BetaBinomial,
    fit,
    high_rate,
    low_limit,
    quantile,
    spread,
)


@pytest.mark.parametrize("size", [1, 2, 7, 60])
def test_quantiles_and_spread_are_numpys(size: int) -> None:
    values = [random.Random(size).uniform(-5, 5) for _ in range(size)]
    for share in (0, 0.1, 0.5, 0.99, 1):
        assert quantile(values, share) == pytest.approx(np.quantile(values, share))
    assert spread(values) == pytest.approx(np.median(np.abs(np.array(values) - np.median(values))))


def test_limits() -> None:
    assert low_limit([100.0] * 9, 6, 0.7) == pytest.approx(70)
    assert low_limit([80.0, 90.0, 100.0, 110.0, 120.0], 6, 0.7) == pytest.approx(40)
    assert high_rate(0.0, 0.05, 3) == 0.05
    assert high_rate(0.1, 0.05, 3) == pytest.approx(0.3)
    assert high_rate(0.5, 0.05, 3) == pytest.approx(1 - 0.5 / 3), "half is null: all null is seen"


@pytest.mark.parametrize(("a", "b"), [(0.5, 3000.0), (4.0, 200.0), (50.0, 50.0), (1e-3, 1e-3), (2e5, 1e7)])
@pytest.mark.parametrize("n", [0, 1, 5, 700])
def test_tails_are_scipys(a: float, b: float, n: int) -> None:
    model, reference = BetaBinomial(a, b), stats.betabinom(n, a, b)
    for k in {0, min(1, n), n // 3, n}:
        lower, upper = model.tails(k, n)
        assert lower == pytest.approx(reference.cdf(k), abs=1e-6)
        assert upper == pytest.approx(reference.sf(k - 1), abs=1e-6)


def test_the_fit_finds_the_rate_and_how_much_it_wanders() -> None:
    n = [700] * 400
    k = stats.betabinom(700, 8, 400).rvs(400, random_state=1).tolist()
    fitted = fit(k, n, 400)
    assert fitted is not None
    assert fitted.mean == pytest.approx(8 / 408, rel=0.1)
    assert fitted.a + fitted.b == pytest.approx(408, rel=0.3)


def test_without_trials_there_is_no_baseline() -> None:
    assert fit([], [], 5) is None
    assert fit([0, 0], [0, 0], 5) is None


@pytest.mark.parametrize("share", [0, 1])
def test_counts_that_never_vary_leave_room(share: int) -> None:
    """Sixty cycles of an hour each, five minutes apart, are five hours: two of 700 are no surge."""
    fitted = fit([700 * share] * 60, [700] * 60, 5)
    assert fitted is not None
    k = abs(700 * share - 2)
    assert min(fitted.tails(k, 700)) > 0.001
    assert min(fitted.tails(abs(700 * share - 40), 700)) < 0.001


def test_overlapping_windows_widen_the_fit() -> None:
    k = [10, 12, 14, 16, 18] * 12
    lone, overlapping = fit(k, [700] * 60, 60), fit(k, [700] * 60, 5)
    assert lone is not None
    assert overlapping is not None
    assert overlapping.a + overlapping.b < lone.a + lone.b


def test_no_alarm_where_the_rate_is_what_it_was() -> None:
    """Of 3000 independent cycles fewer than one in a hundred is improbable at one in a thousand."""
    rng = np.random.default_rng(7)
    k = stats.betabinom(700, 6, 300).rvs(3060, random_state=rng).tolist()
    tails = []
    for end in range(60, 3060):
        usual = fit(k[end - 60 : end], [700] * 60, 60)
        assert usual is not None
        tails.append(min(usual.tails(k[end], 700)))
    assert sum(p < 0.001 for p in tails) < 10
