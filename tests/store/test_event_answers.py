"""What people say of an event stays with its sightings, whatever is run, or run again, after that."""

from __future__ import annotations

from typing import Any

import pytest
from tests.store.test_events import ModelStore, at, model_store

from airflow_detection.errors import EventError
from airflow_detection.store import events
from airflow_detection.store.database import Database
from airflow_detection.store.events import EventFilter

__all__ = ["model_store"]
HIGH = [("a", 0.9)]


def shown(store: ModelStore) -> list[tuple[Any, ...]]:
    """First and last sighting, status, and who said what, of each event that is not retracted."""
    rows = store.conn.execute(
        "select first_seen_at, last_seen_at, status::text, acknowledged_by, closed_by from"
        " detection.detection_events where status <> 'RETRACTED' order by first_seen_at"
    ).fetchall()
    start = at(0)
    return [((f - start) / (at(1) - start), (t - start) / (at(1) - start), *rest) for f, t, *rest in rows]


def only_event(store: ModelStore) -> int:
    row = store.conn.execute(
        "select event_id from detection.detection_events where status <> 'RETRACTED'"
    ).fetchone()
    assert row is not None
    return int(row[0])


def test_an_event_is_acknowledged_once(model_store: ModelStore) -> None:
    model_store.save(0, HIGH)
    db, event_id = Database(model_store.conn), only_event(model_store)
    assert events.acknowledge(db, event_id, actor="ana", reason="on it")
    assert not events.acknowledge(db, event_id, actor="ben")
    row = events.listed(db, ["spoofing"], EventFilter(), limit=9)[0]
    assert (row["acknowledged_by"], row["note"], row["status"]) == ("ana", "on it", "OPEN")
    assert row["acknowledged_at"].utcoffset() is not None


def test_an_acknowledgement_goes_on_with_the_event(model_store: ModelStore) -> None:
    model_store.save(0, HIGH)
    events.acknowledge(Database(model_store.conn), only_event(model_store), actor="ana")
    model_store.save(1, HIGH)
    assert shown(model_store) == [(0, 1, "OPEN", "ana", None)]


def test_a_closed_event_stays_closed_until_its_entity_is_seen_after_the_gap(model_store: ModelStore) -> None:
    model_store.save(0, HIGH)
    events.close(Database(model_store.conn), only_event(model_store), actor="ben", reason="boarded")
    model_store.save(1, HIGH)
    model_store.save(2, [])
    assert shown(model_store) == [(0, 1, "CLOSED", None, "ben")]
    for number in range(3, 7):
        model_store.save(number, [])
    model_store.save(7, HIGH)
    assert shown(model_store) == [(0, 1, "CLOSED", None, "ben"), (7, 7, "OPEN", None, None)]


def test_an_earlier_sighting_that_is_found_later_takes_the_answer_over(model_store: ModelStore) -> None:
    model_store.save(2, HIGH)
    db = Database(model_store.conn)
    events.acknowledge(db, only_event(model_store), actor="ana")
    events.close(db, only_event(model_store), actor="ben", reason="boarded")
    model_store.save(1, HIGH)  # as a backfill does
    assert shown(model_store) == [(1, 2, "CLOSED", "ana", "ben")]
    model_store.save(1, [])
    assert shown(model_store) == [(2, 2, "CLOSED", "ana", "ben")]


def test_two_events_that_become_one_keep_what_was_said_of_either(model_store: ModelStore) -> None:
    model_store.save(0, HIGH)
    events.acknowledge(Database(model_store.conn), only_event(model_store), actor="ana")
    model_store.save(4, HIGH)
    model_store.save(2, HIGH)
    assert shown(model_store) == [(0, 4, "OPEN", "ana", None)]


def test_only_an_open_event_can_be_answered(model_store: ModelStore) -> None:
    model_store.save(0, HIGH)
    db, event_id = Database(model_store.conn), only_event(model_store)
    events.close(db, event_id, actor="ben", reason="boarded")
    for answer in (events.acknowledge, events.close):
        with pytest.raises(EventError, match=f"event {event_id} is CLOSED by ben: only an open one can be"):
            answer(db, event_id, actor="ana", reason="")
        with pytest.raises(EventError, match="there is no event 4711"):
            answer(db, 4711, actor="ana", reason="")
