"""Rows of a table as Arrow tables, in Parquet files, and their digest; pyarrow is imported where it works."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from airflow_detection.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_CHUNK_BYTES, MAX_CHUNK_ROWS = 32 << 20, 1 << 17


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """Column of an exported table: its name, the name of its type, and how its definition writes that."""

    name: str
    type_name: str
    declared: str


def require_pyarrow() -> None:
    """Raise ConfigurationError unless pyarrow is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "Parquet files need pyarrow, which is not installed: pip install"
            " 'airflow-provider-detection[parquet]'"
        ) from error


def arrow_schema(columns: Sequence[ExportColumn]) -> pa.Schema:
    """Return the schema of the columns; each field names its type in Postgres in its metadata.

    Types that Arrow has not, numeric and jsonb among them, are text as Postgres writes it.
    """
    import pyarrow as pa

    types = {
        "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(),
        "float4": pa.float32(), "float8": pa.float64(), "timestamptz": pa.timestamp("us", "UTC"),
        "timestamp": pa.timestamp("us"), "date": pa.date32(),
    }  # fmt: skip
    return pa.schema(
        [
            pa.field(c.name, types.get(c.type_name, pa.string()), metadata={"postgres_type": c.declared})
            for c in columns
        ]
    )


def tables_of(csv_rows: Iterable[Any], schema: pa.Schema) -> Iterator[pa.Table]:  # Any: buffers
    """Yield tables of at most `MAX_CHUNK_ROWS` rows from the rows of a COPY in CSV format, in order.

    Args:
        csv_rows: each the bytes of one row, as the server sends them.

    Raises:
        StorageError: a value has no place in its Arrow type, such as an infinite time.
    """
    chunk, size = list[bytes](), 0
    for row in csv_rows:
        chunk.append(bytes(row))
        size += len(chunk[-1])
        if size >= MAX_CHUNK_BYTES or len(chunk) >= MAX_CHUNK_ROWS:
            yield _table(chunk, schema)
            chunk, size = [], 0
    if chunk:
        yield _table(chunk, schema)


def _table(chunk: Sequence[bytes], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    content = b"".join(chunk)
    try:
        table = csv.read_csv(
            io.BytesIO(content),
            read_options=csv.ReadOptions(
                column_names=schema.names, block_size=len(content) + 1, use_threads=False
            ),
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types=schema, null_values=[""], true_values=["t"], false_values=["f"],
                strings_can_be_null=True, quoted_strings_can_be_null=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        raise StorageError(f"a row cannot be written to Parquet: {error}") from error
    if len(table) != len(chunk):
        raise StorageError(f"{len(chunk)} rows were sent, and {len(table)} understood")
    return table.replace_schema_metadata(None).cast(schema)


class Digest:
    """Digest of rows in their order, and their number; the same for tables that are cut at the same rows."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.rows = 0

    def add(self, table: pa.Table) -> None:
        """Add the rows of a table: of each column which values are null, and the bytes of the others."""
        self.rows += len(table)
        for name, column in zip(table.schema.names, table.columns, strict=True):
            self._hash.update(f"{name}:{len(table)};".encode())
            for array in column.chunks if column.num_chunks == 1 else [column.combine_chunks()]:
                self._add(array)

    def _add(self, array: Any) -> None:  # Any: an array of any type
        import numpy as np
        import pyarrow as pa

        valid = array.is_valid()
        self._hash.update(valid.to_numpy(zero_copy_only=False).tobytes())
        if pa.types.is_string(array.type):
            filled = array.fill_null("")
            _, offsets_buffer, data = filled.buffers()
            offsets = np.frombuffer(offsets_buffer, np.int32, len(filled) + 1, filled.offset * 4)
            self._hash.update(np.diff(offsets).tobytes())
            if data is not None:
                self._hash.update(memoryview(data)[offsets[0] : offsets[-1]])
            return
        if pa.types.is_temporal(array.type):
            array = array.cast(pa.int32() if pa.types.is_date(array.type) else pa.int64())
        zero = pa.scalar(0, pa.int8()).cast(array.type)
        self._hash.update(array.fill_null(zero).to_numpy(zero_copy_only=False).tobytes())

    def hex(self) -> str:
        """Return the digest so far, in hex."""
        return self._hash.hexdigest()


def write_parquet(target: IO[bytes], tables: Iterable[pa.Table], schema: pa.Schema) -> Digest:
    """Write tables as the row groups of a Parquet file, compressed with zstd; return their digest."""
    from pyarrow import parquet

    digest = Digest()
    with parquet.ParquetWriter(target, schema, compression="zstd", write_page_checksum=True) as writer:
        for table in tables:
            digest.add(table)
            writer.write_table(table, row_group_size=max(len(table), 1))
    return digest


def digest_of(file: IO[bytes]) -> Digest:
    """Read a Parquet file again, row group by row group, and return the digest of what is in it."""
    from pyarrow import parquet

    digest = Digest()
    with parquet.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as stored:
        for number in range(stored.num_row_groups):
            digest.add(stored.read_row_group(number, use_threads=False))
    return digest
