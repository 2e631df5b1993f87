"""The Dag `detection_training`, run by Airflow's own task runner against a real Postgres."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from tests import sample_registry
from tests.sample_registry import SCHEMA

from airflow_detection.domain.specs import Role
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.engine.training import TrainedModel, TrainingContext
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.store.trainings import trainings

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles

pytestmark = pytest.mark.e2e

START = datetime(2026, 2, 1, tzinfo=UTC)
Conn = psycopg.Connection[Any]


class Counts(BaseDetectionModel):
    """Learns how many rows a window has; ends its task the first time where `params.kill_once` says so."""

    @classmethod
    def train(cls, ctx: TrainingContext) -> TrainedModel:
        counts = [len(window.inputs) for window in ctx.windows]
        if (path := ctx.params.get("kill_once")) and not Path(path).exists():
            Path(path).touch()
            os.kill(os.getppid(), signal.SIGKILL)
        return TrainedModel(files={"counts.txt": repr(counts).encode()}, metrics={"rows": sum(counts)})

    def run(self, ctx: ModelContext) -> ModelResult:
        return ModelResult(
            outputs_per_input=[({}, {"id": "x", "score": float(self.loaded.stat().st_size > 0)})]
        )


@pytest.fixture
def db(database: Conn) -> Database:
    query = "select n from generate_series(1, 4) n where :window_end <= :opened_at"
    sample_registry.put_cycle(database, input_query=query)
    sample_registry.put_model(database, "m", entrypoint="tests.operators.test_training:Counts")
    sample_registry.put_version(database, "m@1", Role.PRIMARY, entrypoint="tests.sample_registry:Echo")
    sample_registry.put_version(database, "m@base")
    return Database(database, SCHEMA)


def step(target: Path, **conf: Any) -> dict[str, Any]:
    asked = {
        "version": "m@2",
        "base": "base",
        "data_start": START.isoformat(),
        "data_end": (START + timedelta(hours=3)).isoformat(),
        "as_of": (START + timedelta(days=1)).isoformat(),
        "target": str(target),
    }
    return {"dag": "training", "at": None, "conf": asked | conf, "forked": True}


ALLOWED = {"AIRFLOW__DETECTION__ALLOWED_MODULES": "tests"}


def test_a_run_of_the_dag_registers_a_challenger_and_one_more_changes_nothing(
    db: Database, cycles: Cycles, tmp_path: Path
) -> None:
    first, second = cycles(step(tmp_path / "models"), step(tmp_path / "models"), **ALLOWED)
    assert (first["state"], first["tasks"]) == ("success", {"train": "success"})
    assert (second["state"], second["tasks"]) == ("success", {"train": "success"})
    trained = trainings(db)["m@2"]
    assert (trained.window_count, trained.row_count, trained.metrics) == (3, 12, {"rows": 12.0})
    assert trained.as_of == START + timedelta(days=1)
    (version,) = [v for v in registry.versions(db, "m") if v.version == "2"]
    assert version.role is Role.CHALLENGER
    assert [str(path) for path in (tmp_path / "models").iterdir()] == [trained.artifact_uri]


def test_without_an_instant_the_run_trains_as_of_when_it_was_due(
    db: Database, cycles: Cycles, tmp_path: Path
) -> None:
    before = registry.clock(db)
    (run,) = cycles(step(tmp_path, as_of=None), **ALLOWED)
    assert run["state"] == "success"
    assert before - timedelta(minutes=1) <= trainings(db)["m@2"].as_of <= registry.clock(db)


def test_a_request_that_cannot_be_met_fails_and_text_is_no_template(
    db: Database, cycles: Cycles, tmp_path: Path
) -> None:
    early = (START - timedelta(days=1)).isoformat()
    runs = cycles(
        step(tmp_path, base="{{ 6 * 7 }}"),
        step(tmp_path, data_end=early),
        step(tmp_path, base="1"),
        **ALLOWED,
    )
    assert [(run["state"], run["tasks"]) for run in runs] == [("failed", {"train": "failed"})] * 3
    assert runs[0]["rendered"]["train"]["base"] == "{{ 6 * 7 }}"
    assert trainings(db) == {}


def test_a_task_that_was_killed_while_it_trained_is_run_again(
    db: Database, cycles: Cycles, tmp_path: Path
) -> None:
    sample_registry.put_version(db.conn, "m@kills", kill_once=str(tmp_path / "killed"))
    asked = step(tmp_path / "models", base="kills")
    runs = cycles(asked, asked, **ALLOWED)
    assert (tmp_path / "killed").exists()
    assert runs[-1]["state"] == "success"
    assert trainings(db)["m@2"].row_count == 12
