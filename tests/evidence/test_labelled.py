"""Figures beside labels equal scikit-learn's and scipy's on the same data."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import (
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
)

from airflow_detection.evidence.labelled import (
    Interval,
    LabelledUnits,
    average_precision,
    compare_labelled,
    wilson,
)

NAN = float("nan")


def units_of(is_positive: object, first: object, second: object) -> LabelledUnits:
    truth = np.asarray(is_positive, dtype=bool)
    return LabelledUnits(
        label_ids=np.arange(len(truth)) + 1,
        is_positive=truth,
        first=np.asarray(first, dtype=float),
        second=np.asarray(second, dtype=float),
    )


def planted(seed: int, size: int = 300) -> LabelledUnits:
    """Units with ties, and some that a version has no score for."""
    rng = np.random.default_rng(seed)
    truth = rng.random(size) < 0.3
    scores = [np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1).round(2) for _ in range(2)]
    scores[1][rng.random(size) < 0.1] = NAN
    return units_of(truth, *scores)


def ranked_last(scores: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(scores), -1.0, scores)


@pytest.mark.parametrize("seed", range(4))
def test_figures_equal_those_of_scikit_learn(seed: int) -> None:
    units = planted(seed)
    compared = compare_labelled(units, above=0.5)
    for record, scores in ((compared.first, units.first), (compared.second, units.second)):
        flagged = scores > 0.5
        tn, fp, fn, tp = confusion_matrix(units.is_positive, flagged).ravel()
        assert (record.true_negatives, record.false_positives) == (tn, fp)
        assert (record.false_negatives, record.true_positives) == (fn, tp)
        assert record.precision.value == pytest.approx(precision_score(units.is_positive, flagged))
        assert record.recall.value == pytest.approx(recall_score(units.is_positive, flagged))
        assert record.f1.value == pytest.approx(f1_score(units.is_positive, flagged))
        expected = average_precision_score(units.is_positive, ranked_last(scores))
        assert record.average_precision.value == pytest.approx(expected)
        assert record.unscored == np.isnan(scores).sum()
    first, second = ((s > 0.5) == units.is_positive for s in (units.first, units.second))
    assert compared.only_second_right == (~first & second).sum()
    assert compared.only_first_right == (first & ~second).sum()
    assert compared.both_right == (first & second).sum()
    assert compared.both_wrong == (~first & ~second).sum()
    assert (compared.units, compared.positives) == (300, units.is_positive.sum())


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (3, 7), (810, 1000), (1, 100_000)])
def test_proportions_have_the_interval_of_wilson(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    found = wilson(k, n)
    assert (found.value, found.low, found.high) == pytest.approx((k / n, expected.low, expected.high))


def test_f1_and_average_precision_have_the_interval_of_a_bootstrap_over_units() -> None:
    units = planted(9, size=150)
    rng = np.random.default_rng(0)
    draws = [rng.integers(150, size=150) for _ in range(500)]
    truth, scores = units.is_positive, units.first
    record = compare_labelled(units, above=0.5).first
    f1 = np.quantile([f1_score(truth[d], scores[d] > 0.5) for d in draws], [0.025, 0.975])
    ap = np.quantile([average_precision_score(truth[d], scores[d]) for d in draws], [0.025, 0.975])
    assert (record.f1.low, record.f1.high) == pytest.approx(tuple(f1), abs=0.02)
    assert (record.average_precision.low, record.average_precision.high) == pytest.approx(tuple(ap), abs=0.02)
    assert compare_labelled(units, above=0.5).first == record


def test_what_is_not_defined_is_none() -> None:
    nothing = compare_labelled(units_of([], [], []), above=0.5)
    assert (nothing.units, nothing.first.precision, nothing.first.f1) == (
        0,
        Interval(value=None),
        Interval(value=None),
    )
    assert nothing.first.average_precision.value is None
    negatives = compare_labelled(units_of([False, False], [0.9, 0.1], [0.1, NAN]), above=0.5)
    assert negatives.first.precision.value == 0
    assert negatives.first.recall.value is None
    assert negatives.first.average_precision.value is None
    assert negatives.second.precision.value is None
    assert negatives.second.f1.value is None
    assert (negatives.only_second_right, negatives.both_right) == (1, 1)


def test_no_score_flags_nothing_and_ranks_last() -> None:
    assert average_precision(np.array([True, False]), np.array([NAN, 0.0])) == pytest.approx(0.5)
    compared = compare_labelled(units_of([True, False], [0.9, 0.9], [NAN, NAN]), above=0.5)
    assert (compared.only_first_right, compared.only_second_right) == (1, 1)
    second = compared.second
    assert (second.false_negatives, second.true_negatives, second.unscored) == (1, 1, 2)


def test_a_score_at_the_threshold_flags_nothing() -> None:
    compared = compare_labelled(units_of([True], [0.5], [0.5000001]), above=0.5)
    assert (compared.only_second_right, compared.only_first_right) == (1, 0)


def test_examples_are_the_latest_discordant_units() -> None:
    units = units_of([True] * 30, [0.0] * 30, [1.0] * 29 + [NAN])
    compared = compare_labelled(
        units, above=0.5, name_units=lambda ids: {n: f"e{n}" for n in ids}, examples=2
    )
    assert [(e.entity_id, e.first_score, e.second_score) for e in compared.won_examples] == [
        ("e29", 0.0, 1.0), ("e28", 0.0, 1.0),
    ]  # fmt: skip
    assert compared.lost_examples == ()


def test_two_hundred_thousand_units_take_seconds() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random(200_000) < 0.1
    units = units_of(truth, rng.random(200_000) + 0.2 * truth, rng.random(200_000) + 0.3 * truth)
    begun = time.process_time()
    compared = compare_labelled(units, above=0.9)
    assert time.process_time() - begun < 60
    assert compared.second.average_precision.low is not None
