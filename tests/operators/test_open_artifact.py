"""Artefacts through the file systems that Airflow and fsspec have."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import fsspec
import pytest
from upath import UPath

from airflow_detection.domain.specs import Artifact
from airflow_detection.engine.artifact_files import open_local
from airflow_detection.engine.artifacts import ArtifactCache
from airflow_detection.errors import ArtifactError
from airflow_detection.operators.context import open_artifact, write_artifact


def read(uri: str) -> bytes:
    with open_artifact(uri) as file:
        return file.read()


def test_a_local_file_and_one_of_a_store_are_read_alike(tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_bytes(b"model")
    fsspec.filesystem("memory").pipe("/bucket/fraud/m.bin", b"model")
    assert read(str(tmp_path / "m.bin")) == read(f"file://{tmp_path}/m.bin") == b"model"
    assert read("memory://bucket/fraud/m.bin") == b"model"


def test_a_folder_of_a_store_has_the_digest_of_the_same_folder_here(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    store = fsspec.filesystem("memory")
    for name in ("m.bin", "inner/canaries.json"):
        (tmp_path / name).write_bytes(name.encode())
        store.pipe(f"/bucket/models/3/{name}", name.encode())
    with open_local(f"{tmp_path}/") as here:
        content = here.read()
    assert read("memory://bucket/models/3/") == read(f"{tmp_path}/") == content


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("memory://bucket/gone.bin", "does not exist"),
        ("nowhere://bucket/m.bin", "cannot be read: .*nowhere"),
        ("memory://bucket/models", "is a folder: write its URI with / at its end"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, uri: str, sentence: str) -> None:
    fsspec.filesystem("memory").pipe("/bucket/models/m.bin", b"")
    artifact = Artifact(uri=uri, sha256=hashlib.sha256(b"").hexdigest())
    with ArtifactCache(tmp_path, 2**20, open_artifact) as cache, pytest.raises(ArtifactError, match=sentence):
        cache.path(artifact)


@pytest.mark.parametrize("folder", ["{}/models", "file://{}/models", "memory://written/models"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, folder: str) -> None:
    uri = f"{folder.format(tmp_path)}/3/m.tar"
    write_artifact(uri, io.BytesIO(b"model"))
    assert read(uri) == b"model"
    write_artifact(uri, io.BytesIO(b"another"))
    assert read(uri) == b"another"

    class Cut(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            part = super().read(3)
            if not part:
                raise OSError("connection reset")
            return part

    with pytest.raises(OSError, match="connection reset"):
        write_artifact(uri, Cut(b"a third"))
    assert read(uri) == b"another"
    store = UPath(uri).parent
    assert [path.name for path in store.iterdir()] == ["m.tar"], "and nothing is left beside it"


@pytest.mark.parametrize("uri", ["nowhere://bucket/m.tar", "models:/fraud/3"])
def test_a_place_that_takes_no_file_is_told(uri: str) -> None:
    with pytest.raises(ValueError, match=r"nowhere|MLflow"):
        write_artifact(uri, io.BytesIO(b"model"))
