"""An Airflow connection, opened with psycopg alone: a task would pay more for importing PostgresHook."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from airflow_detection.hooks.session import require_postgres, session_of
from airflow_detection.store.connection import CONNECT_TIMEOUT_S, remember_conninfo

IGNORED_EXTRAS = frozenset(
    {
        *("iam", "redshift", "redshift-serverless", "cursor", "cluster-identifier", "workgroup-name"),
        *("aws_conn_id", "sqlalchemy_scheme", "sqlalchemy_query", "azure_conn_id"),
    }
)
"""Extras that PostgresHook keeps from libpq."""
HOOK_EXTRAS = ("iam", "cursor")
"""Extras that ask for more than libpq can do: such a connection is opened by the hook."""


def connect(conn_id: str, *, read_only: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection of its own like that of `DetectionHook.connect`; raises what `session_of` raises."""
    return session_of(conn_id, lambda: _open(conn_id), read_only=read_only)


def connect_arguments(connection: Any) -> dict[str, Any]:  # Any: Airflow's Connection; libpq's own
    """Return libpq's arguments: an Airflow connection's fields and each extra that PostgresHook passes on.

    Without those that are empty, which would hide what a `service` or the environment says.
    """
    extras = {key: value for key, value in connection.extra_dejson.items() if key not in IGNORED_EXTRAS}
    arguments = {
        "host": connection.host,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema,
        "port": connection.port,
        **extras,
    }
    return {key: value for key, value in arguments.items() if value not in (None, "")}


def _open(conn_id: str) -> Any:  # Any: whichever driver the hook found
    from airflow.sdk import Connection

    connection: Any = Connection.get(conn_id)  # Any: untyped there; it masks the secrets
    require_postgres(conn_id, connection.conn_type)
    if any(connection.extra_dejson.get(name) for name in HOOK_EXTRAS):
        from airflow_detection.hooks.detection import DetectionHook

        return DetectionHook(conn_id).get_conn()
    arguments = {"connect_timeout": CONNECT_TIMEOUT_S} | connect_arguments(connection)
    conn = psycopg.connect(**arguments)
    remember_conninfo(conn, make_conninfo("", **arguments))
    return conn


def conninfo(connection: Any) -> str:  # Any: Airflow's Connection, whose get() is untyped
    """Return the libpq connection string with which `connect` opens an Airflow connection.

    Raises:
        psycopg.ProgrammingError: an extra is no option of libpq.
    """
    return make_conninfo("", **connect_arguments(connection))
