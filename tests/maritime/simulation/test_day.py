"""The simulator: the same bytes each time, and its anomalies can be found."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.maritime.conftest import COLUMNS, outputs_of

from airflow_detection.domain.inputs import Inputs
from airflow_detection.maritime.ais.file import Layout, numbered_lines, open_text
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.maritime.models.spoofing import Spoofing
from airflow_detection.maritime.models.track_quality import TrackQuality
from airflow_detection.maritime.simulation.day import SimulatedTruth, write_day
from airflow_detection.maritime.simulation.fleet import COAST, OFFSHORE, Box
from airflow_detection.maritime.simulation.scenes import SCENES
from airflow_detection.maritime.tracks.coast import offshore_km
from airflow_detection.maritime.tracks.gear_names import gear_name

if TYPE_CHECKING:
    import psycopg

START = datetime(2026, 3, 1, tzinfo=UTC)


def hours_of(path: Path) -> dict[int, list[tuple[Any, ...]]]:
    """The rows of a file by hour of the day, as the input query selects them."""
    hours: dict[int, list[tuple[Any, ...]]] = {}
    with open_text(path) as text:
        lines = numbered_lines(text)
        layout = Layout.of_header(next(lines)[1], path)
        for _, line in lines:
            p = layout.position(line)
            hours.setdefault(p.observed_at.hour, []).append(
                (p.mmsi, p.observed_at.timestamp(), p.lat, p.lon, p.sog_kn, p.cog_deg, p.heading_deg)
            )
    return hours


def inputs_of(rows: list[tuple[Any, ...]]) -> Inputs:
    return Inputs(dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)))


def written(path: Path, **options: Any) -> SimulatedTruth:
    return write_day(path, start=START, **{"hours": 1, "vessels": 20, **options})


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    names = ("a.csv", "b.csv", "a.csv.gz", "b.csv.gz")
    truths = {name: written(tmp_path / name) for name in names}
    assert len({repr(truth) for truth in truths.values()}) == 1
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == (tmp_path / "a.csv").read_bytes()
    assert (tmp_path / "a.csv.gz").read_bytes()[4:8] == bytes(4), "no time in the gzip header"
    written(tmp_path / "c.csv", seed=8)
    assert (tmp_path / "c.csv").read_bytes() != (tmp_path / "a.csv").read_bytes()


def test_the_truth_is_written_beside_the_file(tmp_path: Path) -> None:
    truth = written(tmp_path / "day.csv")
    beside = json.loads((tmp_path / "day.csv.truth.json").read_text())
    assert beside["twins"] == list(truth.twins)
    assert [jump["mmsi"] for jump in beside["jumps"]] == [jump.mmsi for jump in truth.jumps]
    assert datetime.fromisoformat(beside["start"]) == START


def test_every_vessel_is_labelled_and_no_number_is_out_of_place(tmp_path: Path) -> None:
    truth = written(tmp_path / "day.csv", hours=24)
    with (tmp_path / "day.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == truth.rows > 20 * 24 * 18
    assert all(row["VesselName"].startswith("SIM ") for row in rows)
    assert len({row["MMSI"] for row in rows}) == 20
    times = [row["BaseDateTime"] for row in rows]
    assert times == sorted(times)
    assert times[-1] < f"{START + timedelta(days=1):%Y-%m-%dT%H:%M:%S}"
    assert all(0 <= float(row["COG"]) < 360 and 0 < float(row["SOG"]) <= 102.3 for row in rows)


def test_a_simulated_file_is_recorded_as_such(
    database: psycopg.Connection[tuple[Any, ...]], tmp_path: Path
) -> None:
    truth = written(tmp_path / "day.csv.gz")
    report = load_file(database, tmp_path / "day.csv.gz")
    assert (report.rows_loaded, report.malformed_count, report.is_simulated) == (truth.rows, 0, True)
    assert database.execute("select is_simulated, row_count from detection.ais_files").fetchall() == [
        (True, truth.rows)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_planted_is_found_and_nothing_else(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "day.csv"
    truth = written(path, seed=seed, hours=4, vessels=60)
    anomalous = {*truth.jumpers, *truth.twins}
    cloned = {scene.mmsis[0]: scene for scene in truth.of("clone_once")}
    for hour, rows in hours_of(path).items():
        scores = outputs_of(Spoofing("spoofing", params={"v_max_kn": 50}), inputs_of(rows))
        quality = outputs_of(TrackQuality("track_quality"), inputs_of(rows))
        for output in scores.values():
            mmsi, score = output["mmsi"], output["score"]
            if mmsi in truth.twins:
                assert score > 0.7
            elif mmsi in truth.jumpers:
                assert score > 0.3
            elif mmsi in truth.impossible_identities:
                assert score == pytest.approx(0.25, abs=0.02)
            elif mmsi in cloned and cloned[mmsi].started_at.hour <= hour <= cloned[mmsi].ended_at.hour:
                is_within = cloned[mmsi].started_at.hour == cloned[mmsi].ended_at.hour
                assert score > 0.7 or not is_within
            else:
                assert score < 0.05, output
        assert anomalous <= {output["mmsi"] for output in scores.values()}
        for output in quality.values():
            is_planted = output["mmsi"] in {*truth.partly_unavailable, *truth.frozen}
            assert (output["score"] > 0.2) is is_planted
            assert (output["score"] > 0.5) is (output["mmsi"] in truth.frozen)
            is_still = output["evidence"]["distinct_position_ratio"] < 0.5
            assert is_still is (output["mmsi"] in truth.frozen)
            assert output["is_identity_valid"] is (output["mmsi"] not in truth.impossible_identities)


def test_each_kind_is_planted_once_in_fifty_vessels_and_too_fast_twice(tmp_path: Path) -> None:
    truth = written(tmp_path / "day.csv", vessels=200, hours=17)
    assert Counter(scene.kind for scene in truth.scenes) == dict.fromkeys(SCENES, 4)
    mmsis = [mmsi for scene in truth.scenes for mmsi in scene.mmsis]
    assert len(mmsis) == len(set(mmsis)) == 4 * sum(size for _, size, _ in SCENES.values())
    kinds = (truth.jumpers, truth.twins, truth.impossible_identities, truth.frozen, truth.partly_unavailable)
    assert [len(kind) for kind in kinds] == [4] * 5
    assert len(truth.too_fast) == 8
    assert max(Counter(mmsi for kind in (*kinds, truth.too_fast, mmsis) for mmsi in kind).values()) == 1


def test_a_short_file_holds_the_scenes_that_end_in_it(tmp_path: Path) -> None:
    truth = written(tmp_path / "day.csv", hours=8.5)
    assert {scene.kind for scene in truth.scenes} == set(SCENES) - {"satellite_gap"}
    end = truth.start + timedelta(hours=8.5)
    assert all(truth.start <= scene.started_at < scene.ended_at <= end for scene in truth.scenes)
    assert json.loads((tmp_path / "day.csv.truth.json").read_text())["scenes"][0]["kind"] == "terrestrial_gap"


def test_the_areas_are_as_far_offshore_as_stated() -> None:
    def nm(box: Box) -> tuple[float, float]:
        south, north, west, east = box
        lat, lon = np.meshgrid(np.linspace(south, north, 30), np.linspace(west, east, 30))
        km = offshore_km(lat.ravel(), lon.ravel())
        return float(km.min()) / 1.852, float(km.max()) / 1.852

    assert all(nm(box)[0] > 100 for box in OFFSHORE)
    assert all(nm(box)[0] > 3 and nm(box)[1] < 18 for box in COAST)


def test_the_name_of_gear_has_its_battery_and_marks_it_as_simulated(tmp_path: Path) -> None:
    truth = written(tmp_path / "day.csv", hours=4)
    with (tmp_path / "day.csv").open(newline="") as file:
        heard = {(int(row["MMSI"]), row["VesselName"]) for row in csv.DictReader(file)}
    for scene in (*truth.of("gear"), *truth.of("gear_collision")):
        names = {name for mmsi, name in heard if mmsi in scene.mmsis}
        assert len(names) > 2, "the battery goes down"
        assert all(len(name) <= 20 for name in names), "as long as AIS allows"
        read = {gear and gear.identity for gear in map(gear_name, names)}
        assert read == {scene.identity}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"vessels": 19}, "vessels is 19: must be at least 20"),
        ({"hours": 0}, "hours is 0: must be a number above 0"),
        ({"hours": float("nan")}, "hours is nan: must be a number above 0"),
    ],
)
def test_numbers_out_of_bounds_are_errors(tmp_path: Path, options: dict[str, float], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        written(tmp_path / "day.csv", **options)


def test_a_start_without_time_zone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="time zone"):
        write_day(tmp_path / "day.csv", start=START.replace(tzinfo=None))
