"""Files of a cycle's input rows on this machine, for its other versions."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from airflow_detection.domain.files import replacing

if TYPE_CHECKING:
    from airflow_detection.store.columns import ArrayColumns

log = logging.getLogger(__name__)

FOLDER = "inputs"
"""Folder of the files, in the state directory."""

MAX_AGE_S = 86_400.0
"""Age from which a file belongs to no cycle that still runs."""

_PARTS = ("data", "ends", "is_null")


class InputFiles:
    """The files of one cycle: one for each digest of its rows, and one alone as a rule.

    Args:
        state_dir: the files are in a folder of it.
        facts: what tells the cycle from all others.
    """

    def __init__(self, state_dir: Path, facts: Sequence[object]) -> None:
        self._folder = state_dir / FOLDER
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
            remove_old(self._folder.parent)
            with replacing(self._path(digest)) as file:
                np.savez(file, **arrays)
        except OSError as error:
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
        paths = self._folder.glob(f"{self._key}-*.npz") if digest is None else [self._path(digest)]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the kept input rows of the cycle could not be removed: %s", error)

    def _path(self, digest: str) -> Path:
        return self._folder / f"{self._key}-{hashlib.sha256(digest.encode()).hexdigest()[:32]}.npz"


def remove_old(state_dir: Path, max_age_s: float = MAX_AGE_S) -> int:
    """Remove the files of this machine that no cycle needs any more; return how many there were."""
    count = 0
    for path in (state_dir / FOLDER).glob("*.npz"):
        try:
            if time.time() - path.stat().st_mtime > max_age_s:
                path.unlink()
                count += 1
        except OSError:  # another process has removed it
            continue
    return count
