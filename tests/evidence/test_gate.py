"""The gate: exact against the integral, stable for a million pairs, and valid whenever anybody looks."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from airflow_detection.evidence.gate import curve, labels_to_go, log_e, read_gate

BOUND = math.log(20)


def exact(wins: int, losses: int) -> Fraction:
    """E by whole numbers alone: 2^(n+1) * the integral of p^b (1-p)^c over (1/2, 1]."""
    integral = Fraction(0)
    for k in range(losses + 1):
        power = wins + k + 1
        integral += Fraction((-1) ** k * math.comb(losses, k), power) * (1 - Fraction(1, 2**power))
    return 2 ** (wins + losses + 1) * integral


@pytest.mark.parametrize(
    ("wins", "losses"),
    [(0, 0), (1, 0), (0, 1), (5, 0), (0, 5), (7, 7), (40, 20), (20, 40), (300, 250), (0, 60), (3, 500)],
)
def test_e_is_the_integral(wins: int, losses: int) -> None:
    expected = exact(wins, losses)
    logarithm = math.log(expected.numerator) - math.log(expected.denominator)
    assert float(log_e(wins, losses)) == pytest.approx(logarithm, rel=1e-10, abs=1e-10)


def test_e_is_the_integral_by_quadrature_too() -> None:
    density = quad(lambda p: 2.0 * (2 * p) ** 30 * (2 * (1 - p)) ** 12, 0.5, 1)[0]
    assert math.exp(float(log_e(30, 12))) == pytest.approx(density, rel=1e-9)


@pytest.mark.parametrize(("wins", "losses"), [(0, 1_200), (10, 1_500), (300, 3_000), (0, 4_000)])
def test_e_is_exact_where_the_beta_function_underflows(wins: int, losses: int) -> None:
    expected = exact(wins, losses)
    logarithm = math.log(expected.numerator) - math.log(expected.denominator)
    assert float(log_e(wins, losses)) == pytest.approx(logarithm, rel=1e-9)


def test_before_any_label_e_is_one_and_each_step_is_fair_at_the_edge_of_h0() -> None:
    assert float(log_e(0, 0)) == pytest.approx(0, abs=1e-12)
    b, c = np.meshgrid(np.arange(60), np.arange(60))
    for p, relation in ((0.5, np.less_equal), (0.3, np.less_equal)):
        expected = p * np.exp(log_e(b + 1, c)) + (1 - p) * np.exp(log_e(b, c + 1))
        assert relation(expected, np.exp(log_e(b, c)) * (1 + 1e-9)).all()


def test_a_million_pairs_are_stable_and_take_seconds() -> None:
    begun = time.process_time()
    for share in (0.5, 0.51, 0.3, 0.0, 1.0):
        logs = curve(np.random.default_rng(7).random(1_000_000) < share)
        assert np.isfinite(logs).all()
        assert np.abs(np.diff(logs)).max() <= math.log(2) + 1e-6
    assert float(log_e(0, 1_000_000)) == pytest.approx(-math.log(1_000_001), rel=1e-4)
    assert float(log_e(1_000_000, 0)) == pytest.approx(
        1_000_001 * math.log(2) - math.log(1_000_001), rel=1e-9
    )
    assert float(log_e(510_000, 490_000)) == pytest.approx(
        200 - 0.5 * math.log(1_000_000) + math.log(2 * math.sqrt(2 * math.pi * 0.25)), rel=1e-3
    )
    assert time.process_time() - begun < 30


STREAMS, PAIRS = 2_000, 1_000


def looked_at_after_each_pair(share: float, seed: int, pairs: int = PAIRS) -> tuple[np.ndarray, np.ndarray]:
    """Wins so far of each stream, and ln E, after each pair."""
    won = np.cumsum(np.random.default_rng(seed).random((STREAMS, pairs)) < share, axis=1)
    return won, log_e(won, np.arange(1, pairs + 1) - won)


def test_at_50_to_50_at_most_one_stream_in_twenty_ever_passes() -> None:
    _, logs = looked_at_after_each_pair(0.5, seed=1)
    passed = (logs >= BOUND).any(axis=1).mean()
    assert 0.01 < passed <= 0.05


def test_an_ordinary_p_value_with_the_same_looks_passes_far_more_often() -> None:
    won, _ = looked_at_after_each_pair(0.5, seed=1)
    # The least number of wins at which the one-sided binomial p-value is at most 0.05, for each look.
    looks = np.arange(1, PAIRS + 1)
    needed = stats.binom.isf(0.05, looks, 0.5) + 1
    assert (stats.binom.sf(needed - 1, looks, 0.5) <= 0.05).all()
    assert 0.27 < (won >= needed).any(axis=1).mean() < 0.37


def test_a_worse_challenger_hardly_ever_passes() -> None:
    _, logs = looked_at_after_each_pair(0.45, seed=2)
    assert (logs >= BOUND).any(axis=1).mean() < 0.02


@pytest.mark.parametrize(("share", "median"), [(0.55, 780), (0.60, 170), (0.65, 70)])
def test_half_of_the_better_challengers_pass_after(share: float, median: int) -> None:
    _, logs = looked_at_after_each_pair(share, seed=3, pairs=2_000)
    first = np.where((logs >= BOUND).any(axis=1), (logs >= BOUND).argmax(axis=1) + 1, np.inf)
    assert np.median(first) == pytest.approx(median, rel=0.12)


def test_it_says_how_many_more_labels_it_would_take() -> None:
    assert labels_to_go(0, 0, 10) is None
    assert labels_to_go(10, 10, 40) is None
    assert labels_to_go(100, 20, 400) == 0
    more = labels_to_go(13, 7, 80)  # 65/35, and a quarter of the labels is discordant
    assert more is not None
    assert more % 4 == 0
    pairs = more // 4
    assert float(log_e(13 + 0.65 * pairs, 7 + 0.35 * pairs)) >= BOUND
    assert float(log_e(13 + 0.65 * (pairs - 1), 7 + 0.35 * (pairs - 1))) < BOUND
    assert labels_to_go(500_001, 500_000, 1_000_001) is None


def test_a_reading_has_e_now_its_highest_and_a_curve() -> None:
    reading = read_gate([True] * 9 + [False] * 30, units=50)
    assert (reading.units, reading.wins, reading.losses) == (50, 9, 30)
    assert reading.e < 1
    assert not reading.has_passed
    assert reading.highest_log_e == pytest.approx(float(log_e(9, 0)))
    assert reading.curve[0] == (0, 0.0)
    assert reading.curve[-1] == (39, reading.log_e)
    assert max(e for _, e in reading.curve) == reading.highest_log_e
    long = read_gate(np.random.default_rng(5).random(100_000) < 0.6, units=100_000)
    assert long.has_passed
    assert long.e == pytest.approx(math.exp(709))
    assert len(long.curve) <= 402
    none = read_gate([], units=0)
    assert (none.e, none.curve, none.more_labels) == (1.0, ((0, 0.0),), None)
