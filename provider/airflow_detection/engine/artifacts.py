"""Artefacts of versions on this machine: a folder of files by digest, which all processes share.

A file is complete, and has the digest that its name says, or it is not there: it is written under another
name, checked while it streams, and renamed. Whoever uses a file holds a shared lock of it, so that none is
removed that a running process uses. Nothing is read from afar while the digest is here.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import IO

from airflow_detection.domain.specs import Artifact, VersionSpec
from airflow_detection.engine.artifact_files import Opener, open_local
from airflow_detection.errors import ArtifactError, ArtifactUnavailable, DetectionError

_PART = ".part-"
_SETTLED_S = 60.0
_CHUNK_BYTES = 2**20
_MIB = 2**20
log = logging.getLogger(__name__)


class ArtifactCache:
    """The files that this process uses; each stays where it is until the block ends.

    Args:
        folder: made if it is missing.
        max_bytes: bound of all files together; the least recently used go first.
        opener: opens the file of a URI.
    """

    def __init__(self, folder: Path, max_bytes: float, opener: Opener = open_local) -> None:
        self._folder, self._max_bytes, self._opener = folder, max_bytes, opener
        self._held: dict[str, int] = {}
        self._failed: dict[Artifact, DetectionError] = {}

    def __enter__(self) -> ArtifactCache:
        return self

    def __exit__(self, *_: object) -> None:
        while self._held:
            os.close(self._held.popitem()[1])

    def of(self, version: VersionSpec) -> Path | None:
        """Return the file of a version's artefact, as `path`; None if it names none."""
        return None if version.artifact is None else self.path(version.artifact)

    def path(self, artifact: Artifact) -> Path:
        """Return the checked file of an artefact; it is fetched if it is not here, and asked for but once.

        Raises:
            ArtifactError: it is missing, a folder, too large, or has another digest.
            ArtifactUnavailable: the place where it is kept does not answer.
        """
        path = self._folder / artifact.sha256
        if artifact.sha256 in self._held:
            return path
        if artifact in self._failed:
            raise self._failed[artifact]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            while not self._hold(path):
                self._fetch(artifact, path)
        except DetectionError as error:
            self._failed[artifact] = error
            raise
        except OSError as error:
            reason = f"it cannot be kept in {self._folder}: {reason_of(error)}"
            self._failed[artifact] = failure = ArtifactUnavailable(artifact.uri, reason)
            raise failure from error
        return path

    def _hold(self, path: Path) -> bool:
        """Lock a file that is there and has its digest; one that has not is removed."""
        with suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _lock(fd, fcntl.LOCK_SH)
                if not _is_at(path, fd):  # another process has removed it meanwhile
                    return False
                with os.fdopen(fd, "rb", closefd=False) as file:
                    is_whole = hashlib.file_digest(file, "sha256").hexdigest() == path.name
                if is_whole:
                    with suppress(OSError):
                        os.utime(path)
                    self._held[path.name], fd = fd, -1
                    return True
                log.warning("%s does not have its digest any more: it is fetched anew", path)
                with self._changing():
                    if _is_at(path, fd):
                        path.unlink()
            finally:
                if fd >= 0:
                    os.close(fd)
        return False

    def _fetch(self, artifact: Artifact, path: Path) -> None:
        fd, name = mkstemp(prefix=_PART, dir=self._folder)
        part = Path(name)
        try:
            with os.fdopen(fd, "wb") as target:
                _lock(fd, fcntl.LOCK_EX)
                size = self._copy(artifact, target)
                target.flush()
                os.fsync(fd)
                os.fchmod(fd, 0o440)
                with self._changing():
                    self._make_room(size)
                    if not path.exists():  # else another process was first: its file is in use already
                        part.rename(path)
        finally:
            part.unlink(missing_ok=True)

    def _copy(self, artifact: Artifact, target: IO[bytes]) -> int:
        """Copy the bytes of an artefact, and check them; returns their number."""
        uri, digest, size = artifact.uri, hashlib.sha256(), 0
        for chunk in _chunks(uri, self._opener):
            size += len(chunk)
            if size > self._max_bytes:
                bound = f"{self._max_bytes / _MIB:g} MiB, [detection] artifact_cache_size"
                raise ArtifactError(uri, f"is larger than {bound}")
            digest.update(chunk)
            target.write(chunk)
        if digest.hexdigest() != artifact.sha256:
            reason = f"has sha256 {digest.hexdigest()} ({size} bytes), registered is {artifact.sha256}"
            raise ArtifactError(uri, reason)
        return size

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """The one process that publishes or removes files, for the moments that this takes."""
        fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        try:
            _lock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _make_room(self, size: int) -> None:
        """Remove the least recently used files that nobody uses, and what killed writers have left."""
        files: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):
                status = path.stat()
                if path.name.startswith(_PART):
                    if time.time() - status.st_mtime > _SETTLED_S:
                        _remove_unused(path)
                elif not path.name.startswith("."):
                    files.append((status.st_mtime, status.st_size, path))
        total = size + sum(file_size for _, file_size, _ in files)
        for _, file_size, path in sorted(files):
            if total <= self._max_bytes:
                return
            if _remove_unused(path):
                total -= file_size
        if total > self._max_bytes:
            log.warning("the artefacts in use take %.0f MiB in %s", total / _MIB, self._folder)


def sha256_of(uri: str, opener: Opener = open_local) -> str:
    """Return the digest that an artefact has now, in hex; raises as `ArtifactCache.path` does."""
    digest = hashlib.sha256()
    for chunk in _chunks(uri, opener):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(uri: str, opener: Opener) -> Iterator[bytes]:
    """Iterate over the bytes of a URI; an error of whatever kind becomes one sentence."""
    size = 0
    try:
        with opener(uri) as file:
            expected = _size_of(file)
            while chunk := file.read(_CHUNK_BYTES):
                size += len(chunk)
                yield chunk
    except DetectionError:
        raise
    except FileNotFoundError as error:
        raise ArtifactError(uri, "does not exist") from error
    except (IsADirectoryError, ImportError, ValueError) as error:
        raise ArtifactError(uri, f"cannot be read: {reason_of(error)}") from error
    except Exception as error:  # a client library raises what it likes
        raise ArtifactUnavailable(uri, reason_of(error)) from error
    if expected is not None and size < expected:
        raise ArtifactUnavailable(uri, f"it ended after {size} of {expected} bytes")


def _lock(fd: int, kind: int) -> None:
    with suppress(OSError):  # not every file system has locks
        fcntl.flock(fd, kind)


def _is_at(path: Path, fd: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(fd))
    return False


def _remove_unused(path: Path) -> bool:
    """Remove a file unless a process holds its lock, or it cannot be told; returns whether it is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def _size_of(file: IO[bytes]) -> int | None:
    """Return how many bytes a file says that it has; None if it does not say."""
    size = getattr(file, "size", None)
    if isinstance(size, int):
        return size
    with suppress(OSError, AttributeError, ValueError):
        return os.fstat(file.fileno()).st_size
    return None


def reason_of(error: Exception) -> str:
    """Return what an error says, in one line."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
