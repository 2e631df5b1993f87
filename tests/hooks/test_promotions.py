"""Promotions and listings through the hook, as a task has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests import sample_registry
from tests.operators.test_operators import airflow_uri
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import inline, planning
from airflow_detection.domain.specs import Execution, Mode
from airflow_detection.hooks.detection import DetectionHook
from airflow_detection.store import promotions
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.promotions import State

if TYPE_CHECKING:
    import pytest


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
    assert [e["entity_id"] for e in hook.events(model_id="spoofing")] == ["x"]

    asked = promotions.ask(db, "tracks@2")
    assert [p.promotion_id for p in hook.promotions(is_under_way=True)] == [asked.promotion_id]
    promotions.record(db, asked.promotion_id, State.JUDGED, evidence={})
    promotions.put_in_force(db, asked.promotion_id)
    back = hook.rollback("tracks", actor="ana", reason="silent")
    assert back is not None
    assert (back.state, back.states[-1].actor) == (State.ROLLED_BACK, "ana")
    assert hook.rollback("tracks", reason="silent") is None
