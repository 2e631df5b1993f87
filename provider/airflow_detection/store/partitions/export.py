"""Export of a detached table to Parquet files, checked before the table may be dropped.

The folder `<retention_export>/<table>/<partition>-<oid>` gets files of so many blocks of the table each, and
`manifest.json` when all of them have been read again and found equal. A run that is killed begins the table
anew: the same files are written over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO, Any

import psycopg
from psycopg import sql

from airflow_detection.errors import DetectionError, StorageError
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import read_table, rows, statement
from airflow_detection.store.partitions.parquet import (
    ExportColumn,
    arrow_schema,
    digest_of,
    require_pyarrow,
    tables_of,
    write_parquet,
)
from airflow_detection.store.partitions.plan import Action

MANIFEST, FORMAT = "manifest.json", 1
BLOCKS = 1 << 18  # of a table in one file: 2 GiB in blocks of 8 kB, about 100 MB of Parquet


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAccess:
    """Access to the files of URIs, local ones and those of object stores.

    Args:
        open: opens a file to be read; FileNotFoundError if there is none.
        write: writes a file: whoever reads it there finds all of it, or none.
        names: the names of what is in a folder.
    """

    open: Callable[[str], AbstractContextManager[IO[bytes]]]
    write: Callable[[str, IO[bytes]], None]
    names: Callable[[str], list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """One Parquet file of an export; `sha256` is the digest of its rows."""

    file: str
    rows: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Manifest of an exported table; bounds in UTC, None where there is none.

    `origin` tells the database that it is from, and `key` names the column that the bounds are of.
    """

    origin: str
    table: str
    partition: str
    oid: int
    key: str
    lower: datetime | None
    upper: datetime | None
    rows: int
    sha256: str
    columns: tuple[ExportColumn, ...]
    files: tuple[ExportedFile, ...]
    exported_at: datetime

    @property
    def size_bytes(self) -> int:
        """The size of all files."""
        return sum(file.size_bytes for file in self.files)

    def to_json(self) -> bytes:
        """Return the manifest as it is written."""
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps(content, indent=2, default=datetime.isoformat).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Export:
        """Return the manifest that was written.

        Raises:
            StorageError: it is none of this format.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            if content.pop("format") != FORMAT:
                raise StorageError(f"a manifest has another format than {FORMAT}")
            instants = {
                name: content[name] and datetime.fromisoformat(content[name])
                for name in ("lower", "upper", "exported_at")
            }
            columns = tuple(ExportColumn(**column) for column in content.pop("columns"))
            files = tuple(ExportedFile(**file) for file in content.pop("files"))
            return cls(**{**content, **instants, "columns": columns, "files": files})
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"a manifest cannot be read: {error}") from error


def export_table(db: Database, action: Action, base_uri: str, files: FileAccess) -> tuple[str, Export]:
    """Write a detached table to a folder below `base_uri`; return the URI of the folder, and the manifest.

    Raises:
        StorageError: what is read again is not what was written, a value has no place in Parquet, the files
            cannot be written or read, or the folder has the export of another database.
        ConfigurationError: pyarrow is not installed.
        psycopg.Error: the database refused.
    """
    require_pyarrow()
    folder = f"{base_uri.rstrip('/')}/{action.table}/{action.partition}-{action.oid}"
    try:
        return folder, _export(db, action, folder, files)
    except (DetectionError, psycopg.Error):
        raise
    except Exception as error:  # client libraries of object stores raise errors of their own
        reason = str(error) or type(error).__name__
        raise StorageError(f"{folder} cannot be written: {reason}") from error


def _export(db: Database, action: Action, folder: str, files: FileAccess) -> Export:
    (facts,) = rows(db, "export_facts", {"oid": action.oid})
    origin = facts["origin"]
    with suppress(FileNotFoundError):
        existing = read_manifest(files, folder)
        if existing.origin != origin:
            raise StorageError(f"{folder} has the export of another database, {existing.origin}: it is kept")
    columns = tuple(ExportColumn(**row) for row in rows(db, "export_columns", {"oid": action.oid}))
    written = tuple(_written_files(db, action, columns, facts["blocks"], folder, files))
    export = Export(
        origin=origin,
        table=action.table,
        partition=action.partition or "",
        oid=action.oid or 0,
        key=read_table(db, action.table).key,
        lower=action.lower,
        upper=action.upper,
        rows=sum(file.rows for file in written),
        sha256=hashlib.sha256("".join(file.sha256 for file in written).encode()).hexdigest(),
        columns=columns,
        files=written,
        exported_at=datetime.now(UTC),
    )
    files.write(f"{folder}/{MANIFEST}", BytesIO(export.to_json()))
    if read_manifest(files, folder) != export:
        raise StorageError(f"{folder}/{MANIFEST} is not what was written")
    return export


def _written_files(
    db: Database,
    action: Action,
    columns: tuple[ExportColumn, ...],
    blocks: int,
    folder: str,
    files: FileAccess,
) -> Iterator[ExportedFile]:
    """Write the files one after the other, and read each again."""
    schema = arrow_schema(columns)
    for number, start in enumerate(range(0, max(blocks, 1), BLOCKS)):
        name = f"part-{number:05}.parquet"
        uri = f"{folder}/{name}"
        with TemporaryFile() as file:
            # Ended at once after an error: the connection is locked for as long as a COPY is open.
            with closing(_copied_rows(db, action, columns, start)) as copied:
                digest = write_parquet(file, tables_of(copied, schema), schema)
            size = file.tell()
            file.seek(0)
            files.write(uri, file)
        with files.open(uri) as stored:
            found = digest_of(stored)
        if (found.rows, found.hex()) != (digest.rows, digest.hex()):
            raise StorageError(
                f"{uri} has {found.rows} rows of sha256 {found.hex()} where {digest.rows} of sha256"
                f" {digest.hex()} were written"
            )
        yield ExportedFile(file=name, rows=digest.rows, size_bytes=size, sha256=digest.hex())


def _copied_rows(
    db: Database, action: Action, columns: tuple[ExportColumn, ...], start: int
) -> Generator[Any, None, None]:  # Any: buffers
    """Yield the rows of `BLOCKS` blocks of the table as CSV, each by itself."""
    copy_out = statement(
        db.schema,
        "copy_blocks",
        columns=sql.SQL(", ").join(sql.Identifier(c.name) for c in columns),
        child=sql.Identifier(action.partition or ""),
        first=sql.Literal(f"({start},0)"),
        last=sql.Literal(f"({start + BLOCKS},0)"),
    )
    with db.conn.transaction(), db.conn.cursor() as cursor:
        cursor.execute(db.queries("table_partitions")["exact_text"])
        with cursor.copy(copy_out) as copy:
            yield from copy


def read_manifest(files: FileAccess, folder: str) -> Export:
    """Return the manifest of an exported table.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it cannot be understood.
    """
    with files.open(f"{folder.rstrip('/')}/{MANIFEST}") as file:
        return Export.from_json(file.read())
