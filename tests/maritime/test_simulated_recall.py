"""Each model on simulated days with known truth: all planted anomalies are found, and no others.

The cycles are those at each full hour, and those around the ends of scenes. There is no database: the
hours before, which a model would read from it, are among its inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest
from tests.maritime.conftest import COLUMNS, Row, cycle_at

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.maritime.ais.file import Layout, numbered_lines, open_text
from airflow_detection.maritime.models.ais_gap import AisGap
from airflow_detection.maritime.models.encounter import Encounter
from airflow_detection.maritime.models.gear_identity_collision import GearIdentityCollision
from airflow_detection.maritime.models.identity_collision import IdentityCollision
from airflow_detection.maritime.models.loitering import Loitering
from airflow_detection.maritime.models.risk_score import RiskScore
from airflow_detection.maritime.models.spoofing import Spoofing
from airflow_detection.maritime.models.track_quality import TrackQuality
from airflow_detection.maritime.simulation.day import Scene, SimulatedTruth, write_day

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_detection.engine.model import BaseDetectionModel, Upstream

START = datetime(2026, 3, 1, tzinfo=UTC)
HOURS, VESSELS = 20, 60
HOUR = timedelta(hours=1)
NAMED = (*COLUMNS, "vessel_name", "vessel_type")


@dataclass(frozen=True, slots=True)
class Day:
    """A simulated day: its rows in order of time, and the planted anomalies."""

    truth: SimulatedTruth
    rows: list[tuple[Any, ...]]

    def inputs(self, end: datetime, hours: float) -> Inputs:
        first, last = (end - hours * HOUR).timestamp(), end.timestamp()
        rows = [row for row in self.rows if first <= row[1] < last]
        return Inputs(dict(zip(NAMED, zip(*rows, strict=True), strict=True)))

    def run(
        self, model: BaseDetectionModel, end: datetime, *, hours: float = 1, **shared: Upstream
    ) -> dict[str, Row]:
        """One cycle: the model sees the rows of `hours` before `end`; its outputs by entity."""
        ctx = ModelContext(
            cycle=cycle_at(end), params=model.params, inputs=self.inputs(end, hours), shared=shared
        )
        return {output["entity_id"]: dict(output) for _, output in model.run(ctx).outputs_per_input}

    def cycles(self, *kinds: str) -> Iterator[datetime]:
        """Every full hour; and for scenes of these kinds, shortly after each end and just before the last."""
        yield from (START + hour * HOUR for hour in range(1, HOURS + 1))
        for scene in self.scenes(*kinds):
            yield from (minutes_after(scene.ended_at, -5), minutes_after(scene.ended_at, 10))

    def scenes(self, *kinds: str) -> list[Scene]:
        return [scene for kind in kinds for scene in self.truth.of(kind)]


def minutes_after(instant: datetime, minutes: float) -> datetime:
    """The five-minute cycle at or after some minutes after an instant."""
    past = instant + timedelta(minutes=minutes) - START
    return START + timedelta(minutes=5) * -(-past // timedelta(minutes=5))


def overlaps(scene: Scene, end: datetime) -> bool:
    """Tell whether a scene goes on in the window that ends at `end`; three minutes more, for its fixes."""
    return scene.started_at < end and scene.ended_at + timedelta(minutes=4) > end - HOUR


def lasting(end: datetime) -> tuple[str, ...]:
    """Return the severities of a collision that began with the day: its third hour may be seen in part."""
    if end <= START + 2 * HOUR:
        return ("HIGH",)
    return ("CRITICAL",) if end >= START + 3 * HOUR else ("HIGH", "CRITICAL")


@lru_cache(maxsize=1)
def written(folder: Path, seed: int) -> Day:
    path = folder / f"{seed}.csv"
    truth = write_day(path, start=START, hours=HOURS, seed=seed, vessels=VESSELS)
    with open_text(path) as text:
        lines = numbered_lines(text)
        layout = Layout.of_header(next(lines)[1], path)
        positions = [layout.position(line) for _, line in lines]
    rows = [
        (p.mmsi, p.observed_at.timestamp(), p.lat, p.lon, p.sog_kn, p.cog_deg, p.heading_deg,
         p.vessel_name, p.vessel_type)
        for p in positions
    ]  # fmt: skip
    return Day(truth, rows)


SEEDS = [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 20))]


@pytest.fixture(params=SEEDS, scope="module")
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    """A simulated day with every kind of anomaly in it."""
    return written(tmp_path_factory.getbasetemp(), request.param)


def test_track_quality_finds_missing_positions_and_identities(day: Day) -> None:
    for end in day.cycles():
        for output in day.run(TrackQuality("track_quality"), end).values():
            is_frozen = output["mmsi"] in day.truth.frozen
            is_bad = is_frozen or output["mmsi"] in day.truth.partly_unavailable
            assert (output["score"] > 0.2) is is_bad
            assert (output["score"] == 0) is not is_bad
            assert (output["score"] > 0.5) is is_frozen
            assert (output["evidence"]["frozen_s"] is not None) is is_frozen
            assert output["is_identity_valid"] is (output["mmsi"] not in day.truth.impossible_identities)


BY_TYPE = {"cargo": 30, "tanker": 25, "fishing": 25}


@pytest.mark.parametrize(
    ("params", "has_low_limit"),
    [
        ({"v_max_kn": 50}, False),
        ({"v_max_kn": 30}, True),
        ({"v_max_kn": 50, "v_max_by_type": BY_TYPE}, True),
    ],
    ids=["50 kn", "30 kn", "by type"],
)
def test_spoofing_finds_every_track_that_cannot_be_sailed(
    day: Day, params: dict[str, Any], *, has_low_limit: bool
) -> None:
    model = Spoofing("spoofing", params=params)
    too_fast = set(day.truth.too_fast) if has_low_limit else set()
    jumps = {(jump.mmsi, jump.started_at) for jump in day.truth.jumps}
    cloned, detected = day.truth.of("clone_once"), set()
    for end in day.cycles("clone_once"):
        outputs = {output["mmsi"]: output for output in day.run(model, end).values()}
        assert all(outputs[mmsi]["score"] > 0.7 for mmsi in {*day.truth.twins, *too_fast})
        high = {mmsi for mmsi, output in outputs.items() if (output["score"] or 0) > 0.3}
        now = {(mmsi, at) for mmsi, at in jumps if end - HOUR <= at < end}
        now |= {(scene.mmsis[0], scene.started_at) for scene in cloned if overlaps(scene, end)}
        expected = {mmsi for mmsi, _ in now} | set(day.truth.twins) | too_fast
        assert high <= expected
        detected |= {one for one in now if one[0] in high}
        for mmsi in set(outputs) - expected - set(day.truth.impossible_identities):
            assert (outputs[mmsi]["score"] or 0) < 0.05, outputs[mmsi]
        for mmsi in day.truth.impossible_identities:
            assert outputs[mmsi]["score"] == pytest.approx(0.25, abs=0.02)
    assert detected == jumps | {(scene.mmsis[0], scene.started_at) for scene in cloned}


@pytest.mark.parametrize(
    "params",
    [{"separation_km": 20}, {"separation_km": 50}, {"separation_km": 20, "bins": "clock_hour"}],
    ids=["20 km", "50 km", "clock hours"],
)
def test_identity_collision_finds_every_clone_and_how_long_it_lasts(day: Day, params: dict[str, Any]) -> None:
    model = IdentityCollision("identity_collision", params=params)
    cloned = set(day.truth.of("clone_once"))
    for end in day.cycles("clone_once"):
        outputs = {output["mmsi"]: output for output in day.run(model, end, hours=7).values()}
        high = {mmsi for mmsi, output in outputs.items() if output["score"]}
        for mmsi in day.truth.twins:
            assert outputs[mmsi]["severity"] in lasting(end)
        once = {scene.mmsis[0]: scene for scene in day.truth.of("clone_once") if overlaps(scene, end)}
        assert high <= {*day.truth.twins, *once}
        assert all(outputs[mmsi]["severity"] == "HIGH" for mmsi in high & set(once))
        cloned -= {scene for mmsi, scene in once.items() if mmsi in high}
    assert not cloned


def test_gear_identity_collision_finds_the_gear_that_is_two(day: Day) -> None:
    model = GearIdentityCollision("gear_identity_collision")
    pairs = {scene.identity: scene for scene in day.truth.of("gear_collision")}
    single = {scene.identity for scene in day.truth.of("gear")}
    assert pairs
    assert single
    for end in day.cycles():
        outputs = day.run(model, end, hours=7)
        assert set(outputs) == {*pairs, *single}
        for identity, output in outputs.items():
            if identity in pairs:
                assert output["severity"] in lasting(end)
                assert output["evidence"]["mmsis"] == sorted(pairs[identity].mmsis)
                assert 10 < output["evidence"]["separation_km"] < 13
            else:
                assert output["score"] == 0


def test_ais_gap_finds_every_silence_while_it_lasts_and_when_it_ends(day: Day) -> None:
    model = AisGap("ais_gap", params={"satellite_min_h": 12})
    gaps = {scene.mmsis[0]: scene for scene in day.scenes("satellite_gap", "terrestrial_gap")}
    assert len(gaps) == 2
    detected: set[tuple[int, bool]] = set()
    for end in day.cycles("satellite_gap", "terrestrial_gap"):
        for output in day.run(model, end, hours=HOURS).values():
            if output["score"]:
                scene = gaps[output["mmsi"]]
                assert overlaps(scene, end)
                detected.add((output["mmsi"], end < scene.ended_at))
    assert detected == {(mmsi, is_open) for mmsi in gaps for is_open in (True, False)}


def test_encounter_finds_who_lies_side_by_side(day: Day) -> None:
    model = Encounter("encounter", params={"within_m": 500, "min_duration_h": 2})
    [scene] = day.truth.of("encounter")
    detected = set()
    for end in day.cycles("encounter"):
        outputs = day.run(model, end, hours=12).values()
        met = {output["mmsi"] for output in outputs if output["score"]}
        assert met in (set(), set(scene.mmsis))
        assert not met or overlaps(scene, end)
        detected |= {end < scene.ended_at} if met else set()
    assert detected == {True, False}, "while it lasts, and in the hour in which it ended"


def test_loitering_finds_who_stays_offshore_for_hours(day: Day) -> None:
    model = Loitering("loitering", params={"min_duration_h": 4})
    [scene] = day.truth.of("loitering")
    detected = set()
    for end in day.cycles("loitering"):
        for output in day.run(model, end, hours=12).values():
            if output["score"]:
                assert (output["mmsi"],) == scene.mmsis
                assert overlaps(scene, end)
                detected.add(end < scene.ended_at)
    assert detected == {True, False}, "while it lasts, and in the hour in which it ended"


class StoredScores:
    """A champion's outputs, as its dependents see them."""

    def __init__(self, outputs: dict[str, Row]) -> None:
        self.outputs = outputs

    def __len__(self) -> int:
        return len(self.outputs)

    def __iter__(self) -> Iterator[tuple[Row, Row]]:
        return iter([({}, output) for output in self.outputs.values()])

    def columns(self) -> tuple[list[str | None], list[float | None]]:
        return list(self.outputs), [output["score"] for output in self.outputs.values()]


