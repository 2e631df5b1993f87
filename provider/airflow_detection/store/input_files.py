"""Files of a cycle's input rows, on this machine or in an object store, for its other versions."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from airflow_detection.domain.files import replacing

if TYPE_CHECKING:
    from airflow_detection.store.columns import ArrayColumns

log = logging.getLogger(__name__)

MAX_AGE_S = 86_400.0
"""Age from which a file belongs to no cycle that still runs."""

_PARTS = ("data", "ends", "is_null")


class InputFiles:
    """The files of one cycle: one for each digest of its rows, and one alone as a rule.

    Args:
        folder: of the files of all cycles: a local path, or one of an object store.
        facts: what tells the cycle from all others.
    """

    def __init__(self, folder: Any, facts: Sequence[object]) -> None:  # Any: as above
        self._folder = folder
        self._key = hashlib.sha256(orjson.dumps(facts, default=str)).hexdigest()[:32]

    def write(self, digest: str, columns: ArrayColumns) -> bool:
        """Write a file, and remove those that are too old; return whether that worked."""
        import numpy as np

        facts = [[name, column.oid] for name, column in columns.columns.items()]
        head = orjson.dumps([columns.row_count, facts])
        arrays: dict[str, Any] = {"head": np.frombuffer(head, dtype=np.uint8)}  # Any: arrays of numpy
        for number, column in enumerate(columns.columns.values()):
            for part in _PARTS:
                if (array := getattr(column, part)) is not None:
                    arrays[f"{number}.{part}"] = array
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            remove_old(self._folder)
            with replacing(self._path(digest)) as file:
                np.savez(file, **arrays)
        except Exception as error:  # client libraries of object stores raise their own
            log.warning("the input rows of the cycle could not be kept: %s", error)
            return False
        return True

    def read(self, digest: str) -> ArrayColumns | None:
        """Return the columns in a file, in the memory of this process; None if none can be read.

        They need not have the digest: somebody may have changed the file.
        """
        import numpy as np

        from airflow_detection.store.columns import ArrayColumn, ArrayColumns
        from airflow_detection.store.copy_out import loads

        try:
            with self._path(digest).open("rb") as file, np.load(file, allow_pickle=False) as found:
                row_count, facts = orjson.loads(found["head"].tobytes())
                columns = {}
                for number, (name, oid) in enumerate(facts):
                    parts = {p: found[f"{number}.{p}"] for p in _PARTS if f"{number}.{p}" in found}
                    columns[name] = ArrayColumn(**parts, oid=oid, load=loads(oid))
                return ArrayColumns(columns, row_count)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever is in the file, the query is asked instead
            log.warning("the kept input rows of the cycle cannot be used: %s", error)
            return None

    def remove(self, digest: str | None = None) -> None:
        """Remove a file, or all of the cycle."""
        try:
            paths = self._folder.glob(f"{self._key}-*.npz") if digest is None else [self._path(digest)]
            for path in paths:
                with suppress(FileNotFoundError):
                    path.unlink()
        except Exception as error:  # as above
            log.warning("the kept input rows of the cycle could not be removed: %s", error)

    def _path(self, digest: str) -> Any:  # Any: as the folder
        return self._folder / f"{self._key}-{hashlib.sha256(digest.encode()).hexdigest()[:32]}.npz"


def remove_old(folder: Any, max_age_s: float = MAX_AGE_S) -> int:  # Any: as `InputFiles`
    """Remove the files of a folder that no cycle needs any more; return how many there were.

    Those of a store that does not say how old they are stay.
    """
    count = 0
    for path in chain(folder.glob("*.npz"), folder.glob(".part-*")):
        try:
            if 0 < _changed_at_s(path) < time.time() - max_age_s:
                path.unlink()
                count += 1
        except OSError:  # another process has removed it
            continue
    return count


def _changed_at_s(path: Any) -> float:  # Any: as above
    """Return when a file was written, in seconds since 1970; 0 where its store does not say it."""
    found = path.stat()
    return float(found.st_mtime or getattr(found, "st_birthtime", 0))
