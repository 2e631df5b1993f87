"""Models from the registry of a real `mlflow server`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from tests import sample_registry
from tests.mlflow_server import mlflow_server

from airflow_detection.adapters.mlflow_model import MlflowModel, fixed_uri, open_registered
from airflow_detection.domain.specs import Role
from airflow_detection.engine.artifacts import ArtifactCache, sha256_of
from airflow_detection.errors import ArtifactUnavailable, RegistrationError, TerminalModelError
from airflow_detection.operators.context import open_artifact
from airflow_detection.registration.register import artifact_of, register_version
from airflow_detection.store import registry
from airflow_detection.store.database import Database
from airflow_detection.testing import run_model

mlflow = pytest.importorskip("mlflow", reason="MLflow is no part of the constraints: pip install mlflow")
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("default")]

RNG = np.random.default_rng(1)
MATRIX = RNG.normal(size=(200, 2))
MODEL = LogisticRegression().fit(MATRIX, MATRIX[:, 0] > 0.5)
ROWS = [{"id": str(n), "a": float(a), "b": float(b)} for n, (a, b) in enumerate(MATRIX[:50])]
PARAMS: dict[str, Any] = {"features": ["a", "b"], "entity_key": "id", "runs_code": True, "output": "1"}


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The server that DETECTION_TEST_MLFLOW names, or another: it has `fraud` 1 and 2, the `best`."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch, _running(folder) as url:
        patch.setenv("MLFLOW_TRACKING_URI", url)
        patch.chdir(folder)
        mlflow.set_tracking_uri(url)
        for _ in range(2):
            with mlflow.start_run():
                mlflow.sklearn.log_model(
                    MODEL, name="model", registered_model_name="fraud", pyfunc_predict_fn="predict_proba"
                )
        mlflow.MlflowClient().set_registered_model_alias("fraud", "best", "2")
        yield


@contextmanager
def _running(folder: Path) -> Iterator[str]:
    if url := os.environ.get("DETECTION_TEST_MLFLOW"):
        yield url
        return
    with mlflow_server(sys.executable, folder) as url:
        yield url


@pytest.mark.usefixtures("registered")
def test_an_alias_is_a_fixed_version_with_one_digest(tmp_path: Path) -> None:
    assert fixed_uri("models:/fraud@best") == "models:/fraud/2"
    artifact = artifact_of("models:/fraud@best", open_artifact)
    assert (artifact.uri, artifact.sha256) == (
        "models:/fraud/2",
        sha256_of("models:/fraud/2", open_registered),
    )
    mlflow.MlflowClient().set_registered_model_alias("fraud", "best", "1")
    assert artifact_of("models:/fraud@best", open_artifact).uri == "models:/fraud/1"
    mlflow.MlflowClient().set_registered_model_alias("fraud", "best", "2")
    with ArtifactCache(tmp_path, 2**30, open_artifact) as cache:
        path = cache.path(artifact)
        scores = run_model(MlflowModel, ROWS, params=PARAMS, artifact=path, entity_key="id").scores
        assert list(scores) == pytest.approx(MODEL.predict_proba(MATRIX[:50])[:, 1].tolist())
        for params, reason in (
            ({"runs_code": False}, r"params\.runs_code is not true"),
            ({"output": "2"}, "params.output is '2': the output has 2 columns"),
        ):
            with pytest.raises(TerminalModelError, match=reason):
                run_model(MlflowModel, ROWS, params=PARAMS | params, artifact=path, entity_key="id")


@pytest.mark.usefixtures("registered")
def test_a_version_is_registered_from_it(database: Any) -> None:
    sample_registry.register(database)
    db = Database(database, sample_registry.SCHEMA)
    artifact = artifact_of("models:/fraud/1", open_artifact)
    register_version(db, "tracks@3", artifact, role=Role.CHALLENGER, params=PARAMS)
    (stored,) = [v for v in registry.versions(db, "tracks") if v.version == "3"]
    assert (stored.artifact, stored.entrypoint, stored.role) == (artifact, "mlflow", Role.CHALLENGER)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("models:/fraud", "must be models:/name/version or models:/name@alias"),
        ("models:/fraud@worst", "cannot be resolved: .*worst"),
    ],
)
def test_what_the_registry_does_not_know_is_one_sentence(source: str, reason: str) -> None:
    with pytest.raises(RegistrationError, match=reason):
        artifact_of(source, open_artifact)
    with pytest.raises(ArtifactUnavailable, match="artefact 'models:/fraud/9' cannot be read: "):
        artifact_of("models:/fraud/9", open_artifact)
