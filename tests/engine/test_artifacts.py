"""The cache of artefacts: whatever happens, a file has the digest of its name, or is not there."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from airflow_detection.domain.specs import Artifact
from airflow_detection.engine.artifact_files import open_local, read_member
from airflow_detection.engine.artifacts import ArtifactCache, sha256_of
from airflow_detection.errors import ArtifactError, ArtifactUnavailable

MIB = 2**20


def artifact_of(content: bytes, uri: str = "memory://m") -> Artifact:
    return Artifact(uri=uri, sha256=hashlib.sha256(content).hexdigest())


class Store:
    """Content by URI, and how often each was opened."""

    def __init__(self, **content: bytes) -> None:
        self.content, self.opened = {f"memory://{name}": c for name, c in content.items()}, 0
        self.is_away = False

    @contextmanager
    def open(self, uri: str) -> Iterator[IO[bytes]]:
        self.opened += 1
        if self.is_away:
            raise RuntimeError("could not connect to the endpoint\nand more")
        if uri not in self.content:
            raise FileNotFoundError(uri)
        yield io.BytesIO(self.content[uri])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".lock")}


def test_a_file_is_fetched_once_and_read_without_its_store_from_then_on(tmp_path: Path) -> None:
    store, artifact = Store(m=b"model"), artifact_of(b"model")
    with ArtifactCache(tmp_path, MIB, store.open) as cache:
        path = cache.path(artifact)
        assert path == cache.path(artifact)
        assert (path.read_bytes(), path.name) == (b"model", artifact.sha256)
        assert path.stat().st_mode & 0o222 == 0
    store.is_away = True
    with ArtifactCache(tmp_path, MIB, store.open) as cache:
        assert cache.path(artifact).read_bytes() == b"model"
    assert store.opened == 1


def test_a_cached_file_that_was_changed_is_fetched_anew(tmp_path: Path) -> None:
    store, artifact = Store(m=b"model"), artifact_of(b"model")
    with ArtifactCache(tmp_path, MIB, store.open) as cache:
        path = cache.path(artifact)
    path.chmod(0o600)
    path.write_bytes(b"other")
    with ArtifactCache(tmp_path, MIB, store.open) as cache:
        assert cache.path(artifact).read_bytes() == b"model"
    assert store.opened == 2
    assert names(tmp_path) == {artifact.sha256}


def test_another_digest_names_both_and_keeps_nothing(tmp_path: Path) -> None:
    wrong, right = (hashlib.sha256(content).hexdigest() for content in (b"other", b"model"))
    store = Store(m=b"other")
    with ArtifactCache(tmp_path, MIB, store.open) as cache:
        for _ in range(2):  # it is asked for but once
            with pytest.raises(ArtifactError) as raised:
                cache.path(Artifact(uri="memory://m", sha256=right))
    assert str(raised.value) == (f"artefact 'memory://m' has sha256 {wrong} (5 bytes), registered is {right}")
    assert (names(tmp_path), store.opened) == (set(), 1)


class Truncated(io.BytesIO):
    """A file that says it is longer than what it gives."""

    size = 10


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (FileNotFoundError("m"), ArtifactError, "artefact 'memory://m' does not exist"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            ArtifactUnavailable,
            "artefact 'memory://m' cannot be read: Connection refused",
        ),
        (
            RuntimeError("could not connect\nto it"),
            ArtifactUnavailable,
            "artefact 'memory://m' cannot be read: could not connect",
        ),
        (RuntimeError(), ArtifactUnavailable, "artefact 'memory://m' cannot be read: RuntimeError"),
        (
            ImportError("Install s3fs to access S3"),
            ArtifactError,
            "artefact 'memory://m' cannot be read: Install s3fs to access S3",
        ),
    ],
)
def test_each_error_of_a_store_is_one_sentence(
    tmp_path: Path, error: Exception, kind: type[Exception], sentence: str
) -> None:
    @contextmanager
    def fail(_: str) -> Iterator[IO[bytes]]:
        raise error
        yield io.BytesIO()

    with ArtifactCache(tmp_path, MIB, fail) as cache, pytest.raises(kind) as raised:
        cache.path(artifact_of(b"model"))
    assert str(raised.value) == sentence
    assert names(tmp_path) == set()


def test_a_file_that_ends_early_is_tried_again(tmp_path: Path) -> None:
    @contextmanager
    def cut(_: str) -> Iterator[IO[bytes]]:
        yield Truncated(b"mod")

    with ArtifactCache(tmp_path, MIB, cut) as cache, pytest.raises(ArtifactUnavailable) as raised:
        cache.path(artifact_of(b"model"))
    assert str(raised.value) == "artefact 'memory://m' cannot be read: it ended after 3 of 10 bytes"


def test_local_files_folders_and_other_schemes(tmp_path: Path) -> None:
    folder, file = tmp_path / "models", tmp_path / "models" / "m.bin"
    (folder / "inner").mkdir(parents=True)
    file.write_bytes(b"model")
    (folder / "inner" / "canaries.json").write_text("[]")
    with ArtifactCache(tmp_path / "cache", MIB) as cache:
        assert cache.path(artifact_of(b"model", f"file://{file}")).read_bytes() == b"model"
        with pytest.raises(ArtifactError, match="is a folder: write its URI with / at its end"):
            cache.path(artifact_of(b"", str(folder)))
        with pytest.raises(ArtifactError, match="only files of this machine can be read here"):
            cache.path(artifact_of(b"", "s3://bucket/key"))
        with pytest.raises(ArtifactError, match=r"'/nowhere' does not exist"):
            cache.path(artifact_of(b"", "/nowhere"))


def test_a_folder_has_one_digest_whenever_it_was_written(tmp_path: Path) -> None:
    digests = []
    for name, order in (("a", (1, 2)), ("b", (2, 1))):
        folder = tmp_path / name
        (folder / "inner").mkdir(parents=True)
        for number in order:
            (folder / f"{number}.bin").write_bytes(b"%d" % number)
        (folder / "inner" / "canaries.json").write_text("[]")
        os.utime(folder / "1.bin", (number, number))
        with open_local(f"{folder}/") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    assert digests[0] == digests[1] == sha256_of(f"{tmp_path}/a/")
    with ArtifactCache(tmp_path / "cache", MIB) as cache:
        path = cache.path(Artifact(uri=f"{tmp_path}/a/", sha256=digests[0]))
        assert read_member(path, (".json",)) == ("inner/canaries.json", b"[]")
        assert read_member(path, (".txt",)) is None
        with pytest.raises(ValueError, match=r"has several of \.bin: 1\.bin, 2\.bin"):
            read_member(path, (".bin",))


def test_the_least_recently_used_goes_first_and_none_that_is_in_use(tmp_path: Path) -> None:
    content = {name: name.encode() * 400 for name in "abcd"}
    store = Store(**content)
    artifacts = {name: artifact_of(c, f"memory://{name}") for name, c in content.items()}
    with ArtifactCache(tmp_path, 1000, store.open) as user:
        user.path(artifacts["a"])
        for number, name in enumerate("bcd"):
            with ArtifactCache(tmp_path, 1000, store.open) as cache:
                path = cache.path(artifacts[name])
            os.utime(path, (number, number))
        assert names(tmp_path) == {artifacts["a"].sha256, artifacts["d"].sha256}
    with (
        ArtifactCache(tmp_path, 100, store.open) as cache,
        pytest.raises(ArtifactError, match="is larger than"),
    ):
        cache.path(artifacts["b"])


def test_what_a_killed_writer_has_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".part-old").write_bytes(b"half")
    os.utime(tmp_path / ".part-old", (0, 0))
    (tmp_path / ".part-new").write_bytes(b"half")
    with ArtifactCache(tmp_path, MIB, Store(m=b"model").open) as cache:
        cache.path(artifact_of(b"model"))
    assert names(tmp_path) == {artifact_of(b"model").sha256, ".part-new"}


WRITER = """
import hashlib, sys
from pathlib import Path
from airflow_detection.domain.specs import Artifact
from airflow_detection.engine.artifacts import ArtifactCache
folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
for n in range(rounds):
    content = bytes([n % 3]) * 300_000
    (folder / f"{n % 3}.bin").write_bytes(content) if not (folder / f"{n % 3}.bin").exists() else None
    artifact = Artifact(uri=str(folder / f"{n % 3}.bin"), sha256=hashlib.sha256(content).hexdigest())
    with ArtifactCache(folder / "cache", 700_000) as cache:
        assert cache.path(artifact).read_bytes() == content
