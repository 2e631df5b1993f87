"""Forward-only migrations: each in a transaction of its own, under an advisory lock, with a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from airflow_detection.errors import MigrationError
from airflow_detection.store.database import Database
from airflow_detection.store.queries import composed, sql_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Numbered SQL file."""

    name: str
    text: str

    @property
    def checksum(self) -> str:
        """sha256 of the file's text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """Return the migrations of this version, in order of number.

    Raises:
        MigrationError: there are none, or two have the same number.
    """
    paths = sorted((folder or sql_root() / "migrations").glob("[0-9]*_*.sql"))
    numbers = [path.name.partition("_")[0] for path in paths]
    if not paths or len(set(numbers)) != len(numbers):
        raise MigrationError("the migrations are missing, or two have the same number")
    return tuple(Migration(name=path.stem, text=path.read_text(encoding="utf-8")) for path in paths)


def migrate(
    db: Database,
    *,
    dry_run: bool = False,
    folder: Path | None = None,
) -> list[str]:
    """Bring the schema to this version, creating it if need be, and return the names of what was applied.

    Several may call this at once: one applies, the others wait and find nothing to do. With `dry_run`
    nothing is changed and the names are those that would be applied.

    Raises:
        MigrationError: the connection is not in autocommit mode, a migration failed (it left nothing
            behind), an applied migration was edited, or the database is newer than this version.
    """
    available = migrations(folder)
    if dry_run:
        return [m.name for m in _pending(available, _applied(db), db.schema)]
    if not db.conn.autocommit:
        raise MigrationError("migrations need a connection in autocommit mode")
    with _advisory_lock(db):
        # Creating a schema takes a right that is needed only this once.
        if not _exists(db):
            db.conn.execute(_queries(db)["create_schema"])
            db.conn.execute(_queries(db)["create_table"])
        pending = _pending(available, _applied(db), db.schema)
        for migration in pending:
            _apply(db, migration)
    return [m.name for m in pending]


def check(db: Database) -> None:
    """Make sure that `schema` is exactly at this version.

    Raises:
        MigrationError: migrations are pending, were edited, or the database is newer.
    """
    pending = migrate(db, dry_run=True)
    if pending:
        raise MigrationError(f"schema {db.schema!r} lacks the migrations {', '.join(pending)}")


def _pending(
    available: Sequence[Migration], applied: Mapping[str, str], schema: str
) -> tuple[Migration, ...]:
    edited = [m.name for m in available if applied.get(m.name, m.checksum) != m.checksum]
    if edited:
        raise MigrationError(f"schema {schema!r}: {', '.join(edited)} was edited after it was applied")
    newer = sorted(applied.keys() - {m.name for m in available})
    if newer:
        raise MigrationError(f"schema {schema!r} is newer than this version: it has {', '.join(newer)}")
    pending = tuple(m for m in available if m.name not in applied)
    if pending and applied and pending[0].name < max(applied):
        raise MigrationError(f"schema {schema!r}: {pending[0].name} was added before {max(applied)}")
    return pending


def _queries(db: Database) -> Mapping[str, sql.Composed]:
    return db.queries("detection_migrations")


def _exists(db: Database) -> bool:
    row = db.conn.execute(_queries(db)["table_exists"], {"schema": db.schema}).fetchone()
    return bool(row and row[0])


def _applied(db: Database) -> dict[str, str]:
    return dict(db.conn.execute(_queries(db)["applied"]).fetchall()) if _exists(db) else {}


@contextmanager
def _advisory_lock(db: Database) -> Iterator[None]:
    db.conn.execute(_queries(db)["lock"], {"schema": db.schema})
    try:
        yield
    finally:
        if not db.conn.broken:
            db.conn.execute(_queries(db)["unlock"], {"schema": db.schema})


def _apply(db: Database, migration: Migration) -> None:
    try:
        with db.conn.transaction():
            db.conn.execute(_queries(db)["act_as_owner"])
            db.conn.execute(composed(migration.text, db.schema))
            record = {"name": migration.name, "checksum": migration.checksum}
            db.conn.execute(_queries(db)["record"], record)
    except (psycopg.Error, KeyError, IndexError, ValueError) as error:
        raise MigrationError(f"migration {migration.name} failed: {error}") from error
