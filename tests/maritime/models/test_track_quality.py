"""The track_quality model: fixes kept and dropped, fields missing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from tests.maritime.conftest import COLUMNS, SHIP, Row, cycle_at, fix, outputs_of

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.maritime.models.track_quality import TrackQuality
from airflow_detection.maritime.tracks.geo import haversine_km
from airflow_detection.maritime.tracks.mmsi import is_reserved, is_valid

MODEL = TrackQuality("track_quality", "1.0")


def metrics_of(rows: list[Row]) -> dict[str, Any]:
    ctx = ModelContext(cycle=cycle_at(), inputs=Inputs.of_rows(rows, COLUMNS))
    return dict(MODEL.run(ctx).metrics)


def test_the_score_is_the_share_of_dropped_fixes() -> None:
    rows = [fix(0, 10, 20), fix(60, 91.0, 181.0), fix(120, 10.1, 20), fix(180, 10, 181.0), fix(240, None, 3)]
    output = outputs_of(MODEL, rows)[str(SHIP)]
    assert (output["score"], output["severity"], output["n_pos"]) == (0.6, "HIGH", 2)
    assert (output["evidence"]["kept"], output["evidence"]["dropped"]) == (2, 3)


def test_a_missing_field_costs_the_field_not_the_fix() -> None:
    rows = [
        {**fix(0, 10, 20, 102.3), "heading_deg": 511.0, "cog_deg": 360.0},
        {**fix(60, 10, 20, 5.0), "heading_deg": 90.0, "cog_deg": 90.0},
    ]
    output = outputs_of(MODEL, rows)[str(SHIP)]
    assert (output["score"], output["severity"]) == (0.0, None)
    assert (output["evidence"]["sog_missing"], output["evidence"]["heading_missing"]) == (1, 1)
    metrics = metrics_of(rows)
    assert metrics["sog_null_rate"] == metrics["cog_null_rate"] == metrics["heading_null_rate"] == 0.5
    assert metrics["position_null_rate"] == 0.0


def test_speed_102_3_is_missing_in_single_precision_too() -> None:
    rows = [fix(0, 10, 20, float(np.float32(102.3))), fix(1, 10, 20, float(np.float32(102.2)))]
    assert outputs_of(MODEL, rows)[str(SHIP)]["evidence"]["sog_missing"] == 1


def test_repeated_fixes_are_counted_and_a_still_track_shows() -> None:
    rows = [fix(0, 10, 20)] * 3 + [fix(60 * i, 10, 20) for i in range(1, 4)]
    evidence = outputs_of(MODEL, rows)[str(SHIP)]["evidence"]
    assert (evidence["kept"], evidence["duplicates"], evidence["distinct_position_ratio"]) == (6, 2, 0.25)
    assert metrics_of(rows)["distinct_position_ratio"] == 0.25


def test_an_impossible_identity_is_flagged_and_counted() -> None:
    rows = [fix(0, 10, 20), fix(0, 10, 20, mmsi=0), fix(0, 10, 20, mmsi=123456789)]
    outputs = outputs_of(MODEL, rows)
    assert [outputs[str(m)]["is_identity_valid"] for m in (SHIP, 0, 123456789)] == [True, False, False]
    assert metrics_of(rows)["invalid_identity_count"] == 2


def test_order_changes_nothing() -> None:
    rng = random.Random(5)
    rows = [
        fix(rng.randrange(60), rng.choice((10.0, 10.5, 91.0, None)), 20, rng.choice((None, 3.0)), SHIP + k)
        for k in range(10)
        for _ in range(9)
    ]
    expected = outputs_of(MODEL, rows)
    rng.shuffle(rows)
    assert outputs_of(MODEL, rows) == expected


def test_a_row_without_time_is_no_fix() -> None:
    output = outputs_of(MODEL, [{**fix(0, 10, 20), "observed_s": None}])[str(SHIP)]
    assert (output["score"], output["n_pos"]) == (None, 0)


def test_nothing_gives_nothing() -> None:
    assert outputs_of(MODEL, []) == {}
    assert outputs_of(MODEL, Inputs()) == {}
    assert outputs_of(MODEL, [dict.fromkeys(COLUMNS)]) == {}
    metrics = metrics_of([])
    assert (metrics["fix_count"], metrics["position_null_rate"]) == (0, None)


def test_canaries_have_the_scores_that_they_expect_and_are_in_no_metric() -> None:
    canaries = list(MODEL.canaries(cycle_at()))
    rows = [fix(0, 10, 20), fix(60, 91, 181)]
    canary_rows = [dict(row) for canary in canaries for row in canary.rows]
    outputs = outputs_of(MODEL, rows + canary_rows)
    for canary in canaries:
        assert outputs[canary.entity_id]["score"] == pytest.approx(canary.expected, abs=1e-6)
    assert outputs_of(MODEL, rows)[str(SHIP)] == outputs[str(SHIP)]
    assert metrics_of(rows) == metrics_of(rows + canary_rows)


@pytest.mark.parametrize(
    ("mmsi", "valid"),
    [
        (366000001, True),
        (201000000, True),
        (775999999, True),
        (200999999, False),
        (776000000, False),
        (982095871, True),  # the boat of a ship
        (3660489, True),  # 003660489, a coast station
        (36600001, True),  # 036600001, a group
        (111232001, True),  # a rescue aircraft
        (970111222, True),
        (993660001, True),  # a buoy
        (999999999, False),
        (123456789, False),
        (1193046, False),
        (0, False),
        (2**30 + 1, False),
        (-1, True),
    ],
)
def test_identities(mmsi: int, valid: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert is_valid(np.array([mmsi])).tolist() == [valid]
    assert is_reserved(np.array([mmsi])).tolist() == [mmsi < 0 or mmsi >= 2**30]


def test_distances_on_the_sphere() -> None:
    def km(*degrees: float) -> float:
        return float(haversine_km(*(np.array([x]) for x in degrees))[0])

    assert km(0, 0, 0, 180) == pytest.approx(np.pi * 6371.0088)
    assert km(90, 17, -90, 3) == pytest.approx(np.pi * 6371.0088)
    assert km(0, 179.5, 0, -179.5) == pytest.approx(111.195, abs=0.001)
    assert km(50.0667, -5.7147, 58.6438, -3.07) == pytest.approx(968.9, abs=0.5)  # the length of Britain
    assert np.isnan(km(np.nan, 0, 0, 0))
