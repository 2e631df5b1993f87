"""Connections to the registry's database, opened by a connection string."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import conninfo as libpq
from psycopg.types.datetime import TimestamptzLoader

from airflow_detection.errors import ConfigurationError, RegistryUnavailable
from airflow_detection.store.queries import load_queries

if TYPE_CHECKING:
    from psycopg.abc import Buffer

Connection = psycopg.Connection[tuple[Any, ...]]  # Any: a row holds what its statement selects


CONNECT_TIMEOUT_S = 5
"""Seconds to wait for each address of a server, where a connection string does not say it."""

_SILENCE = {
    "keepalives_idle": ("TCP_KEEPIDLE", 10),
    "keepalives_interval": ("TCP_KEEPINTVL", 5),
    "keepalives_count": ("TCP_KEEPCNT", 4),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT", 30_000),
}
"""By libpq's name: the socket's option and value by which half a minute of silence ends a connection."""

_CONNINFOS: WeakKeyDictionary[Connection, str] = WeakKeyDictionary()


def in_ms(limit: float | timedelta) -> str:
    """Return a limit (seconds or a timedelta) as a Postgres setting in ms, at least 1: 0 means no limit."""
    limit_s = limit.total_seconds() if isinstance(limit, timedelta) else limit
    return str(max(1, round(limit_s * 1000)))


_TEXTS = {"DateStyle": "ISO", "IntervalStyle": "postgres", "client_encoding": "UTF8"}
"""What the driver needs of a session's settings that it is told of."""


class _UtcLoader(TimestamptzLoader):
    """Loader of instants in UTC, for a session in another time zone."""

    def load(self, data: Buffer) -> datetime:
        return super().load(data).astimezone(UTC)


def begin_session(conn: Connection, *, read_only: bool = False) -> None:
    """Make a new connection what the package expects: autocommit, read committed, UTC, perhaps read-only.

    One that cannot be made so is closed.

    Where the connection string says nothing else, the connection is lost after half a minute in which the
    server's machine does not answer: the system's own limits are a quarter of an hour, and over two hours.

    Behind a pooler in transaction mode nothing is set in the session, which is others' as well: instants are
    converted here, and a read-only connection is one transaction until it is closed.

    Raises:
        ConfigurationError: a setting of the server, the database or the role rules the registry out.
        RegistryUnavailable: the connection was lost.
    """
    try:
        _limit_silence(conn)
        _begin(conn, read_only=read_only)
    except psycopg.Error as error:
        conn.close()
        raise RegistryUnavailable(f"the connection was lost: {str(error).strip()}") from error
    except ConfigurationError:
        conn.close()
        raise


def _limit_silence(conn: Connection) -> None:
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        if sock.family not in (socket.AF_INET, socket.AF_INET6):
            return
        given = conn.info.get_parameters()
        for name, (option, value) in _SILENCE.items():
            if name not in given and hasattr(socket, option):  # each system has its own
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _begin(conn: Connection, *, read_only: bool) -> None:
    conn.autocommit = True
    conn.prepare_threshold = None  # the next transaction may have a session without the prepared statement
    conn.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    session = load_queries("session", "public")
    params = {"pid": conn.info.backend_pid, "read_only": read_only}
    is_direct, replication_role, _ = conn.execute(session["begin"], params).fetchone() or (True, "", 0)
    if not is_direct:
        _check_texts(conn)
        conn.adapters.register_loader("timestamptz", _UtcLoader)
    if replication_role == "replica":
        _run_triggers(conn, is_direct=is_direct)
    if read_only and not is_direct:
        hold_transaction(conn)


def hold_transaction(conn: Connection) -> None:
    """Keep to one read-only transaction from now on, so that a pooler gives it one session."""
    conn.autocommit = False
    conn.read_only = True


def _check_texts(conn: Connection) -> None:
    for name, needed in _TEXTS.items():
        value = conn.info.parameter_status(name) or ""
        if not value.startswith(needed):
            raise ConfigurationError(
                f"{name} is {value!r} behind a pooler, which shares its sessions: must be {needed!r}; "
                f"alter role ... set {name} = {needed!r}"
            )


def _run_triggers(conn: Connection, *, is_direct: bool) -> None:
    """Let triggers run in a session whose default leaves them out, or say why that cannot be."""
    problem = "session_replication_role is 'replica': the registry's triggers and foreign keys would not work"
    if not is_direct:
        raise ConfigurationError(f"{problem}, and behind a pooler it cannot be set for this session alone")
    try:
        conn.execute(load_queries("session", "public")["run_triggers"])
    except psycopg.errors.InsufficientPrivilege as error:
        raise ConfigurationError(f"{problem}, and this login may not set it") from error


def connect(conninfo: str, *, connect_timeout_s: int | None = None) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a connection, and begin its session (see `begin_session`).

    Args:
        conninfo: a connection string or URI, as libpq reads it.
        connect_timeout_s: seconds to wait for each address of the server; those of `conninfo` when None.

    Raises:
        ConfigurationError: `conninfo` is malformed, or a setting of the server rules the registry out.
        RegistryUnavailable: the server did not answer or refused the connection.
    """
    try:
        own_timeout_s = libpq.conninfo_to_dict(conninfo).get("connect_timeout") or CONNECT_TIMEOUT_S
        target = libpq.make_conninfo(conninfo, connect_timeout=connect_timeout_s or own_timeout_s)
    except psycopg.ProgrammingError as error:
        raise ConfigurationError("the connection string is malformed") from error
    try:
        conn = psycopg.connect(target, autocommit=True)
    except psycopg.OperationalError as error:
        raise RegistryUnavailable(f"no connection to the database: {str(error).strip()}") from error
    remember_conninfo(conn, target)
    begin_session(conn)
    return conn


def remember_conninfo(conn: Connection, conninfo: str) -> None:
    """Note what a connection was opened with: the driver keeps only the host and address that answered."""
    _CONNINFOS[conn] = conninfo


def conninfo_of(conn: Connection) -> str:
    """Return the connection string that opens another connection like this one, with all its hosts."""
    if (conninfo := _CONNINFOS.get(conn)) is not None:
        return conninfo
    return libpq.make_conninfo(**conn.info.get_parameters(), password=conn.info.password or None)


def address_of(conn: Connection) -> tuple[str, int]:
    """Return the host and the port of a connection's server: of several the first, whichever answered."""
    named = libpq.conninfo_to_dict(conninfo_of(conn))
    host = str(named.get("host") or conn.info.host).split(",")[0]
    port = str(named.get("port") or conn.info.port).split(",")[0]
    return ("localhost" if not host or host.startswith("/") else host), int(port)
