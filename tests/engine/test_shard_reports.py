"""The reports of a version's shards, as one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_detection.domain.reports import CanaryResult, FeatureProfile, RunReport
from airflow_detection.domain.specs import Outcome, Role, VersionSpec
from airflow_detection.engine.isolation.report_json import report_json, report_of
from airflow_detection.engine.shard_reports import merged_metrics, merged_report

AT = datetime(2026, 3, 1, tzinfo=UTC)
VERSION = VersionSpec(model_id="m", version="1", role=Role.PRIMARY)
NUMBERS = st.floats(-1e6, 1e6)


def report(**fields: Any) -> RunReport:
    return RunReport(**{"version": VERSION, "outcome": Outcome.SUCCEEDED, "started_at": AT} | fields)


def test_counts_are_added_and_the_largest_shard_gives_the_peak() -> None:
    merged = merged_report(
        [
            report(
                duration_ms=10.0, input_count=4, output_count=2, input_digest="columns-1:a",
                peak_memory_bytes=7, newest_input_at=AT, stage_ms={"run": 1.5},
                reads={"newer_rows": 1.0, "history_oldest_s": 9.0}, history_tables=("a",), reads_since=AT,
            ),
            report(
                started_at=AT - timedelta(1), duration_ms=5.0, input_count=3, output_count=1,
                input_digest="columns-1:b", peak_memory_bytes=9, newest_input_at=AT + timedelta(1),
                stage_ms={"run": 2.0, "store": 1.0}, reads={"newer_rows": 2.0, "history_oldest_s": 4.0},
                history_tables=("a", "b"),
            ),
        ],
        "id",
    )  # fmt: skip
    assert (merged.started_at, merged.duration_ms, merged.peak_memory_bytes) == (AT - timedelta(1), 15.0, 9)
    assert (merged.input_count, merged.output_count) == (7, 3)
    assert (merged.newest_input_at, merged.reads_since) == (AT + timedelta(1), AT)
    assert (merged.stage_ms, merged.history_tables) == ({"run": 3.5, "store": 1.0}, ("a", "b"))
    assert merged.reads == {"newer_rows": 3.0, "history_oldest_s": 4.0}


def test_a_digest_tells_the_order_of_shards_their_number_and_their_key() -> None:
    def digest(key: str, *digests: str | None) -> str | None:
        return merged_report([report(input_digest=d) for d in digests], key).input_digest

    assert digest("id", "a", "b") == digest("id", "a", "b")
    every = {
        digest("id", "a", "b"),
        digest("id", "b", "a"),
        digest("other", "a", "b"),
        digest("id", "a", "b", ""),
    }
    assert len(every) == 4
    assert all(d and d.startswith("shards-1:") for d in every)
    assert digest("id", "a", None) is None


@pytest.mark.parametrize(
    ("parts", "worst"),
    [
        ([(0.5, 0.5, True), (0.5, 0.4, True)], (0.4, True)),
        ([(0.5, 0.6, True), (0.5, 0.5, True)], (0.6, True)),
        ([(0.5, None, False), (0.5, 0.5, True)], (None, False)),
        ([(0.5, 0.5, True), (0.5, None, False)], (None, False)),
        ([(None, 0.1, True), (None, None, True)], (0.1, True)),
    ],
)
def test_of_a_canary_the_worst_result_counts(parts: list[Any], worst: tuple[Any, bool]) -> None:
    shards = [
        report(canaries=(CanaryResult(name="c", expected=e, observed=o, is_present=p),)) for e, o, p in parts
    ]
    (canary,) = merged_report(shards, "id").canaries
    assert (canary.observed, canary.is_present) == worst


@given(st.lists(st.lists(st.one_of(st.none(), NUMBERS), max_size=20), min_size=1, max_size=5))
def test_profiles_are_those_of_all_values(columns: list[list[float | None]]) -> None:
    whole = FeatureProfile.of("x", [value for column in columns for value in column])
    shards = [report(features=(FeatureProfile.of("x", column),)) for column in columns]
    (merged,) = merged_report(shards, "id").features
    assert (merged.count, merged.null_count) == (whole.count, whole.null_count)
    assert merged.distinct_count >= whole.distinct_count
    if whole.mean is None:
        assert merged.mean is None
    else:
        assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
        assert merged.deviation == pytest.approx(whole.deviation, rel=1e-6, abs=1e-2)


def test_few_values_that_repeat_in_each_shard_are_those_of_one_and_entities_are_added() -> None:
    few, many = [n % 4 for n in range(1000)], list(range(1000))
    shards = [
        report(
            features=(
                FeatureProfile.of("few", few),
                FeatureProfile.of("id", few),
                FeatureProfile.of("many", many),
            )
        )
        for _ in range(3)
    ]
    distinct = {f.name: f.distinct_count for f in merged_report(shards, "id").features}
    assert distinct == {"few": 4, "id": 12, "many": 3000}


def test_metrics_are_added_unless_the_model_says_otherwise() -> None:
    merges = {"top": "max", "low": "min", "share": "mean", "none": "mean"}
    shards = [report(output_count=n, merges=merges) for n in (1, 3, 0)]
    metrics = [
        {"n": 1.0, "top": 4.0, "low": 2.0, "share": 0.5, "none": 1.0},
        {"n": 2.0, "top": 9.0, "share": 0.1},
        {"n": 4.0, "low": 1.0},
    ]
    assert merged_metrics(shards, metrics) == {
        "n": 7.0, "top": 9.0, "low": 1.0, "share": pytest.approx(0.2), "none": 1.0,
    }  # fmt: skip
    assert merged_metrics([replace(shards[2])], [{"share": 0.3}]) == {"share": 0.3}


def test_a_report_tells_another_process_how_its_metrics_merge() -> None:
    shard = report(merges={"top": "max"})
    assert report_of(report_json(shard), VERSION) == shard


def test_whole_numbers_of_metrics_are_numbers_like_others() -> None:
    """jsonb gives 1e16 back as a whole number."""
    shards = [report(merges={"most": "max"}), report(merges={"most": "max"})]
    merged = merged_metrics(shards, [{"most": 10**16, "all": 10**16}, {"most": 0.5, "all": 1}])
    assert merged == {"most": 1e16, "all": 1e16 + 1}
    assert {type(value) for value in merged.values()} == {float}


def test_what_is_in_excess_of_all_floats_is_left_out() -> None:
    shards = [report(output_count=1), report(output_count=1)]
    assert merged_metrics(shards, [{"a": 1.7e308, "b": 1.0}, {"a": 1.7e308, "b": 1.0}]) == {"b": 2.0}


def test_values_whose_squares_are_in_excess_of_all_floats_have_no_moments() -> None:
    parts = [
        FeatureProfile(name="x", count=2, null_count=0, distinct_count=2, mean=mean, deviation=0.0)
        for mean in (1e200, -1e200)
    ]
    shards = [report(features=(part,)) for part in parts]
    (merged,) = merged_report(shards, "id").features
    assert (merged.count, merged.mean, merged.deviation) == (4, None, None)
