"""`promotion:` of a model in the registration file: no part of a version, nor of a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_detection.engine.plan import build_plan
from airflow_detection.errors import ConfigurationError, RegistrationError
from airflow_detection.registration.apply import apply_file
from airflow_detection.snapshot.comparison import compare_versions
from airflow_detection.store import registry
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database

FILE = """
cycles:
  sea: {{schedule: "0 * * * *", lookback: 1h, start_date: 2026-01-01}}
models:
  ships:
    cycle: sea
    entrypoint: spoofing
    {promotion}
    versions:
      "1": {{role: PRIMARY, since: 2026-01-01}}
      "2": {{}}
"""


@pytest.fixture
def apply(database: Connection, tmp_path: Path) -> Any:
    def applied(promotion: str) -> list[str]:
        file = tmp_path / "registry.yaml"
        file.write_text(FILE.format(promotion=promotion))
        return apply_file(Database(database, "detection"), file)

    return applied


def test_a_policy_is_registered_changed_and_taken_back(database: Connection, apply: Any) -> None:
    db = Database(database, "detection")
    apply("promotion: {min_cycles: 12, unknown_is_enough: true}")
    digest = build_plan(registry.models_at(db, "sea", None)).digest
    assert registry.promotion_of(db, "ships") == {"min_cycles": 12, "unknown_is_enough": True}
    decision = compare_versions(db, "ships@1", "ships@2").decision
    assert decision is not None
    assert (decision.policy.min_cycles, decision.policy.unknown_is_enough) == (12, True)
    assert apply("promotion: {min_cycles: 12, unknown_is_enough: true}") == []
    assert apply("promotion: {min_cycles: 13}") == [
        "~ model ships: promotion {'min_cycles': 12, 'unknown_is_enough': True} -> {'min_cycles': 13}"
    ]
    apply("promotion: {rollback_on: [SURGE, FAILED], rollback_after: 3}")
    assert registry.promotion_of(db, "ships") == {"rollback_on": ["SURGE", "FAILED"], "rollback_after": 3}
    apply("promotion: {min_cycles: 13}")
    assert apply("") == ["~ model ships: promotion {'min_cycles': 13} -> {}"]
    assert build_plan(registry.models_at(db, "sea", None)).digest == digest


def test_a_wrong_policy_is_told_by_its_line(apply: Any) -> None:
    with pytest.raises(RegistrationError) as caught:
        apply("promotion: {min_cycles: none, alfa: 0.1}")
    lines = [line.partition("registry.yaml")[2] for line in str(caught.value).splitlines()]
    assert lines == [
        ":8: models.ships.promotion.alfa: unknown option; the nearest name is 'alpha'",
        ":8: models.ships.promotion.min_cycles: must be a whole number from 1 to 1000000, not 'none'",
    ]


def test_a_policy_that_somebody_stored_wrong_is_named(database: Connection, apply: Any) -> None:
    apply("")
    database.execute("update detection.detection_models set promotion = '{\"alpha\": 7}'")
    with pytest.raises(
        ConfigurationError, match=r"promotion: alpha: must be a number from 1e-09 to 0\.5, not 7"
    ):
        compare_versions(Database(database, "detection"), "ships@1", "ships@2")
