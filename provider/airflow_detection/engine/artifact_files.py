"""The bytes of an artefact: a file as it is, or an archive of a folder that is the same whoever makes it."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal, Protocol, Self

from airflow_detection.domain.files import replacing

Opener = Callable[[str], AbstractContextManager[IO[bytes]]]
"""Opens the file of a URI to be read."""
Writer = Callable[[str, IO[bytes]], None]
"""Writes a file to a URI: whoever reads it there finds all of it, or none."""


class ReadablePath(Protocol):
    """A local path, or one of an object store."""

    @property
    def name(self) -> str:
        """The last part of the path."""

    def open(self, mode: Literal["rb"]) -> IO[bytes]:
        """Open the file."""

    def is_dir(self) -> bool:
        """Tell whether it is a folder."""

    def iterdir(self) -> Iterable[Self]:
        """Iterate over what is in a folder."""


@contextmanager
def open_path(path: ReadablePath, uri: str) -> Iterator[IO[bytes]]:
    """Open the file, or an archive of the folder that a `uri` ending with `/` names.

    Raises:
        IsADirectoryError: it is a folder, and the URI does not say so.
    """
    if uri.endswith("/"):
        with TemporaryFile() as archive:
            write_archive(archive, _files_below(path))
            archive.seek(0)
            yield archive
    elif path.is_dir():
        raise IsADirectoryError("it is a folder: write its URI with / at its end")
    else:
        with path.open("rb") as file:
            yield file


@contextmanager
def open_local(uri: str) -> Iterator[IO[bytes]]:
    """Open a file of this machine: an absolute path, or one behind `file://`.

    Raises:
        ValueError: the URI has another scheme.
    """
    with open_path(Path(_local_name(uri)), uri) as file:
        yield file


def _local_name(uri: str, use: str = "read") -> str:
    name = uri.removeprefix("file://")
    if not name.startswith("/"):
        raise ValueError(f"only files of this machine can be {use} here")
    return name


def write_path(path: Any, content: IO[bytes]) -> None:  # Any: a local path, or one of an object store
    """Write a file beside a path, and then give it that name; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, mode=0o666) as file:
        shutil.copyfileobj(content, file)
        file.flush()
        with suppress(OSError, AttributeError):  # a file of an object store has no number
            os.fsync(file.fileno())


def write_local(uri: str, content: IO[bytes]) -> None:
    """Write a file of this machine: an absolute path, or one behind `file://`.

    Raises:
        ValueError: the URI has another scheme.
    """
    write_path(Path(_local_name(uri, "written")), content)


def write_archive(target: IO[bytes], files: Iterable[tuple[str, ReadablePath]]) -> None:
    """Write a tar file: in order of names, without times, owners and rights, so that it has one digest."""
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, path in sorted(files, key=lambda item: item[0]):
            entry = tarfile.TarInfo(name)
            with path.open("rb") as file:
                entry.size = file.seek(0, io.SEEK_END)
                file.seek(0)
                archive.addfile(entry, file)


def _files_below(folder: ReadablePath, above: str = "") -> Iterator[tuple[str, ReadablePath]]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files_below(path, f"{above}{path.name}/")
        else:
            yield f"{above}{path.name}", path


def read_member(path: Path, suffixes: tuple[str, ...]) -> tuple[str, bytes] | None:
    """Return name and bytes of the one file with such a suffix: the artefact itself, or inside its archive.

    Raises:
        ValueError: an archive has several.
    """
    if not tarfile.is_tarfile(path):
        return path.name, path.read_bytes()
    with tarfile.open(path) as archive:
        found = [member for member in archive.getmembers() if member.name.endswith(suffixes)]
        if len(found) > 1:
            raise ValueError(f"has several of {', '.join(suffixes)}: {', '.join(m.name for m in found)}")
        for member in found:
            file = archive.extractfile(member)
            return member.name, file.read() if file else b""
    return None
