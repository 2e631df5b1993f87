"""A model that looks back for hours finds little in the first of them: they are no baseline."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.snapshot.manifests import FIRST, STEP, Conn, ManifestHistory

from airflow_detection.domain.specs import Mode
from airflow_detection.snapshot.verdicts.kinds import VerdictKind

BACK = timedelta(hours=4)
CYCLES = round(BACK / STEP)


@pytest.fixture
def history(database: Conn) -> ManifestHistory:
    return ManifestHistory(database)


def run(history: ManifestHistory, numbers: range, first: int = 0) -> None:
    """`tracks@1` reads four hours back and finds nothing until it has them; the others read their window."""
    for number in numbers:
        opened = history.open(number)
        for version in opened.steps:
            looks_back = version.label == "tracks@1"
            history.run(
                opened, version, number,
                flagged=0 if looks_back and number - first < CYCLES else 10,
                reads_since=opened.cycle.started_at - BACK if looks_back else None,
            )  # fmt: skip
        history.close(opened)


def kinds_of(history: ManifestHistory, model_id: str, first: int, end: int) -> list[VerdictKind]:
    return [v.kind for v in history.verdicts(first, end) if (v.model_id, v.version) == (model_id, "1")]


def test_what_looks_back_is_compared_once_that_past_was_there(history: ManifestHistory) -> None:
    run(history, range(CYCLES + 40))
    warm, ok = VerdictKind.WARMING_UP, VerdictKind.OK
    assert kinds_of(history, "tracks", 0, CYCLES + 40) == [warm] * (CYCLES + 36) + [ok] * 4
    assert kinds_of(history, "spoofing", 0, CYCLES + 40) == [warm] * (CYCLES + 36) + [ok] * 4
    shadow = [v.kind for v in history.verdicts(0, CYCLES) if v.version == "2"]
    assert shadow == [warm] * 36 + [ok] * (CYCLES - 36)
    reasons = history.verdicts(CYCLES - 1, CYCLES)[1].reasons
    assert reasons == (f"it reads from {FIRST - STEP:%Y-%m-%d %H:%M} on; inputs came later",)


def test_a_gap_in_the_inputs_takes_the_past_away(history: ManifestHistory) -> None:
    run(history, range(CYCLES + 40))
    later = CYCLES + 40 + 14  # over an hour without a cycle: longer than a window and a step
    run(history, range(later, later + 2), first=later)
    assert kinds_of(history, "tracks", later, later + 2) == [VerdictKind.WARMING_UP] * 2
    soon = later + 2 + 12
    run(history, range(soon, soon + CYCLES), first=later)
    judged = kinds_of(history, "tracks", soon, soon + CYCLES)
    since = later + CYCLES - soon
    assert judged == [VerdictKind.WARMING_UP] * since + [VerdictKind.OK] * (CYCLES - since)


def test_replays_give_no_past(history: ManifestHistory) -> None:
    run(history, range(CYCLES, CYCLES + 1), first=CYCLES)
    for number in range(CYCLES):
        replay = history.open(number, Mode.OVERRIDE, replay=["tracks@2"])
        history.run(replay, replay.steps[0], number)
    assert kinds_of(history, "tracks", CYCLES, CYCLES + 1) == [VerdictKind.WARMING_UP]
    assert "inputs came later" in history.verdicts(CYCLES, CYCLES + 1)[1].reasons[0]
