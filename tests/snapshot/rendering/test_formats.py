"""Tones of verdicts: the renderings name the verdicts, which they may not import."""

from __future__ import annotations

import pytest

from airflow_detection.snapshot.rendering.formats import BAD_VERDICTS, GOOD_VERDICTS, tone
from airflow_detection.snapshot.verdicts.kinds import VerdictKind


def test_bad_and_good_verdicts_are_those_of_the_kinds() -> None:
    assert {kind.value for kind in VerdictKind if kind.is_bad} == BAD_VERDICTS
    good = {kind.value for kind in VerdictKind if kind.is_healthy and kind is not VerdictKind.WARMING_UP}
    assert good == GOOD_VERDICTS


@pytest.mark.parametrize("kind", VerdictKind)
def test_each_kind_has_the_tone_of_its_gravity(kind: VerdictKind) -> None:
    attention = {VerdictKind.NO_INPUT, VerdictKind.NO_SIGNAL_UNUSUAL, VerdictKind.WARMING_UP}
    assert tone(kind.value) == ("bad" if kind.is_bad else "attention" if kind in attention else "ok")
