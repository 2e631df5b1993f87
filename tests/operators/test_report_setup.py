"""The parts of a snapshot report that come from the process that takes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from airflow_detection.domain.settings import Settings
from airflow_detection.operators.report_setup import process_facts_of
from airflow_detection.plan_cache import file
from airflow_detection.plan_cache.known import KnownRegistry

READ_AT = datetime(2026, 1, 1, 12, 30, 15, tzinfo=UTC)


def test_the_report_knows_when_the_last_known_good_plan_was_read(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    assert process_facts_of(settings).plan_read_at is None
    path = file.path_of(settings)
    assert file.write(path, KnownRegistry(read_at=READ_AT.timestamp()))
    assert process_facts_of(settings).plan_read_at == READ_AT
    for other in (replace(settings, schema="other"), replace(settings, conn_id="other")):
        assert process_facts_of(other).plan_read_at is None, "it has a plan of its own"
    path.write_bytes(path.read_bytes()[:-5])
    assert process_facts_of(settings).plan_read_at is None, "a damaged plan is not used"
