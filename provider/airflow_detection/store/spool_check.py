"""Whether the encoded outputs that another process has written are what they should be."""

from __future__ import annotations

import os

from airflow_detection.errors import StorageError
from airflow_detection.store.spool import Spool

_FIELDS = 4
_MARK_BYTES = 16


def check_spool(spool: Spool) -> None:
    """Check that each row has four fields and ends where they end.

    A row goes behind columns that say whose it is: one that went on after its fields could bring a row of
    another version with it.

    Raises:
        StorageError: it is not so, or there are not as many rows as the spool says.
    """
    mark = os.urandom(_MARK_BYTES)  # one that the writer of the file could not know
    for chunk in spool.chunks(mark):
        before, *rows = chunk.split(mark)
        if before or not all(_is_row(row) for row in rows):
            raise StorageError("the encoded outputs of the version are no rows")


def _is_row(row: bytes) -> bool:
    at, size = 0, len(row)
    for _ in range(_FIELDS):
        length = int.from_bytes(row[at : at + 4], "big", signed=True)
        if at + 4 > size or length < -1:
            return False
        at += 4 + max(length, 0)
    return at == size
