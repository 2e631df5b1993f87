"""The gap model: who fell silent, for how long, and who cannot be judged."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.maritime.conftest import COLUMNS, END, SHIP, Row, cycle_at, fix, outputs_of
from tests.maritime.stored import Upstream, cycles, put, replayed, run_at

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import ModelContext
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.models.ais_gap import AisGap
from airflow_detection.store.connection import Connection

OCEAN, HARBOUR = (0.0, -25.0), (40.65, -74.05)
HOUR = 3600.0


def model(**params: Any) -> AisGap:
    return AisGap("ais_gap", "1.0", params)


def heard(
    last_s: float, n: int, every_s: float = 600.0, place: tuple[float, float] = OCEAN, mmsi: int = SHIP
) -> list[Row]:
    """`n` fixes, the last one `last_s` before the window's end."""
    return [fix(HOUR - last_s - every_s * i, *place, mmsi=mmsi) for i in range(n)]


def judged(rows: list[Row], **params: Any) -> Row:
    return outputs_of(model(**params), rows)[str(SHIP)]


@pytest.mark.parametrize(
    ("silent_h", "n", "score"),
    [(12, 14, 0.5), (24, 20, 0.75), (36, 20, 0.875), (11.9, 20, 0.0), (12, 13, None), (0.2, 20, 0.0)],
)
def test_the_satellite_rule(silent_h: float, n: int, score: float | None) -> None:
    output = judged(heard(silent_h * HOUR, n))
    assert output["score"] == (None if score is None else pytest.approx(score))
    if silent_h >= 12:
        assert output["evidence"]["rule"] == "satellite"
        assert output["evidence"]["offshore_nm"] > 400
        assert output["evidence"]["is_open"]
        assert output["evidence"]["ended_at"] is None
        assert output["evidence"]["duration_s"] == silent_h * HOUR


@pytest.mark.parametrize(
    ("silent_h", "every_s", "n", "score"),
    [
        (3, 60, 20, 0.3),  # the least length applies
        (2.9, 60, 20, 0.0),
        (5, 900, 20, 0.3),  # twenty intervals do
        (4.9, 900, 20, 0.0),
        (10, 900, 20, 0.45),
        (10, 900, 5, None),
    ],
)
def test_the_terrestrial_rule(silent_h: float, every_s: float, n: int, score: float | None) -> None:
    output = judged(heard(silent_h * HOUR, n, every_s, HARBOUR))
    assert output["score"] == (None if score is None else pytest.approx(score))
    if silent_h >= 3:
        assert output["evidence"]["rule"] == "terrestrial"
        assert output["evidence"]["median_interval_s"] == every_s


def test_only_fixes_of_the_twelve_hours_before_a_gap_count() -> None:
    rows = heard(13 * HOUR, 1) + heard(25.5 * HOUR, 30)
    assert judged(rows)["score"] is None, "one fix in the twelve hours before"


def test_a_gap_that_ended_in_the_window_is_closed_and_one_that_ended_before_is_none() -> None:
    rows = heard(15 * HOUR, 20) + heard(0, 4)
    output = judged(rows)
    assert output["score"] == pytest.approx(1 - 2 ** (-14.5 / 12))
    evidence = output["evidence"]
    assert not evidence["is_open"]
    assert datetime.fromisoformat(evidence["started_at"]) == END - timedelta(hours=15)
    assert datetime.fromisoformat(evidence["ended_at"]) == END - timedelta(minutes=30)
    assert judged(heard(15 * HOUR, 20) + heard(0, 8))["score"] == 0, "it ended 70 minutes ago"


def test_the_clearest_of_two_gaps_is_reported() -> None:
    # silent for 12.5 h up to the window's first minute, then for 0.9 h: only params make the second a gap
    rows = heard(0.9 * HOUR, 1) + heard(13.4 * HOUR, 20)
    assert judged(rows)["evidence"]["duration_s"] == 12.5 * HOUR


def test_single_fixes_and_positions_that_cannot_be_used_are_null() -> None:
    for rows in (
        [fix(0, *OCEAN)],
        [fix(0, *OCEAN), fix(0, *OCEAN)],
        [fix(0, 91, 181), fix(60, 91, 181)],
        [fix(0, None, None)],
        [dict.fromkeys(COLUMNS[1:]) | {"mmsi": SHIP}] * 2,
    ):
        output = outputs_of(model(), rows)[str(SHIP)]
        assert (output["score"], output["severity"]) == (None, None)
    assert outputs_of(model(), [dict.fromkeys(COLUMNS)]) == {}
    assert outputs_of(model(), Inputs()) == {}
    assert judged([fix(0, *OCEAN), fix(60, *OCEAN)])["score"] == 0


def test_a_ship_that_transmits_without_positions_is_not_silent(database: Connection) -> None:
    put(database, heard(13 * HOUR, 20))
    assert run_at(database, END, model())[str(SHIP)]["score"] > 0.5
    assert run_at(database, END, model(), track_quality=Upstream({SHIP: 0.95}))[str(SHIP)]["score"] is None
    assert run_at(database, END, model(), track_quality=Upstream({SHIP: 0.9}))[str(SHIP)]["score"] > 0.5
    put(database, [fix(60, 91, 181)])
    assert run_at(database, END, model())[str(SHIP)]["score"] is None


