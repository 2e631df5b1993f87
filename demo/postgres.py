"""The two databases of the demo: in an embedded PostgreSQL of its own, or in an existing server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from demo.embedded_postgres import NOT_DURABLE, one_line, server_program, wait_until_ready
from demo.errors import DemoError
from demo.programs import Supervisor

REGISTRY_DATABASE = "detection"
METADATA_DATABASE = "airflow"
AIRFLOW_LOGIN = "detection"
MODELS_LOGIN = "detection_models"

SERVER_OPTIONS = {
    **NOT_DURABLE,
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
    "autovacuum_naptime": "20s",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """Connection strings, as libpq reads them, of the registry and of Airflow's metadata.

    `owner` reaches the registry as the one who migrates it. In the embedded server `registry` and `models`,
    which models read through, are logins with the rights that they need; elsewhere `models` is None and
    `registry` the same as `owner`.
    `where` describes both for people, without a password.
    """

    owner: str
    registry: str
    metadata: str
    where: str
    models: str | None = None


def embedded(
    supervisor: Supervisor, state: Path, *, port: int, password: str, login_password: str
) -> Databases:
    """Start the embedded server on 127.0.0.1:`port` and make its two databases.

    Raises:
        DemoError: the server could not be initialised or started; its log is named.
    """
    program = server_program(
        state / "pgdata",
        log=supervisor.log_dir / "postgres.log",
        options=SERVER_OPTIONS,
        port=port,
        password=password,
    )
    supervisor.start(program)
    server = f"postgresql://postgres:{password}@127.0.0.1:{port}/"  # the password is URL-safe
    wait_until_ready(f"{server}postgres", check=supervisor.check)
    for name in (METADATA_DATABASE, REGISTRY_DATABASE):
        _ensure_database(f"{server}postgres", name)
    return Databases(
        owner=server + REGISTRY_DATABASE,
        registry=f"postgresql://{AIRFLOW_LOGIN}:{login_password}@127.0.0.1:{port}/{REGISTRY_DATABASE}",
        models=f"postgresql://{MODELS_LOGIN}:{login_password}@127.0.0.1:{port}/{REGISTRY_DATABASE}",
        metadata=server + METADATA_DATABASE,
        where=f"embedded, 127.0.0.1:{port}",
    )


def existing(dsn: str) -> Databases:
    """Use the registry database that `dsn` names, and make one beside it for Airflow's metadata.

    Raises:
        DemoError: the server cannot be reached, or the metadata database cannot be made.
    """
    try:
        parameters = conninfo_to_dict(dsn)
        with psycopg.connect(dsn, connect_timeout=10) as conn:
            registry = conn.info.dbname
            host = f"{conn.info.host}:{conn.info.port}"
    except psycopg.Error as exc:
        raise DemoError(f"DSN: {one_line(exc)}") from exc
    metadata = f"{registry}_airflow"
    _ensure_database(dsn, metadata)
    return Databases(
        owner=dsn,
        registry=dsn,
        metadata=make_conninfo("", **{**parameters, "dbname": metadata}),
        where=f"{host}, databases {registry} and {metadata}",
    )


def _ensure_database(server: str, name: str) -> None:
    try:
        with psycopg.connect(server, autocommit=True, connect_timeout=10) as conn:
            if not conn.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
                conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    except psycopg.Error as exc:
        raise DemoError(f"the database {name} cannot be made: {one_line(exc)}") from exc
