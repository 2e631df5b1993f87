"""A cycle's input rows, read once for the versions that run in tasks of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from airflow_detection.cycle.planning import OpenedCycle
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode
from airflow_detection.store import cycle_runs
from airflow_detection.store.database import Database
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.input_files import InputFiles, remove_old

log = logging.getLogger(__name__)


def shared_inputs(
    db: Database, settings: Settings, opened: OpenedCycle, query: Callable[[], Inputs]
) -> Inputs:
    """Return the cycle's input rows: those that another version has kept, else what `query` gives.

    The registry has the digest of the rows that were kept first; the rows that a file gives are used only if
    they have it, in the memory of this process.

    Raises:
        StorageError, RegistryUnavailable: the database refused or did not answer.
    """
    if settings.shared_inputs_mib is None or not opened.is_recorded:
        return query()
    files = _files(db, settings, opened.cycle.cycle_id, opened.cycle.started_at, opened.mode)
    if files is None:
        return query()
    digest = cycle_runs.inputs_digest(db, opened.cycle, opened.mode, opened.opened_at)
    if digest is not None:
        return _kept(files, digest, opened) or query()
    inputs = query()
    return _keep(db, files, opened, inputs, settings.shared_inputs_mib)


def remove_inputs(db: Database, settings: Settings, cycle_id: str, started_at: datetime, mode: Mode) -> None:
    """Remove the rows that are kept of a cycle that has ended."""
    if (files := _files(db, settings, cycle_id, started_at, mode)) is not None:
        files.remove()


def remove_old_inputs(settings: Settings) -> None:
    """Remove the rows of cycles that did not close; retention goes on where the folder cannot be reached."""
    try:
        remove_old(inputs_folder(settings))
    except Exception as error:  # client libraries of object stores raise their own
        log.warning("old input rows could not be removed: %s", error)


def inputs_folder(settings: Settings) -> Any:  # Any: a local path, or one of an object store
    """Return the folder of the rows of all cycles: that of this machine, or the one that it shares."""
    uri = settings.shared_inputs_folder
    if uri is None:
        return settings.state_dir / "inputs"
    local = uri.removeprefix("file://")
    return Path(local) if local.startswith("/") else settings.path_of(uri)


def _files(
    db: Database, settings: Settings, cycle_id: str, started_at: datetime, mode: Mode
) -> InputFiles | None:
    """Return the files of a cycle; None where nothing that is installed reads the folder's scheme."""
    info = db.conn.info
    at = started_at.astimezone(UTC).isoformat()
    facts = (info.host, info.port, info.dbname, db.schema, cycle_id, at, mode.value)
    try:
        return InputFiles(inputs_folder(settings), facts)
    except (ImportError, ValueError) as error:
        log.warning("the input rows of cycle %s cannot be shared: %s", cycle_id, error)
        return None


def _kept(files: InputFiles, digest: str, opened: OpenedCycle) -> Inputs | None:
    """Return the rows in the file if they have the digest; None without them."""
    began = perf_counter()
    columns = files.read(digest)
    if columns is None:
        return None
    if columns.digest() != digest:
        log.warning("the kept input rows of cycle %s have another digest", opened.cycle.cycle_id)
        return None
    inputs = with_profiles(Inputs(columns), opened.spec.time_key)
    return replace(inputs, read_ms=(perf_counter() - began) * 1000)


def _keep(db: Database, files: InputFiles, opened: OpenedCycle, inputs: Inputs, least_mib: float) -> Inputs:
    """Keep rows that were read just now, if they are the first; else return the first, if they are here."""
    from airflow_detection.store.columns import ArrayColumns  # numpy

    columns = inputs.columns
    if not isinstance(columns, ArrayColumns) or inputs.digest is None or columns.size < least_mib * 2**20:
        return inputs
    if not files.write(inputs.digest, columns):
        return inputs
    digest = cycle_runs.keep_inputs(db, opened.cycle, opened.mode, opened.opened_at, inputs.digest)
    if digest == inputs.digest:
        return inputs
    files.remove(inputs.digest)
    return inputs if digest is None else _kept(files, digest, opened) or inputs
