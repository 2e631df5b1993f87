"""Properties of a cycle's inputs that a manifest records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_detection.domain.inputs import Inputs
from airflow_detection.errors import TerminalModelError
from airflow_detection.store.input_facts import with_profiles

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_the_same_rows_have_the_same_digest_and_others_another() -> None:
    rows = [{"id": 1, "at": NOON, "deep": {"a": 1}}, {"id": 2, "at": None, "deep": None}]
    first, second = (with_profiles(Inputs.of_rows(rows), None) for _ in range(2))
    other = with_profiles(Inputs.of_rows([rows[0], rows[1] | {"id": 3}]), None)
    renamed = (
        with_profiles(Inputs.of_rows([{"number": 1}]), None),
        with_profiles(Inputs.of_rows([{"id": 1}]), None),
    )
    assert first.digest == second.digest
    assert first.digest != other.digest
    assert renamed[0].digest != renamed[1].digest
    assert first.columns == Inputs.of_rows(rows).columns


@pytest.mark.parametrize(
    "times",
    [
        (NOON - timedelta(hours=1), None, NOON),
        (NOON.astimezone(timezone(timedelta(hours=5, minutes=45))), NOON - timedelta(1)),
        (NOON.timestamp(), 0.0, None),
        (int(NOON.timestamp()),),
    ],
)
def test_the_newest_time_is_found_in_instants_and_in_seconds(times: tuple[object, ...]) -> None:
    newest_at = with_profiles(Inputs({"at": times}), "at").newest_at
    assert newest_at == NOON
    assert newest_at is not None
    assert newest_at.tzinfo is UTC


def test_without_a_time_nothing_is_newest() -> None:
    assert with_profiles(Inputs({"at": (None, None)}), "at").newest_at is None
    assert with_profiles(Inputs({"at": ()}), "at").newest_at is None
    assert with_profiles(Inputs({"at": (1.0,)}), None).newest_at is None


@pytest.mark.parametrize(
    ("time_key", "column", "reason"),
    [
        ("on", (1.0,), "time_key 'on' is not a column of the input query"),
        (
            "at",
            ("soon",),
            "time_key 'at' holds 'soon': must be instants with a time zone or seconds since 1970",
        ),
        ("at", (datetime(2026, 3, 1, 12),), r"time_key 'at' holds datetime.*12, 0\): must be instants"),  # noqa: DTZ001 - on purpose
        ("at", (1e30,), r"time_key 'at' holds 1e\+30: must be instants"),
    ],
)
def test_what_is_no_time_is_named(time_key: str, column: tuple[object, ...], reason: str) -> None:
    with pytest.raises(TerminalModelError, match=reason):
        with_profiles(Inputs({"at": column}), time_key)
