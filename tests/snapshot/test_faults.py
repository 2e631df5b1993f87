"""Faults planted into the reference models and the feed, and traffic without a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.snapshot.noaa_day import (
    DAY,
    MMSI,
    STARTS,
    STEP,
    TIME,
    Day,
    Rows,
    cycle_at,
    inputs_of,
    judged,
    models,
    run_cycle,
    window,
)
from tests.snapshot.planted_faults import FEED_FAULTS, MODEL_FAULTS, feed_fault

from airflow_detection.domain.specs import Role
from airflow_detection.engine.model import ModelContext
from airflow_detection.snapshot.verdicts.judge import judge_all
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind

LIMIT = 3
"""Cycles within which a fault must have a verdict."""

DEGRADED = {"ingest stopped", *(f"{share} of the {what} lost" for share in ("half", "a third")
                                for what in ("rows", "ships"))}  # fmt: skip
some = [pytest.param(s, marks=pytest.mark.long) if s != STARTS[0] else s for s in STARTS]


@pytest.fixture(scope="module")
def day() -> Day:
    return Day()


def bad(judged_runs: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in judged_runs if verdict.kind.is_bad]


@pytest.mark.parametrize("start", some)
@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_broken_model_is_found_within_three_cycles(day: Day, fault: str, start: int) -> None:
    verdicts = bad(day.scene(start, LIMIT, detectors=MODEL_FAULTS[fault]()))
    assert verdicts, "missed"
    name = "track_quality" if fault.endswith("track_quality") else "spoofing"
    assert {(v.model_id, v.kind) for v in verdicts} == {(name, VerdictKind.SILENT_FAULT)}
    assert all(v.reasons for v in verdicts)


@pytest.mark.parametrize("start", some)
@pytest.mark.parametrize("fault", FEED_FAULTS)
def test_a_broken_feed_is_found_within_three_cycles(day: Day, fault: str, start: int) -> None:
    """Only what arrives from then on is faulty: a twelfth of the window in the first cycle."""
    verdicts = bad(day.scene(start, LIMIT, feed=feed_fault(fault, start)))
    assert verdicts, "missed"
    kind = VerdictKind.INPUT_DEGRADED if fault in DEGRADED else VerdictKind.SILENT_FAULT
    assert kind in {v.kind for v in verdicts}


@pytest.mark.parametrize("start", some)
def test_a_feed_that_stopped_stays_bad_until_the_window_is_empty_and_after(day: Day, start: int) -> None:
    verdicts = day.scene(start, 15, feed=feed_fault("ingest stopped", start))
    assert all(any("no row since" in r for r in v.reasons) for v in bad(verdicts)[4:])
    assert len(bad(verdicts)) >= 28
    assert (verdicts[-1].kind, verdicts[-1].numbers["input_count"]) == (VerdictKind.INPUT_DEGRADED, 0)


@pytest.mark.parametrize("start", some)
def test_half_a_feed_stays_bad(day: Day, start: int) -> None:
    verdicts = day.scene(start, 16, feed=feed_fault("half of the rows lost", start))
    assert all(v.kind.is_bad for v in verdicts[2 * LIMIT :])


@pytest.mark.parametrize("start", some)
def test_a_window_without_ships_is_no_alarm(day: Day, start: int) -> None:
    verdicts = day.scene(start, LIMIT, feed=lambda rows, _: rows[:0])
    assert {v.kind for v in verdicts} == {VerdictKind.NO_INPUT}
    assert not bad(verdicts)


@pytest.mark.parametrize("start", some)
def test_traffic_without_a_finding_is_no_alarm(day: Day, start: int) -> None:
    """The ships of the whole day without a finding; the others leave from one cycle to the next."""
    flagged: set[float] = set()
    for number in range(start, start + LIMIT):
        ctx = ModelContext(cycle=cycle_at(number), params={"v_max_kn": 50},
                           inputs=inputs_of(window(day.rows, number)))  # fmt: skip
        outputs = models()["spoofing"].run(ctx).outputs_per_input
        flagged |= {output["mmsi"] for _, output in outputs if (output["score"] or 0) > 0}
    quiet = day.scene(start, LIMIT, feed=lambda rows, _: rows[~np.isin(rows[:, MMSI], list(flagged))])
    assert not bad(quiet)
    assert {v.numbers["gt0"] for v in quiet} == {0}


def test_a_clean_morning_raises_no_alarm(day: Day) -> None:
    assert not bad(judged(day.clean(STARTS[0] + LIMIT)))


@pytest.mark.long
def test_the_clean_day_raises_no_alarm(day: Day) -> None:
    verdicts = judged(day.clean(289))
    assert len(verdicts) == 288 * 2
    assert not bad(verdicts)


def thinned(rows: Rows, number: int, *, by_ship: bool, dusk: int, hours: float) -> Rows:
    """From the cycle `dusk` on traffic declines to a third, in `hours`; ships leave, or all report less."""
    began = (DAY + dusk * STEP).timestamp()
    share = 1 - 2 / 3 * np.clip((rows[:, TIME] - began) / (hours * 3600), 0, 1)
    key = rows[:, MMSI] if by_ship else rows[:, MMSI] * 7919 + rows[:, TIME]
    return rows[(key * 0.6180339887) % 1 < share]


@pytest.mark.long
@pytest.mark.parametrize("by_ship", [True, False])
@pytest.mark.parametrize("hours", [2, 3, 5])
def test_a_night_with_a_third_of_the_traffic_is_no_alarm(day: Day, hours: float, *, by_ship: bool) -> None:
    verdicts = day.scene(
        133, 110, feed=lambda rows, n: thinned(rows, n, by_ship=by_ship, dusk=133, hours=hours)
    )
    assert verdicts[-1].numbers["input_count"] < 0.4 * 8300
    assert not bad(verdicts)


def test_a_version_promoted_takes_its_history_along_and_a_new_one_warms_up(day: Day) -> None:
    runs = [r for of_cycle in day.clean(STARTS[0]) for r in of_cycle if r.model_id == "spoofing"]
    promoted = [replace(r, role=Role.SHADOW) for r in runs[:-3]] + runs[-3:]
    new = [replace(r, version_id=9, version="2.0") for r in runs[-3:]]
    assert [v.kind for v in judge_all(promoted)][-3:] == [VerdictKind.OK] * 3
    assert {v.kind for v in judge_all(new)} == {VerdictKind.WARMING_UP}


def test_a_row_of_runs_is_what_the_day_gives(day: Day) -> None:
    """The harness itself: the same rows give the same manifests."""
    first = run_cycle(20, window(day.rows, 20), MODEL_FAULTS["zero-filled scores"]())
    second = run_cycle(20, window(day.rows, 20), MODEL_FAULTS["zero-filled scores"]())
    assert [r.output_digest for r in first] == [r.output_digest for r in second]
