"""Errors of the driver, translated into those of the package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from airflow_detection.domain.specs import Cycle
from airflow_detection.errors import (
    MigrationError,
    MissingPartition,
    RegistrationError,
    RegistryUnavailable,
    StorageError,
)


@contextmanager
def storage_errors(cycle: Cycle | None = None) -> Iterator[None]:
    """Turn the driver's errors into the package's own.

    Raises:
        RegistryUnavailable: the database did not answer.
        MissingPartition: no table partition holds the cycle's month.
        StorageError: the database refused what was written.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise RegistryUnavailable(f"the database did not answer: {str(error).strip()}") from error
    except psycopg.errors.CheckViolation as error:
        if cycle and error.diag.constraint_name is None:
            raise MissingPartition(error.diag.table_name or "", cycle.started_at) from error
        raise StorageError(str(error).strip()) from error
    except psycopg.Error as error:
        raise StorageError(str(error).strip()) from error


@contextmanager
def registry_errors() -> Iterator[None]:
    """Turn the driver's errors into those of the registry.

    Raises:
        MigrationError: the registry's tables do not exist.
        RegistryUnavailable: the database did not answer.
        RegistrationError: the database refused a value.
    """
    try:
        yield
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise MigrationError("the database has no registry: run 'airflow detection db migrate'") from error
    except psycopg.OperationalError as error:
        raise RegistryUnavailable(f"the registry's database did not answer: {str(error).strip()}") from error
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        raise RegistrationError(error.diag.message_primary or str(error).strip()) from error
