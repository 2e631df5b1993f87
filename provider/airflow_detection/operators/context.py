"""Parts that every operator takes from its task's context and configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from airflow_detection.domain.cron import neighbours, zoned
from airflow_detection.domain.settings import SECTION, Settings
from airflow_detection.domain.specs import Mode, require_utc
from airflow_detection.engine.artifact_files import open_path, write_path
from airflow_detection.errors import (
    ConfigurationError,
    DetectionError,
    ExpiredPartition,
    MigrationError,
    PlanError,
    RegistrationError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath
    from upath import UPath

    from airflow_detection.store.connection import Connection
    from airflow_detection.store.database import Database


TERMINAL = (ConfigurationError, ExpiredPartition, MigrationError, PlanError, RegistrationError, ValueError)


def cycle_started_at(context: Context, log: logging.Logger | Any) -> datetime:  # Any: Airflow's own logger
    """The cycle of this run: its logical date, else (a manual run without one) the time it was due."""
    logical_date = context.get("logical_date")
    if logical_date is not None:
        return require_utc("logical_date", logical_date)
    run_after: datetime = context["dag_run"].run_after
    log.warning("the run has no logical date: the cycle is %s, when it was due", run_after.isoformat())
    return require_utc("run_after", run_after)


def cycle_of_run(context: Context, log: logging.Logger | Any) -> datetime:  # Any: as above
    """The cycle of this run, which is a tick of its Dag's cron expression.

    A manual run may have any logical date. `[detection] manual_runs` says what becomes of one between two
    ticks: `refuse` it, or `snap` to the tick before it. One without a logical date is for the last tick.

    Raises:
        AirflowFailException: it is refused.
    """
    started_at = cycle_started_at(context, log)
    schedule = schedule_of(context)
    if schedule is None or getattr(context.get("dag_run"), "run_type", None) != "manual":
        return started_at
    earlier, later = neighbours(schedule, started_at)
    if earlier == started_at:
        return started_at
    if context.get("logical_date") is not None and not settings_of().snaps_manual_runs:
        raise AirflowFailException(
            f"the run is for {started_at.isoformat()}, which is no tick of {schedule!r}: trigger it for"
            f" {earlier.isoformat()} or {later.isoformat()}, or set [{SECTION}] manual_runs to snap"
        )
    log.warning(
        "the run is for %s, between two ticks: the cycle is %s", started_at.isoformat(), earlier.isoformat()
    )
    return earlier


def schedule_of(context: Context) -> str | None:
    """Return the Dag's schedule; None if it is no cron expression."""
    timetable = getattr(context.get("dag"), "timetable", None)
    expression, timezone = getattr(timetable, "expression", None), getattr(timetable, "timezone", None)
    if not isinstance(expression, str):
        return None
    return zoned(expression, str(getattr(timezone, "name", timezone)))


def instant_of(name: str, value: object) -> datetime:
    """Return an argument that is an instant with a time zone, as such or as text, in UTC.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return require_utc(name, value)
    raise ValueError(f"{name} is {value!r}: must be an instant such as 2026-01-31T00:00:00Z")


def param(context: Context, name: str) -> Any:  # Any: a Dag param
    """A Dag param; None where the Dag has no such param."""
    params: Mapping[str, Any] = context.get("params") or {}
    return params.get(name)


def mode_of(context: Context) -> Mode:
    """Where this run's plan comes from; `as_of` unless the run says otherwise."""
    return Mode(param(context, "mode") or Mode.AS_OF)


@contextmanager
def terminal_errors() -> Iterator[None]:
    """Turn the errors that trying again cannot mend into a failure without a retry."""
    try:
        yield
    except TERMINAL as error:
        told = isinstance(error, DetectionError)  # its message says it all; the frames would be our own
        raise AirflowFailException(f"{type(error).__name__}: {error}") from (None if told else error)


@contextmanager
def open_database(conn_id: str, settings: Settings) -> Iterator[Database]:
    """The registry's database, on a connection of its own."""
    from airflow_detection.store.database import Database

    with connect(conn_id) as conn:
        yield Database(conn, settings.schema)


def connect(conn_id: str, *, read_only: bool = False) -> Connection:
    """Open a connection; the driver is imported where a task runs alone: parsing must stay cheap."""
    from airflow_detection.hooks import connection

    return connection.connect(conn_id, read_only=read_only)


def reader_conninfo_of(settings: Settings) -> str | None:
    """The connection string that models in processes of their own read with; None for the registry's own."""
    if settings.reader_conn_id is None:
        return None
    from airflow_detection.store.connection import conninfo_of

    with connect(settings.reader_conn_id, read_only=True) as conn:
        return conninfo_of(conn)


@contextmanager
def open_artifact(uri: str) -> Iterator[IO[bytes]]:
    """Open the file of a URI: through Airflow's connections, as in `s3://conn_id@bucket/key`, by fsspec, or
    from MLflow's registry, as in `models:/name/version`.

    Raises:
        ImportError, ValueError: nothing that is installed reads its scheme.
        OSError: it cannot be read; client libraries raise others.
    """
    from airflow_detection.adapters.mlflow_model import SCHEME, open_registered

    if uri.startswith(SCHEME):
        with open_registered(uri) as file:
            yield file
        return
    with open_path(_storage_path(uri), uri) as file:
        yield file


def write_artifact(uri: str, content: IO[bytes]) -> None:
    """Write a file to a URI, through Airflow's connections or by fsspec, as `open_artifact` reads it.

    Raises:
        ImportError, ValueError: nothing that is installed writes its scheme.
        OSError: it cannot be written; client libraries raise others.
    """
    from airflow_detection.adapters.mlflow_model import SCHEME

    if uri.startswith(SCHEME):
        raise ValueError("versions of MLflow's registry are made by MLflow alone")
    write_path(_storage_path(uri), content)


def _storage_path(uri: str) -> ObjectStoragePath | UPath:
    from airflow.sdk import ObjectStoragePath
    from airflow.sdk.io import has_fs
    from upath import UPath

    scheme = uri.partition("://")[0] if "://" in uri else "file"
    return ObjectStoragePath(uri) if has_fs(scheme) else UPath(uri)


def settings_of() -> Settings:
    """The `[detection]` section; paths of object stores are reached through Airflow's connections."""
    from airflow_detection import config

    return replace(config.settings(), path_of=_storage_path)
