"""Instants as Airflow gives them, and as the domain keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pendulum
import pytest

from airflow_detection.domain.specs import Cycle, Window, require_utc

AT = datetime(2020, 1, 1, 23, 30, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "instant",
    [
        pendulum.instance(AT),
        pendulum.instance(AT, tz="America/New_York").in_timezone("Asia/Kathmandu"),
        AT.astimezone(timezone(timedelta(hours=-11))),
    ],
)
def test_any_aware_instant_gives_a_window_in_plain_utc(instant: datetime) -> None:
    window = Cycle(cycle_id="c", started_at=instant, lookback=timedelta(hours=1)).window
    assert (window.start, window.end) == (AT - timedelta(hours=1), AT)
    assert type(window.start) is datetime
    assert window.start.tzinfo is UTC


def test_a_naive_instant_and_an_empty_window_are_refused() -> None:
    with pytest.raises(ValueError, match="observed_at has no time zone"):
        require_utc("observed_at", AT.replace(tzinfo=None))
    with pytest.raises(ValueError, match="window is empty"):
        Window(AT, AT)
