"""`airflow detection events`: list, acknowledge and close, in the real Airflow CLI and through the hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.cli.test_promotions import ME, fleet, rows
from tests.operators.airflow_runs import airflow_uri

from airflow_detection.errors import EventError
from airflow_detection.hooks.detection import DetectionHook

if TYPE_CHECKING:
    from tests.cli.commands import Cli

__all__ = ["fleet"]


def test_an_event_is_acknowledged_and_closed_by_its_number(
    cli: Cli, fleet: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, again, without, closed, listed, everything, gone, nothing = cli(
        ["events", "acknowledge", "1", "--reason", "on it", "--actor", "ana"],
        ["events", "acknowledge", "1"],
        ["events", "close", "1"],
        ["events", "close", "1", "--reason", "boarded"],
        ["events", "list", "--output", "json"],
        ["events", "--all", "--model", "spoofing", "--output", "json"],
        ["events", "close", "1", "--reason", "x"],
        ["events", "close"],
    )
    assert seen.out == "event 1 is acknowledged\n"
    assert again.out == "event 1 was acknowledged before\n"
    assert (without.code, without.err) == (1, "event 1 is closed with a reason: write --reason\n")
    assert closed.out == "event 1 is closed\n"
    assert rows(listed.out) == []
    (event,) = rows(everything.out)
    assert (event["status"], event["acknowledged_by"], event["entity_id"]) == ("CLOSED", "ana", "x")
    assert event["closed_by"] in (ME, "postgres")
    assert (gone.code, "only an open one can be closed" in gone.err) == (1, True)
    assert (nothing.code, "no event is named" in nothing.err) == (1, True)
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    for answer in (DetectionHook().acknowledge_event, DetectionHook().close_event):
        with pytest.raises(EventError):
            answer(1, reason="x")
