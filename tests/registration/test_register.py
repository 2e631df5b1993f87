"""Versions that are registered from a file, through the checks of a registration file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests import sample_registry
from tests.sample_registry import SCHEMA

from airflow_detection.domain.specs import Artifact, Role
from airflow_detection.engine.artifact_files import open_local
from airflow_detection.engine.artifacts import sha256_of
from airflow_detection.errors import ArtifactError, RegistrationError
from airflow_detection.registration.export import registration_yaml
from airflow_detection.registration.register import adapter_of, artifact_of, register_version
from airflow_detection.store import registry
from airflow_detection.store.database import Database

HERE = Artifact(uri="/models/3.skops", sha256="5f" * 32)
PARAMS = {"features": ["a"], "entity_key": "id"}


@pytest.fixture
def db(database: Any) -> Database:
    sample_registry.register(database)
    return Database(database, SCHEMA)


def test_a_version_is_added_beside_the_others_which_stay(db: Database) -> None:
    before = registry.versions(db)
    _, changes = register_version(db, "tracks@3", HERE, role=Role.CHALLENGER, params=PARAMS, notes="better")
    assert changes == ["+ version tracks@3", "~ role tracks@3: none -> CHALLENGER from now"]
    after = registry.versions(db)
    assert [v for v in after if v.version != "3"] == before
    (new,) = [v for v in after if v.version == "3"]
    assert (new.artifact, new.entrypoint, new.role, new.notes, dict(new.params)) == (
        HERE, "sklearn", Role.CHALLENGER, "better", PARAMS,
    )  # fmt: skip
    assert HERE.sha256 in registration_yaml(db)


def test_a_dry_run_keeps_nothing(db: Database) -> None:
    before = registry.versions(db)
    _, changes = register_version(db, "tracks@3", HERE, role=None, params={}, dry_run=True)
    assert changes == ["+ version tracks@3"]
    assert registry.versions(db) == before


@pytest.mark.parametrize(
    ("label", "artifact", "reason"),
    [
        ("track@3", HERE, r"model 'track' is not registered; the nearest name is 'tracks'"),
        ("tracks@1", HERE, "version 'tracks@1' is registered already: give the artefact a new one"),
        ("tracks", HERE, r"tracks:\d+: models\.tracks\.versions\.: a version has 1 to 64 characters"),
        ("tracks@3", Artifact(uri="s3://a:b@c/d", sha256="5f" * 32), r"artifact\.uri: has a password"),
    ],
)
def test_what_apply_would_refuse_is_refused(
    db: Database, label: str, artifact: Artifact, reason: str
) -> None:
    before = registry.versions(db)
    with pytest.raises(RegistrationError, match=reason):
        register_version(db, label, artifact, role=Role.SHADOW, params={})
    assert registry.versions(db) == before


def test_a_source_is_an_absolute_file_or_folder_as_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.onnx").write_bytes(b"graph")
    digest = hashlib.sha256(b"graph").hexdigest()
    assert artifact_of("model/m.onnx", open_local) == Artifact(uri=f"{tmp_path}/model/m.onnx", sha256=digest)
    folder = artifact_of("model", open_local)
    assert folder == Artifact(uri=f"{tmp_path}/model/", sha256=sha256_of(f"{tmp_path}/model/"))
    assert (adapter_of(folder.uri), adapter_of("models:/fraud/3")) == ("onnx", "mlflow")
    assert (adapter_of("s3://c@b/m.skops"), adapter_of("s3://c@b/3/")) == ("sklearn", None)
    with pytest.raises(ArtifactError, match=r"gone\.onnx' does not exist"):
        artifact_of("gone.onnx", open_local)
    with pytest.raises(
        RegistrationError, match=r"'models:/fraud' cannot be resolved: 'models:/fraud' must be"
    ):
        artifact_of("models:/fraud", open_local)
