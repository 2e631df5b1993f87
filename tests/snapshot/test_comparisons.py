"""Comparison figures equal scipy's and scikit-learn's on the same data."""

from __future__ import annotations

import random
import warnings
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy.stats.mstats import mquantiles
from sklearn.metrics import cohen_kappa_score, jaccard_score

from airflow_detection.store import comparisons
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
Scores = dict[str, float | None]


def _plant(conn: Connection, scores: list[tuple[Scores, Scores]]) -> None:
    conn.execute("create table detection.p partition of detection.detection_model_run_outputs default")
    put = (
        "insert into detection.detection_model_run_outputs (cycle_started_at, model_id, version_id, role,"
        " entity_id, score, input_ref, outputs) values (%s, 'm', %s, %s, %s, %s, '{}', '{}')"
    )
    for number, pair in enumerate(scores):
        at = AT + number * timedelta(minutes=5)
        for version, (role, by_entity) in enumerate(zip(("PRIMARY", "SHADOW"), pair, strict=True), 1):
            with conn.cursor() as cursor:
                cursor.executemany(
                    put, [(at, version, role, entity, score) for entity, score in by_entity.items()]
                )


def _pair(cycles: int) -> comparisons.Pair:
    return comparisons.Pair(
        model_id="m", primary_id=1, primary_version="1", shadow_id=2, shadow_version="2", role="SHADOW",
        primary_cycles=cycles, shadow_cycles=cycles, primary_ms=None, shadow_ms=None, outputs=0,
        cycles=tuple(AT + n * timedelta(minutes=5) for n in range(cycles)),
    )  # fmt: skip


def _compare(conn: Connection, cycles: int) -> comparisons.Comparison:
    return comparisons.compare(
        comparisons.row_reader(Database(conn, "detection")), [_pair(cycles)], above={"m": 0.5}
    )[0]


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_those_of_scipy_and_scikit_learn(database: Connection, seed: int) -> None:
    rng = random.Random(seed)

    def scores() -> Scores:
        return {
            f"e{n}": None if rng.random() < 0.1 else round(rng.random() ** 2, 6)
            for n in range(80)
            if rng.random() < 0.9
        }

    planted = [(scores(), scores()) for _ in range(4)]
    _plant(database, planted)
    comparison = _compare(database, 4)
    both = [
        (p[e], s[e]) for p, s in planted for e in p.keys() & s.keys() if p[e] is not None and s[e] is not None
    ]
    first, second = (np.array([float(x[i] or 0) for x in both]) for i in (0, 1))
    assert comparison.scored == len(both)
    assert comparison.entities == sum(len(p.keys() | s.keys()) for p, s in planted)
    assert comparison.only_primary == sum(len(p.keys() - s.keys()) for p, s in planted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert comparison.kappa == pytest.approx(cohen_kappa_score(first > 0.5, second > 0.5))
        assert comparison.jaccard == pytest.approx(jaccard_score(first > 0.5, second > 0.5))
    expected = mquantiles(np.abs(first - second), 0.99, alphap=1, betap=1)[0]
    assert comparison.p99_difference == pytest.approx(expected)
    assert comparison.newly_flagged == int(((first <= 0.5) & (second > 0.5)).sum())
    assert comparison.lost == int(((first > 0.5) & (second <= 0.5)).sum())
    overlaps = []
    for p, s in planted:
        scored = [e for e in p.keys() & s.keys() if p[e] is not None and s[e] is not None]
        tops = [
            {e for _, e in sorted((-(v[e] or 0), e) for e in scored if (v[e] or 0) > 0)[:10]} for v in (p, s)
        ]
        overlaps.append(len(tops[0] & tops[1]) / max(map(len, tops)))
    assert comparison.top_overlap == pytest.approx(np.mean(overlaps))


@pytest.mark.parametrize("equal", [0, 150, 197, 198, 199, 200])
def test_the_p99_counts_the_many_that_do_not_differ(database: Connection, equal: int) -> None:
    rng = random.Random(equal)
    first = {f"e{n}": rng.random() for n in range(200)}
    second = {e: score if n < equal else rng.random() for n, (e, score) in enumerate(first.items())}
    _plant(database, [(dict(first), dict(second))])
    differences = [abs(first[e] - second[e]) for e in first]
    assert _compare(database, 1).p99_difference == pytest.approx(np.percentile(differences, 99))


def test_a_champion_is_compared_with_each_of_its_shadows(database: Connection) -> None:
    _plant(database, [({"a": 0.9, "b": 0.1}, {"a": 0.9}), ({"a": 0.2}, {"a": 0.7})])
    database.execute(
        "insert into detection.detection_model_run_outputs (cycle_started_at, model_id, version_id, role,"
        " entity_id, score, input_ref, outputs) values (%s, 'm', 3, 'CHALLENGER', 'b', 0.6, '{}', '{}')",
        (AT,),
    )
    shadow, challenger = _pair(2), replace(_pair(1), shadow_id=3, role="CHALLENGER")
    compared = comparisons.compare(
        comparisons.row_reader(Database(database, "detection")),
        [challenger, shadow, replace(shadow, shadow_id=4)],
        above={"m": 0.5},
    )
    assert [(c.cycles, c.entities, c.only_primary, c.newly_flagged) for c in compared] == [
        (1, 2, 1, 1), (2, 3, 1, 1), (2, 3, 3, 0),
    ]  # fmt: skip
    assert [c.p99_difference for c in compared] == [pytest.approx(0.5), pytest.approx(0.495), None]


def test_examples_are_the_entities_that_differ_most(database: Connection) -> None:
    _plant(database, [({"a": 0.1, "b": 0.4, "c": 0.9, "d": 0.9}, {"a": 0.9, "b": 0.6, "c": 0.2, "d": 0.9})])
    comparison = _compare(database, 1)
    assert [e.entity_id for e in comparison.newly_examples] == ["a", "b"]
    assert [e.entity_id for e in comparison.lost_examples] == ["c"]
    assert (comparison.both_flagged, comparison.coverage) == (1, 1.0)


def test_what_is_not_defined_is_none(database: Connection) -> None:
    _plant(database, [({"a": 0.0}, {"a": 0.0, "b": None})])
    comparison = _compare(database, 1)
    assert (comparison.kappa, comparison.jaccard, comparison.top_overlap, comparison.only_shadow) == (
        None,
        None,
        None,
        1,
    )
