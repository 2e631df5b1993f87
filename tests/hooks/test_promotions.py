"""Promotions and listings through the hook, as a task has them."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests import sample_registry
from tests.operators.airflow_runs import airflow_uri
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.specs import Execution, Mode
from airflow_detection.hooks.detection import DetectionHook
from airflow_detection.store import promotions, snapshots
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.promotions import State


def test_a_task_reads_results_and_rolls_back(
    database: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    sample_registry.register(database)
    sample_registry.put_cycle(database, execution=Execution.INLINE)
    db = Database(database, SCHEMA)
    planning.open_cycle(db, "fleet", AT, mode=Mode.AS_OF)
    inline.run_inline(db, SETTINGS, "fleet", AT, mode=Mode.AS_OF)
    hook = DetectionHook()
    assert {(r["model_id"], r["version"]) for r in hook.runs("fleet")} == {
        ("spoofing", "1"),
        ("tracks", "1"),
        ("tracks", "2"),
    }
    assert hook.runs("fleet", AT) == hook.runs("fleet")
    assert [o["entity_id"] for o in hook.outputs("tracks")] == ["a", "b"]
    assert [o["entity_id"] for o in hook.outputs("tracks", AT, version="2", limit=2)] == ["a", "b"]
    columns = hook.output_columns("tracks", AT, version="2")
    assert columns["entity_id"] == ["a", "b", "c"]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    assert rows == hook.outputs("tracks", AT, version="2")
    assert hook.output_columns("tracks", AT, entity_id="nobody") == {name: [] for name in columns}
    assert [e["entity_id"] for e in hook.events(model_id="spoofing")] == ["x"]

    asked = promotions.ask(db, "tracks@2")
    assert [p.promotion_id for p in hook.promotions(is_under_way=True)] == [asked.promotion_id]
    promotions.record(db, asked.promotion_id, State.JUDGED, evidence={})
    promotions.put_in_force(db, asked.promotion_id)
    back = hook.rollback("tracks", actor="ana", reason="silent")
    assert back is not None
    assert (back.state, back.states[-1].actor) == (State.ROLLED_BACK, "ana")
    assert hook.rollback("tracks", reason="silent") is None


def test_the_stored_report_of_an_hour_and_the_latest(
    database: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DETECTION_DEFAULT", airflow_uri(dsn))
    hook = DetectionHook()
    assert hook.snapshot() is None
    for hour in (AT, AT + snapshots.HOUR):
        report = {"kind": "hourly", "taken_at": hour, "start": hour, "end": hour + snapshots.HOUR}
        stored = {name: v if isinstance(v, str) else v.isoformat() for name, v in report.items()}
        snapshots.save(Database(database, SCHEMA), stored | {"format_version": 1})
    first, latest = hook.snapshot(AT), hook.snapshot()
    assert first is not None
    assert latest is not None
    assert (first.start, latest.start) == (AT, AT + snapshots.HOUR)
    assert hook.snapshot(AT + timedelta(hours=9)) is None
    with pytest.raises(ValueError, match="start"):
        hook.snapshot(datetime(2026, 3, 1))  # noqa: DTZ001 - that is what is refused