def test_neither_order_nor_repetition_changes_anything() -> None:
    rows = [row for k in range(6) for row in heard(k * 2.5 * HOUR, 5 * k, mmsi=SHIP + k)]
    expected = outputs_of(model(), rows)
    shuffled = rows * 2
    random.Random(3).shuffle(shuffled)
    assert outputs_of(model(), shuffled) == expected


@pytest.mark.parametrize("place", [(-17.0, 180.0), (-17.0, -180.0), (90.0, 0.0), (-90.0, 77.0)])
def test_the_date_line_and_the_poles_are_places_like_any_other(place: tuple[float, float]) -> None:
    output = judged(heard(20 * HOUR, 20, place=place))
    assert output["evidence"]["rule"] == ("satellite" if place[0] == 90.0 else "terrestrial")
    assert output["score"] > 0.5


def test_canaries_have_the_scores_that_they_expect() -> None:
    for params in (
        {},
        {"satellite_min_h": 6, "terrestrial_min_h": 2},
        {"satellite_min_h": 2, "terrestrial_min_h": 1, "terrestrial_intervals": 12},
    ):
        gap = model(**params)
        canaries = list(gap.canaries(cycle_at()))
        ship = heard(600, 3)
        quality = [o for c in canaries for _, o in c.upstream.get("track_quality", ())]
        outputs = outputs_of(
            gap,
            [*ship, *(row for canary in canaries for row in canary.rows)],
            track_quality=Upstream({o["entity_id"]: o["score"] for o in quality}),
        )
        for canary in canaries:
            expected = canary.expected if canary.expected is None else pytest.approx(canary.expected)
            assert outputs[canary.entity_id]["score"] == expected, canary.entity_id
        assert len(outputs) == 1 + len(canaries)
        result = gap.run(
            ModelContext(
                cycle=cycle_at(),
                params=gap.params,
                inputs=Inputs.of_rows([row for c in canaries for row in c.rows], COLUMNS),
            )
        )
        assert result.metrics["vessel_count"] == 0
        assert list(result.features["lat"]) == []


@pytest.mark.parametrize("name", ["satellite_min_h", "terrestrial_intervals", "history_h"])
@pytest.mark.parametrize("value", [0, -1, "12", None, True])
def test_a_param_that_is_not_a_number_above_0_is_terminal(name: str, value: Any) -> None:
    with pytest.raises(TerminalModelError, match=name):
        outputs_of(model(**{name: value}), [fix(0, *OCEAN)])


def test_a_history_shorter_than_the_gaps_is_terminal() -> None:
    with pytest.raises(TerminalModelError, match="history_h"):
        outputs_of(model(history_h=6), [fix(0, *OCEAN)])


def test_a_silent_ship_is_reported_in_every_cycle_until_it_is_heard_again(database: Connection) -> None:
    midnight = datetime(2020, 1, 2, tzinfo=UTC)
    start = midnight - timedelta(hours=8)  # heard up to 16:00, again at 05:30 of the next day

    def at(instant: datetime, mmsi: int = SHIP) -> Row:
        return {"mmsi": mmsi, "observed_s": instant.timestamp(), "lat": OCEAN[0], "lon": OCEAN[1]}

    back = start + timedelta(hours=13, minutes=30)
    rows = [at(start - timedelta(minutes=10 * i)) for i in range(20)]
    rows += [at(back + timedelta(minutes=10 * i)) for i in range(20)]
    put(database, rows)
    ends = cycles(start + timedelta(hours=11, minutes=30), 50)
    seen = {end: outputs.get(str(SHIP)) for end, outputs in replayed(database, ends, model()).items()}
    for end, output in seen.items():
        if end < start + timedelta(hours=12):
            assert output is None, "silent, but not for so long that it is reported"
        elif end <= back:
            assert output is not None
            assert output["evidence"]["is_open"]
            assert output["n_pos"] == 0
        elif end <= back + timedelta(hours=1):
            assert output is not None
            assert not output["evidence"]["is_open"]
            assert output["evidence"]["ended_at"] == back.isoformat()
        else:
            assert output is not None
            assert output["score"] == 0
            continue
        if output is not None:
            assert output["score"] >= 0.5
            assert output["evidence"]["started_at"] == start.isoformat(), "one gap, one start"
            assert output["evidence"]["fixes_before"] == 20


def test_what_arrived_after_the_cycle_was_opened_is_not_seen(database: Connection) -> None:
    early, late = datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 3, tzinfo=UTC)
    put(database, heard(13 * HOUR, 20), early)
    put(database, heard(5 * HOUR, 20, place=HARBOUR), late)
    before = run_at(database, END, model(), early)[str(SHIP)]
    assert before["evidence"]["duration_s"] == 13 * HOUR
    assert run_at(database, END, model(), late)[str(SHIP)]["evidence"]["duration_s"] == 5 * HOUR


def test_a_gap_longer_than_the_history_is_lost(database: Connection) -> None:
    put(database, heard(35 * HOUR, 20))
    put(database, heard(37 * HOUR, 20, mmsi=SHIP + 1))
    assert set(run_at(database, END, model())) == {str(SHIP)}
