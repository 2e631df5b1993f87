"""A session of the registry's database, opened through an Airflow connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from airflow_detection.errors import ConfigurationError, RegistryUnavailable
from airflow_detection.store.connection import begin_session


def require_postgres(conn_id: str, conn_type: str | None) -> None:
    """Raise ConfigurationError for a connection of another database; one without a type may pass."""
    if conn_type and conn_type not in ("postgres", "postgresql", "detection"):
        raise ConfigurationError(f"connection {conn_id!r} is of type {conn_type!r}: must be 'postgres'")


def session_of(
    conn_id: str, open_connection: Callable[[], Any], *, read_only: bool = False
) -> psycopg.Connection[tuple[Any, ...]]:  # Any: whichever driver Airflow found
    """Open a connection and begin its session: autocommit, UTC, perhaps read-only (see `begin_session`).

    Raises:
        ConfigurationError: there is no such Airflow connection, it gives another driver's, or a setting of
            the server rules the registry out.
        RegistryUnavailable: the server did not answer or refused the connection.
    """
    try:
        conn = open_connection()
    except ConfigurationError:
        raise
    except psycopg.OperationalError as error:
        raise RegistryUnavailable(f"no connection to the registry: {str(error).strip()}") from error
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(f"connection {conn_id!r} is malformed: {error}") from error
    except Exception as error:
        if type(error).__name__ != "AirflowNotFoundException":
            raise
        raise ConfigurationError(
            f"Airflow has no connection {conn_id!r}: add it, or set AIRFLOW_CONN_{conn_id.upper()}"
        ) from error
    if not isinstance(conn, psycopg.Connection):
        conn.close()
        raise ConfigurationError(f"connection {conn_id!r} gave a {type(conn).__module__}, not psycopg 3")
    begin_session(conn, read_only=read_only)
    return conn
