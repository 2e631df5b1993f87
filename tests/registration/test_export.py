"""The registry as a registration file, and promotions that the next `apply` must not take back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.sample_registry import SCHEMA

from airflow_detection.errors import RegistrationError
from airflow_detection.registration.apply import apply_file
from airflow_detection.registration.export import registration_yaml
from airflow_detection.store import promotions
from airflow_detection.store.database import Database
from airflow_detection.store.promotions import State

MARITIME = Path(__file__).parents[2] / "dags" / "registry" / "maritime.yaml"
ODD = """
cycles:
  "n~o": {schedule: "*/7 * * * *", lookback: 90s, start_date: 2026-01-01T00:00:00Z, is_enabled: false,
          description: "1e-3: yes", input_query: "select '{{x}}' as \\"ä\\" -- #\\n", time_key: "t"}
models:
  "0257":
    cycle: "n~o"
    entrypoint: spoofing
    promotion: {min_cycles: 3, unknown_is_enough: true}
    task_options: {retries: 1}
    versions:
      "1e-3": {role: PRIMARY, since: 2026-01-01T00:00:00Z,
               params: {a: [1, null, "no", 1.0e-3, {"22:30": "on"}]}}
      "no": {notes: "~", params: {b: "null"}, artifact: {uri: "s3://c@b/k", sha256:
             "12e4000000000000000000000000000000000000000000000000000000000000"}}
"""


@pytest.mark.parametrize("text", [MARITIME.read_text(), ODD])
def test_what_is_exported_changes_nothing_and_makes_an_equal_registry(
    database: Any, tmp_path: Path, text: str
) -> None:
    db = Database(database, SCHEMA)
    first, exported = tmp_path / "first.yaml", tmp_path / "exported.yaml"
    first.write_text(text)
    apply_file(db, first)
    exported.write_text(registration_yaml(db))
    assert apply_file(db, exported) == []
    assert apply_file(db, first) == []
    assert registration_yaml(db) == exported.read_text()


def test_apply_does_not_take_a_promotion_or_a_rollback_back_unless_told_to(
    database: Any, tmp_path: Path
) -> None:
    db = Database(database, SCHEMA)
    apply_file(db, MARITIME)
    asked = promotions.ask(db, "spoofing@1.1")
    promotions.record(db, asked.promotion_id, State.JUDGED, evidence={})
    promotions.put_in_force(db, asked.promotion_id)
    told = rf"models.spoofing: promotion {asked.promotion_id} made '1.1' PRIMARY at .*, the file '1.0': write"
    with pytest.raises(RegistrationError, match=told):
        apply_file(db, MARITIME)
    exported = tmp_path / "exported.yaml"
    exported.write_text(registration_yaml(db))
    assert apply_file(db, exported) == []

    promotions.roll_back(db, "spoofing", reason="silent")
    with pytest.raises(RegistrationError, match=r"made '1.0' PRIMARY at .*, the file '1.1'"):
        apply_file(db, exported)
    changes = apply_file(db, exported, undoes_promotions=True)
    assert any(change.startswith("~ role spoofing@1.1: ") for change in changes)
    assert apply_file(db, exported) == []
