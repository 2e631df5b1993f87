"""Errors of the driver, translated into those of the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from airflow_detection.domain.specs import Cycle
from airflow_detection.domain.sqlstates import may_pass
from airflow_detection.errors import (
    MigrationError,
    MissingPartition,
    RegistrationError,
    RegistryBusy,
    RegistryUnavailable,
    StorageError,
)


def unavailable(
    error: psycopg.Error, what: str = "the database did not answer"
) -> RegistryUnavailable | None:
    """Return an error that may pass as the package's own; None if the database refused for good.

    Without a SQLSTATE the driver itself failed: the connection was lost, or never made.
    """
    text = str(error).strip()
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return RegistryBusy(f"another session holds a lock: {text}")
    if error.sqlstate is None:
        is_lost = isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
        return RegistryUnavailable(f"{what}: {text}") if is_lost else None
    return RegistryUnavailable(f"{what}: {text}") if may_pass(error.sqlstate) else None


def is_unmigrated(error: psycopg.Error) -> bool:
    """Tell whether a statement failed for want of the registry's tables."""
    return isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName))


def no_registry() -> MigrationError:
    """Make the error of a database that is not migrated."""
    return MigrationError("the database has no registry, or an older one: run 'airflow detection db migrate'")


@contextmanager
def storage_errors(cycle: Cycle | None = None) -> Iterator[None]:
    """Turn the driver's errors into the package's own.

    Raises:
        RegistryUnavailable: the database did not answer.
        MissingPartition: no table partition holds the cycle's month.
        MigrationError: the registry's tables do not exist.
        StorageError: the database refused what was written.
    """
    try:
        yield
    except psycopg.Error as error:
        if (passing := unavailable(error)) is not None:
            raise passing from error
        if is_unmigrated(error):
            raise no_registry() from error
        is_without_month = isinstance(error, psycopg.errors.CheckViolation) and not error.diag.constraint_name
        if cycle and is_without_month:
            raise MissingPartition(error.diag.table_name or "", cycle.started_at) from error
        raise StorageError(str(error).strip()) from error


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn the driver's errors into those of the registry.

    Raises:
        MigrationError: the registry's tables do not exist.
        RegistryUnavailable: the database did not answer.
        RegistrationError: the database refused a value.
        StorageError: the database refused for another reason, such as a right that the login lacks.
    """
    try:
        yield
    except psycopg.Error as error:
        if (passing := unavailable(error, "the registry's database did not answer")) is not None:
            raise passing from error
        if is_unmigrated(error):
            raise no_registry() from error
        message = error.diag.message_primary or str(error).strip()
        if isinstance(error, (psycopg.IntegrityError, psycopg.DataError)):
            raise RegistrationError(message) from error
        raise StorageError(message) from error
