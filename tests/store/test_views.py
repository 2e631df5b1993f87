"""The views for people: labels in place of keys, readable as the reader, and the statements of the docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests import sample_registry
from tests.sample_registry import AT, SCHEMA, note_run

from airflow_detection.store.database import Database
from airflow_detection.store.grants import grant

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def test_views_have_labels_and_the_reader_may_read_them(database: Any) -> None:
    sample_registry.register(database)
    note_run(database, "tracks@1")
    database.execute(
        "insert into detection.detection_events (category, severity, model_id, version_id, entity_id, score,"
        " cycle_started_at, first_seen_at, last_seen_at)"
        " select 'spoofing', 'HIGH', model_id, version_id, 'a', 0.8, %s, %s, %s"
        " from detection.detection_model_versions where model_id = 'tracks' and version = '1'",
        (AT, AT, AT),
    )
    grant(Database(database, SCHEMA))
    with database.transaction(force_rollback=True):
        database.execute("set local role detection_reader")
        roles = database.execute(
            "select cycle_id, model_id, version, role::text from detection.detection_current_roles"
            " order by 2, 3"
        ).fetchall()
        assert roles == [
            ("fleet", "spoofing", "1", "PRIMARY"),
            ("fleet", "tracks", "1", "PRIMARY"),
            ("fleet", "tracks", "2", "SHADOW"),
        ]
        (run,) = database.execute(
            "select model_id, version, outcome::text from detection.detection_run_results"
        )
        (event,) = database.execute(
            "select cycle_id, version, entity_id from detection.detection_open_events"
        )
        assert (run, event) == (("tracks", "1", "SUCCEEDED"), ("fleet", "1", "a"))
        assert database.execute("select count(*) from detection.detection_output_scores").fetchone() == (0,)


def test_a_replay_is_shown_without_a_role(database: Any) -> None:
    sample_registry.register(database)
    note_run(database, "tracks@1")
    note_run(database, "tracks@2", is_replay=True)
    rows = database.execute(
        "select version, role::text, is_replay from detection.detection_run_results order by 1"
    ).fetchall()
    assert rows == [("1", "PRIMARY", False), ("2", None, True)]


def test_the_statements_of_the_docs_run(database: Any) -> None:
    block = next(b for b in re.findall(r"```sql\n(.*?)```", OPERATIONS, re.DOTALL) if "current_roles" in b)
    statements = [text for text in block.split(";") if text.strip()]
    assert len(statements) == 4
    for statement in statements:
        database.execute(statement)
