"""Stored outputs of a champion as downstream models read them: lazily, read-only, in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests import sample_registry

from airflow_detection.cycle.planning import open_cycle
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, CycleSpec, Mode, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.engine.canary import SharedOutputs
from airflow_detection.store import registry, roles
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.partitions.create import ensure_cycle_months
from airflow_detection.store.reader import BATCH_ROWS, StoredOutputs

AT = datetime(2026, 3, 5, 12, tzinfo=UTC)
CYCLE = Cycle(cycle_id="sea", started_at=AT, lookback=timedelta(hours=1))
MODEL = ModelSpec(
    model_id="spoofing", cycle_id="sea", entrypoint="x:Y", score_key="score", entity_key="entity"
)
Pair = tuple[dict[str, Any], dict[str, Any]]


def champion(database: Connection, version: str) -> VersionSpec:
    spec = CycleSpec(cycle_id="sea", schedule="0 * * * *", lookback=CYCLE.lookback, start_date=AT)
    registry.put_cycle(Database(database, "detection"), spec)
    registry.put_model(Database(database, "detection"), MODEL)
    number = registry.put_version(
        Database(database, "detection"), model_id="spoofing", version=version, params={}
    )
    ensure_cycle_months(Database(database, "detection"), AT)
    return VersionSpec(model_id="spoofing", version=version, role=Role.PRIMARY, version_id=number)


def pairs(count: int, size: int = 0, score: float = 0.1) -> Iterator[Pair]:
    for number in range(count):
        yield {"entity": str(number)}, {"score": score, "deep": [{"text": ["x" * size]}]}


def save(database: Connection, version: VersionSpec, rows: Iterator[Pair]) -> None:
    report = RunReport(version=version, outcome=Outcome.SUCCEEDED, started_at=AT)
    PostgresStore(database, database).save(MODEL, version, CYCLE, rows, lambda _: (report, {}))


def peak_mib(rows: Iterator[Any]) -> float:
    tracemalloc.start()
    try:
        for _ in rows:
            pass
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_reader_does_not_grow_with_what_it_reads(database: Connection) -> None:
    version, size = champion(database, "1"), 1000
    save(database, version, pairs(6 * BATCH_ROWS, size))
    upstream = SharedOutputs(StoredOutputs(lambda: Database(database, "detection"), CYCLE, version))
    assert len(upstream) == 6 * BATCH_ROWS
    assert peak_mib(iter(upstream)) < 2.5 * BATCH_ROWS * size / 2**20  # all of it takes six times that size


def test_nothing_is_read_before_it_is_asked_for(database: Connection) -> None:
    version = champion(database, "1")
    upstream = SharedOutputs(StoredOutputs(lambda: Database(database, "detection"), CYCLE, version))
    save(database, version, pairs(3))
    assert len(list(upstream)) == 3


def test_what_is_read_is_read_only_at_every_depth(database: Connection) -> None:
    version = champion(database, "1")
    save(database, version, pairs(1))
    ((ref, output),) = SharedOutputs(StoredOutputs(lambda: Database(database, "detection"), CYCLE, version))
    mappings: list[Any] = [ref, output, output["deep"][0]]
    for mapping in mappings:
        with pytest.raises(TypeError):
            mapping["mine"] = 1
    for value in (output["deep"], output["deep"][0]["text"]):
        assert type(value) is tuple
    assert list(SharedOutputs(StoredOutputs(lambda: Database(database, "detection"), CYCLE, version))) == [
        (ref, output)
    ]


def test_columns_are_those_of_the_rows_in_their_order(
    database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_detection.store.reader.COLUMN_BATCH_ROWS", 7)
    version = champion(database, "1")
    save(database, version, pairs(50))
    upstream = StoredOutputs(lambda: Database(database, "detection"), CYCLE, version)
    entities, scores = upstream.columns()
    assert entities == tuple(ref["entity"] for ref, _ in upstream)
    assert scores == (0.1,) * 50


def test_the_champion_of_the_plan_is_read_whoever_is_champion_now(database: Connection, dsn: str) -> None:
    sample_registry.register(database)
    open_cycle(
        Database(database, sample_registry.SETTINGS.schema), "fleet", sample_registry.AT, mode=Mode.AS_OF
    )

    def run(model_id: str, version: str | None) -> None:
        report = run_task(
            Database(database, sample_registry.SETTINGS.schema),
            sample_registry.SETTINGS,
            VersionRequest(
                cycle_id="fleet",
                started_at=sample_registry.AT,
                model_id=model_id,
                version=version,
                mode=Mode.AS_OF,
            ),
        )
        assert report.outcome is Outcome.SUCCEEDED, report.error

    run("tracks", None)  # two outputs
    run("tracks", "2")  # the shadow's three
    roles.assign_role(Database(database, "detection"), model_id="tracks", version="2", role=Role.PRIMARY)
    run("spoofing", None)  # scores with the number of outputs that it reads
    scores = "select score from detection.detection_model_run_outputs where model_id = 'spoofing'"
    assert database.execute(scores).fetchall() == [(2.0,)]
