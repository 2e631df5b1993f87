"""Rows of exported tables, read back from their Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_detection.errors import DetectionError, StorageError
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import FIRST, LAST, rows
from airflow_detection.store.partitions.export import Export, FileAccess, read_manifest
from airflow_detection.store.partitions.parquet import ExportColumn, require_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

Found = tuple[str, Export]
"""The URI of a folder, and the manifest that it has."""
BATCH_ROWS = 1 << 14


def exports_of(db: Database, files: FileAccess, table: str) -> Iterator[Found]:
    """Iterate over the exports of a table that the maintenance log has, the oldest first.

    Raises:
        StorageError: a manifest is missing or cannot be read.
    """
    for row in rows(db, "exports", {"table": table}, "detection_partition_policies"):
        export = _manifest(files, row["uri"])
        if export is None:
            raise StorageError(f"{row['uri']} has no manifest any more")
        yield row["uri"], export


def find_exports(files: FileAccess, uri: str, *, depth: int = 2) -> Iterator[Found]:
    """Iterate over the exports in a folder and in those below it, by name.

    Raises:
        StorageError: a folder or a manifest cannot be read.
    """
    export = _manifest(files, uri)
    if export is not None:
        yield uri, export
    elif depth:
        for name in _names(files, uri):
            yield from find_exports(files, f"{uri.rstrip('/')}/{name}", depth=depth - 1)


def _manifest(files: FileAccess, uri: str) -> Export | None:
    try:
        return read_manifest(files, uri)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except DetectionError:
        raise
    except Exception as error:  # client libraries of object stores raise errors of their own
        raise StorageError(f"{uri} cannot be read: {str(error) or type(error).__name__}") from error


def _names(files: FileAccess, uri: str) -> list[str]:
    try:
        return files.names(uri)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except Exception as error:  # as above
        raise StorageError(f"{uri} cannot be listed: {str(error) or type(error).__name__}") from error


def columns_of(found: Sequence[Found]) -> tuple[ExportColumn, ...]:
    """Return the columns of exports of one table; a column that some of them lack comes after the others.

    Raises:
        StorageError: they are of several tables.
    """
    tables = sorted({export.table for _, export in found})
    if len(tables) > 1:
        raise StorageError(
            f"there are exports of several tables, {', '.join(tables)}: name the folder of one"
        )
    return tuple({c.name: c for _, export in found for c in export.columns}.values())


def aligned(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows with the columns of a schema: null where they have none."""
    import pyarrow as pa

    names = set(batch.schema.names)
    arrays = [
        batch.column(field.name).cast(field.type) if field.name in names else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def read_exports(
    files: FileAccess,
    found: Iterable[Found],
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    model_id: str | None = None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of exports in batches, in the order in which they were stored.

    Args:
        start, end: rows of this half-open span of time alone.
        model_id: rows of this model alone.

    Raises:
        StorageError: a file cannot be read, or the table has no models.
        ConfigurationError: pyarrow is not installed.
    """
    require_pyarrow()
    low, high = start or FIRST, end or LAST
    for folder, export in found:
        if (export.lower or FIRST) >= high or (export.upper or LAST) <= low:
            continue
        if model_id is not None and "model_id" not in {c.name for c in export.columns}:
            raise StorageError(f"table {export.table!r} has no column model_id")
        for file in export.files:
            uri = f"{folder.rstrip('/')}/{file.file}"
            try:
                yield from _read_file(files, uri, export.key, (start, end), model_id)
            except DetectionError:
                raise
            except Exception as error:  # of Parquet, and of client libraries of object stores
                reason = str(error) or type(error).__name__
                raise StorageError(f"{uri} cannot be read: {reason}") from error


def _read_file(
    files: FileAccess,
    uri: str,
    key: str,
    span: tuple[datetime | None, datetime | None],
    model_id: str | None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file; row groups that can have none of them are not read."""
    import pyarrow as pa
    from pyarrow import dataset

    conditions = [
        *([dataset.field(key) >= pa.scalar(span[0], pa.timestamp("us", "UTC"))] if span[0] else []),
        *([dataset.field(key) < pa.scalar(span[1], pa.timestamp("us", "UTC"))] if span[1] else []),
        *([dataset.field("model_id") == model_id] if model_id is not None else []),
    ]
    condition = None
    for part in conditions:
        condition = part if condition is None else condition & part
    with files.open(uri) as file:
        fragment = dataset.ParquetFileFormat().make_fragment(pa.PythonFile(file, mode="r"))
        scanner = fragment.scanner(
            filter=condition, batch_size=BATCH_ROWS, batch_readahead=1, use_threads=False
        )
        yield from (batch for batch in scanner.to_batches() if len(batch))
