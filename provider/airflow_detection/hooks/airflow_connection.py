"""Opening an Airflow connection with psycopg alone: a task would pay more for importing PostgresHook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from airflow_detection.errors import ConfigurationError, RegistryUnavailable
from airflow_detection.store.queries import load_queries

CONNECT_TIMEOUT_S = 5
IGNORED_EXTRAS = frozenset(
    {
        *("iam", "redshift", "redshift-serverless", "cursor", "cluster-identifier", "workgroup-name"),
        *("aws_conn_id", "sqlalchemy_scheme", "sqlalchemy_query", "azure_conn_id"),
    }
)
"""Extras that PostgresHook keeps from libpq."""
HOOK_EXTRAS = ("iam", "cursor")
"""Extras that ask for more than libpq can: such a connection is opened by the hook."""


def connect(conn_id: str, *, read_only: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection of its own like that of `DetectionHook.connect`; raises what `session_of` raises."""
    return session_of(conn_id, lambda: _dialled(conn_id), read_only=read_only)


def session_of(
    conn_id: str, dial: Callable[[], Any], *, read_only: bool = False
) -> psycopg.Connection[tuple[Any, ...]]:  # Any: whichever driver Airflow found
    """Open a connection and make its session what the package expects: autocommit, UTC, perhaps read-only.

    Raises:
        ConfigurationError: there is no such Airflow connection, or it gives another driver's.
        RegistryUnavailable: the server did not answer or refused the connection.
    """
    try:
        conn = dial()
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
    conn.autocommit = True
    session = load_queries("session", "public")
    conn.execute(session["use_utc_to_read" if read_only else "use_utc"])
    return conn


def connect_arguments(held: Any) -> dict[str, Any]:  # Any: Airflow's Connection; libpq's own
    """What libpq is told: the fields of an Airflow connection, and each extra that PostgresHook passes on."""
    extras = {key: value for key, value in held.extra_dejson.items() if key not in IGNORED_EXTRAS}
    return {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "host": held.host,
        "user": held.login,
        "password": held.password,
        "dbname": held.schema,
        "port": held.port,
        **extras,
    }


def _dialled(conn_id: str) -> Any:  # Any: whichever driver the hook found
    from airflow.sdk import Connection

    held: Any = Connection.get(conn_id)  # Any: untyped there; it masks the secrets
    if any(held.extra_dejson.get(name) for name in HOOK_EXTRAS):
        from airflow_detection.hooks.detection import DetectionHook

        return DetectionHook(conn_id).get_conn()
    return psycopg.connect(**connect_arguments(held))
