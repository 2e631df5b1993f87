"""Columns beside their past: each sign at its limit, and none before there is a past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.specs import Outcome, Role
from airflow_detection.engine.canary import ENTITY_PROFILE
from airflow_detection.snapshot.verdicts.judge import judge_all
from airflow_detection.snapshot.verdicts.kinds import VerdictKind
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.input_facts import NEWEST, ROWS, with_profiles

FIRST = datetime(2026, 3, 1, 6, tzinfo=UTC)
STEP = timedelta(minutes=5)
USUAL = {
    "speed": FeatureProfile(
        name="speed", count=1000, null_count=0, distinct_count=300, mean=4.0, deviation=5.0
    ),
    ENTITY_PROFILE: FeatureProfile(name=ENTITY_PROFILE, count=100, null_count=10, distinct_count=100),
    NEWEST + "speed": FeatureProfile(
        name=NEWEST + "speed", count=170, null_count=0, distinct_count=100, mean=4.0, deviation=5.0
    ),
    NEWEST + ROWS: FeatureProfile(name=NEWEST + ROWS, count=170, null_count=0, distinct_count=170),
}


def run(
    number: int, features: Mapping[str, FeatureProfile] = USUAL, outputs: int = 100, null: int = 9
) -> ManifestRun:
    counts = {
        "scored": outputs - null,
        "null": null,
        "gt0": 5,
        "medium": 4,
        "high": 3,
        "critical": 2,
        "flagged": 3,
    }
    return ManifestRun(
        cycle_id="c", cycle_started_at=FIRST + number * STEP, model_id="m", version_id=1, version="1",
        role=Role.PRIMARY, step=STEP, lookback=12 * STEP, outcome=Outcome.SUCCEEDED, input_count=1000,
        input_digest=str(number), newest_input_at=FIRST + number * STEP, output_count=outputs,
        output_digest=str(number), score_counts=counts, features=features,
    )  # fmt: skip


def reasons(after: ManifestRun, before: int = 40) -> tuple[str, ...]:
    *_, last = judge_all([*(run(number) for number in range(before)), replace(after)])
    assert last.kind.is_bad == bool(last.reasons and last.kind is not VerdictKind.WARMING_UP)
    return last.reasons if last.kind.is_bad else ()


def changed(name: str, **values: float) -> dict[str, FeatureProfile]:
    return {**USUAL, name: replace(USUAL[name], **values)}  # type: ignore[arg-type]  # counts and means


@pytest.mark.parametrize(
    ("name", "fine", "odd", "reason"),
    [
        ("speed", {"mean": 4.7}, {"mean": 4.8}, "the mean of speed is 4.8; 4 is usual"),
        ("speed", {"count": 810}, {"count": 790}, "speed was computed from 79% of the rows"),
        (NEWEST + "speed", {"mean": 3.3}, {"mean": 3.2}, "the mean of speed in the newest rows is 3.2"),
        (NEWEST + "speed", {"distinct_count": 81}, {"distinct_count": 79}, "46.5% of speed in the newest"),
        (NEWEST + "speed", {"null_count": 8}, {"null_count": 60}, "speed in the newest rows is null in 35%"),
        (NEWEST + ROWS, {"distinct_count": 137}, {"distinct_count": 135}, "79.4% of the newest rows are"),
        (NEWEST + ROWS, {"count": 129, "distinct_count": 129}, {"count": 127, "distinct_count": 127},
         "127 rows arrived last; 170 did just before"),
        (ENTITY_PROFILE, {"distinct_count": 81}, {"distinct_count": 70},
         "77.8% of the outputs' entities are"),
        (ENTITY_PROFILE, {"null_count": 29}, {"null_count": 50}, "50% of the outputs are about nobody"),
    ],
)  # fmt: skip
def test_a_column_is_odd_from_its_limit_on(
    name: str, fine: dict[str, float], odd: dict[str, float], reason: str
) -> None:
    assert reasons(run(40, changed(name, **fine))) == ()
    given = reasons(run(40, changed(name, **odd)))
    assert any(text.startswith(reason) for text in given), given
    assert reasons(run(11, changed(name, **odd)), before=11) == (), "there is too little past"


@pytest.mark.parametrize(
    ("name", "burst", "fewer"),
    [
        (NEWEST + "speed", {"count": 400, "distinct_count": 100}, {"count": 400, "distinct_count": 79}),
        ("speed", {"count": 2000, "distinct_count": 300}, {"count": 2000, "distinct_count": 149}),
    ],
)
def test_rows_of_a_burst_may_repeat_values_and_a_fault_leaves_fewer(
    name: str, burst: dict[str, float], fewer: dict[str, float]
) -> None:
    assert reasons(run(40, changed(name, **burst))) == ()
    (reason,) = reasons(run(40, changed(name, **fewer)))
    assert "speed" in reason
    assert "distinct" in reason or "different" in reason


def test_a_single_absurd_value_moves_no_mean() -> None:
    """Of a thousand values one is a million: the deviation grows more than the mean."""
    values = [4.0] * 500 + [9.0] * 499 + [1e6]
    profile = FeatureProfile.of("speed", values)
    assert profile.mean is not None
    assert reasons(run(40, {**USUAL, "speed": replace(profile, distinct_count=300)})) == ()


def test_outputs_are_as_many_as_usual_and_some_scores_are_null() -> None:
    assert reasons(run(40, outputs=149)) == ()
    assert reasons(run(40, outputs=151)) == ("151 outputs; at most 100 are usual for as many rows",)
    assert reasons(run(40, null=1)) == ()
    (never,) = reasons(run(40, null=0))
    assert never.startswith("no score is null")


def test_manifests_without_profiles_are_compared_as_before() -> None:
    old = [run(number, {}) for number in range(40)]
    assert [v.kind for v in judge_all([*old, run(40)])][-1] is VerdictKind.OK


def test_the_newest_rows_are_those_of_the_last_sixth() -> None:
    times = [*range(0, 3600, 60), 3600, 3600]
    inputs = with_profiles(Inputs({"t": tuple(times), "id": (*range(60), 7, 7), "x": ("a",) * 62}), "t")
    profiles = {p.name: p for p in inputs.newest}
    assert {name: p.count for name, p in profiles.items()} == dict.fromkeys(profiles, 12)
    assert profiles["new:*"].distinct_count == profiles["new:*state"].distinct_count == 11
    assert (profiles["new:x"].mean, profiles["new:t"].mean) == (None, None)
    assert profiles["new:id"].mean == pytest.approx((sum(range(50, 60)) + 14) / 12)
    assert with_profiles(Inputs({"t": (None,)}), "t").newest == ()
    assert with_profiles(inputs, None).newest == inputs.newest


def test_a_threshold_that_was_changed_is_no_surge_of_the_model() -> None:
    """What counts as CRITICAL is compared among runs that counted it alike."""
    edges = {"gt0": 0.0, "medium": 0.3, "high": 0.5, "critical": 0.7}
    grades = {"gt0": 50, "medium": 40, "high": 30, "critical": 0}
    usual = {"scored": 91, "null": 9, **grades}
    past = [replace(run(n), score_counts=usual, score_edges=edges) for n in range(60)]
    more = replace(run(60), score_counts={**usual, "critical": 30}, score_edges=edges)
    changed_rule = replace(more, score_edges={**edges, "critical": 0.5})
    kinds = [[*judge_all([*past, last])][-1].kind for last in (past[-1], more, changed_rule)]
    assert kinds[1:] == [VerdictKind.SURGE, VerdictKind.OK]
