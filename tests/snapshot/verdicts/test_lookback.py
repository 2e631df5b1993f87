"""A model that looks back for hours finds little in the first of them: that is no measure of the usual."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.snapshot.manifests import FIRST, STEP, Conn, Sea

from airflow_detection.domain.specs import Mode
from airflow_detection.snapshot.verdicts.kinds import VerdictKind

BACK = timedelta(hours=4)
CYCLES = round(BACK / STEP)


@pytest.fixture
def sea(database: Conn) -> Sea:
    return Sea(database)


def run(sea: Sea, numbers: range, first: int = 0) -> None:
    """`tracks@1` reads four hours back and finds nothing until it has them; the others read their window."""
    for number in numbers:
        opened = sea.open(number)
        for version in opened.steps:
            looks_back = version.label == "tracks@1"
            sea.run(
                opened, version, number,
                flagged=0 if looks_back and number - first < CYCLES else 10,
                reads_since=opened.cycle.started_at - BACK if looks_back else None,
            )  # fmt: skip
        sea.close(opened)


def of(sea: Sea, model_id: str, first: int, end: int) -> list[VerdictKind]:
    return [v.kind for v in sea.verdicts(first, end) if (v.model_id, v.version) == (model_id, "1")]


def test_what_looks_back_is_compared_once_that_past_was_there(sea: Sea) -> None:
    run(sea, range(CYCLES + 40))
    warm, ok = VerdictKind.WARMING_UP, VerdictKind.OK
    assert of(sea, "tracks", 0, CYCLES + 40) == [warm] * (CYCLES + 36) + [ok] * 4
    assert of(sea, "spoofing", 0, CYCLES + 40) == [warm] * (CYCLES + 36) + [ok] * 4
    shadow = [v.kind for v in sea.verdicts(0, CYCLES) if v.version == "2"]
    assert shadow == [warm] * 36 + [ok] * (CYCLES - 36)
    reasons = sea.verdicts(CYCLES - 1, CYCLES)[1].reasons
    assert reasons == (f"it reads from {FIRST - STEP:%Y-%m-%d %H:%M} on; inputs came later",)


def test_a_gap_in_the_inputs_takes_the_past_away(sea: Sea) -> None:
    run(sea, range(CYCLES + 40))
    later = CYCLES + 40 + 14  # over an hour without a cycle: longer than a window and a step
    run(sea, range(later, later + 2), first=later)
    assert of(sea, "tracks", later, later + 2) == [VerdictKind.WARMING_UP] * 2
    soon = later + 2 + 12
    run(sea, range(soon, soon + CYCLES), first=later)
    found = of(sea, "tracks", soon, soon + CYCLES)
    since = later + CYCLES - soon
    assert found == [VerdictKind.WARMING_UP] * since + [VerdictKind.OK] * (CYCLES - since)


def test_replays_give_no_past(sea: Sea) -> None:
    run(sea, range(CYCLES, CYCLES + 1), first=CYCLES)
    for number in range(CYCLES):
        replay = sea.open(number, Mode.OVERRIDE, replay=["tracks@2"])
        sea.run(replay, replay.steps[0], number)
    assert of(sea, "tracks", CYCLES, CYCLES + 1) == [VerdictKind.WARMING_UP]
    assert "inputs came later" in sea.verdicts(CYCLES, CYCLES + 1)[1].reasons[0]
