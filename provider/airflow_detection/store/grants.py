"""The least-privilege roles of `sql/roles.sql`, logins in them, and what a login may do beyond reading."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from airflow_detection.errors import MigrationError
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import storage_errors
from airflow_detection.store.queries import composed, sql_root

ROLES = ("detection_reader", "detection_writer", "detection_admin")


def grant(db: Database) -> None:
    """Create the roles that are missing and grant all their rights in one schema; can be repeated.

    Raises:
        MigrationError: the schema is not migrated, or the login may not do this; nothing was changed.
    """
    text = (sql_root() / "roles.sql").read_text(encoding="utf-8")
    try:
        with db.conn.transaction():
            db.conn.execute(composed(text, db.schema))
    except psycopg.Error as error:
        raise MigrationError(f"the roles could not be granted: {str(error).strip()}") from error


def grant_login(db: Database, login: str, roles: tuple[str, ...], *, password: str) -> bool:
    """Make a login a member of roles; return whether it was created, with `password`, or existed already.

    The server is sent the password's verifier, never the password: a log of statements holds no secret.

    Raises:
        MigrationError: this session may not do so; nothing was changed.
    """
    name, pgconn = Identifier(login), db.conn.pgconn
    try:
        with db.conn.transaction():
            is_new = not db.conn.execute(db.queries("session")["login"], {"login": login}).fetchone()
            if is_new:
                verifier = pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256")
                create = SQL("create role {} login password {}")
                db.conn.execute(create.format(name, Literal(verifier.decode())))
            members = SQL(", ").join(map(Identifier, roles))
            db.conn.execute(SQL("grant {} to {}").format(members, name))
    except psycopg.Error as error:
        raise MigrationError(f"the login {login!r} could not be granted: {str(error).strip()}") from error
    return is_new


def rights_beyond_reading(db: Database) -> Iterator[str]:
    """Describe what this session's login may do although models need only read, one sentence each.

    The login counts, not the role that it acts as: a query may take that back.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    with storage_errors():
        row = db.conn.execute(db.queries("session")["rights"], {"schema": db.schema}).fetchone()
    login, is_superuser, can_replicate, has_files, owned, writable = row or ("", False, False, False, 0, 0)
    reader, tables = f"models read as {login!r}", f"tables of the schema {db.schema!r}"
    if is_superuser:
        yield f"{reader}, a superuser: a query may read files of the server and change its settings"
        return
    if can_replicate:
        yield f"{reader}, which may replicate: a query may make a replication slot"
    if has_files:
        yield f"{reader}, which may use files or programs of the server: a query may, too"
    if owned:
        yield f"{reader}, which owns {owned} {tables}: a query may change them"
    elif writable:
        yield f"{reader}, which may write {writable} {tables}: a query may, too"