def test_risk_score_is_high_for_those_who_are_found_and_for_nobody_else(day: Day) -> None:
    truth, seen = day.truth, set()
    planted = {*truth.twins, *truth.jumpers, *truth.impossible_identities}
    planted |= {mmsi for scene in truth.scenes if scene.kind != "gear" for mmsi in scene.mmsis}
    expected = {*truth.twins, *truth.jumpers}
    scenes = ("satellite_gap", "terrestrial_gap", "encounter", "loitering")
    expected |= {mmsi for scene in day.scenes("gear_collision", *scenes) for mmsi in scene.mmsis}
    for end in day.cycles(*scenes):
        upstreams: dict[str, Any] = {
            "spoofing": StoredScores(day.run(Spoofing("spoofing"), end)),
            "ais_gap": StoredScores(day.run(AisGap("ais_gap"), end, hours=HOURS)),
            "identity_collision": StoredScores(
                day.run(IdentityCollision("identity_collision"), end, hours=7)
            ),
            "gear_identity_collision": StoredScores(day.run(GearIdentityCollision("gear"), end, hours=7)),
            "encounter": StoredScores(day.run(Encounter("encounter"), end, hours=12)),
            "loitering": StoredScores(day.run(Loitering("loitering"), end, hours=12)),
        }
        for output in day.run(RiskScore("risk_score"), end, **upstreams).values():
            risk = output["score"] or 0
            seen |= {output["mmsi"]} if risk > 0.05 else set()
            assert risk < 0.02 or output["mmsi"] in planted
            assert risk > 0.5 or output["mmsi"] not in truth.twins
    assert expected <= seen