"""


def test_writers_at_once_never_see_half_a_file_nor_lose_one_in_use(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 300_000)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "60"]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert sum(p.stat().st_size for p in (tmp_path / "cache").iterdir()) <= 900_000


def test_a_writer_that_comes_second_uses_the_file_of_the_first(tmp_path: Path) -> None:
    gate, artifact = threading.Event(), artifact_of(b"model")

    @contextmanager
    def slow(_: str) -> Iterator[IO[bytes]]:
        gate.wait(10)
        yield io.BytesIO(b"model")

    second = ArtifactCache(tmp_path, MIB, slow)
    thread = threading.Thread(target=second.path, args=(artifact,))
    thread.start()
    while not list(tmp_path.glob(".part*")):
        time.sleep(0.01)
    with ArtifactCache(tmp_path, MIB, Store(m=b"model").open) as first:
        inode = first.path(artifact).stat().st_ino
        gate.set()
        thread.join(10)
        assert first.path(artifact).stat().st_ino == inode == second.path(artifact).stat().st_ino
    with second:
        pass
    assert names(tmp_path) == {artifact.sha256}


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ArtifactCache(tmp_path / "file" / "cache", MIB, Store(m=b"model").open)
    with pytest.raises(ArtifactUnavailable, match=r"it cannot be kept in .*cache: Not a directory"):
        cache.path(artifact_of(b"model"))
