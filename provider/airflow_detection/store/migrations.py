"""Forward-only migrations: each in a transaction of its own, under an advisory lock, with a checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from airflow_detection.errors import MigrationError
from airflow_detection.store.connection import in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.create import NO_LOCK, retry_on_lock
from airflow_detection.store.partitions.plan import UpkeepLimits
from airflow_detection.store.queries import composed, sql_root

MAX_NAMED = 3
"""Pending migrations that are named each; of more the first and the last."""
MAX_IDLE_S = 60.0
"""Seconds after which the server ends a migration whose client does nothing, in a transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Numbered SQL file: of the core, or of the pack whose tables it makes."""

    name: str
    text: str
    pack: str | None = None

    @property
    def checksum(self) -> str:
        """sha256 of the file's text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations(folder: Path | None = None) -> tuple[Migration, ...]:
    """Return the migrations of this version: those of the core, then those of each pack, in order of number.

    A pack is a folder beside the core's files. Its migrations may build upon all of the core, and those of
    the core upon no pack.

    Raises:
        MigrationError: there are none, or two have the same number.
    """
    root = folder or sql_root() / "migrations"
    core = sorted(root.glob("[0-9]*_*.sql"))
    of_packs = sorted(root.glob("*/[0-9]*_*.sql"))
    numbers = [path.name.partition("_")[0] for path in (*core, *of_packs)]
    if not core or len(set(numbers)) != len(numbers):
        raise MigrationError("the migrations are missing, or two have the same number")
    return (*(_read(path) for path in core), *(_read(path, path.parent.name) for path in of_packs))


def _read(path: Path, pack: str | None = None) -> Migration:
    return Migration(name=path.stem, text=path.read_text(encoding="utf-8"), pack=pack)


def packs() -> tuple[str, ...]:
    """Return the names of the packs that have tables of their own."""
    return tuple(sorted({m.pack for m in migrations() if m.pack}))


def installed_packs(db: Database) -> frozenset[str]:
    """Return the packs whose tables the schema has."""
    return _installed(migrations(), _applied(db))


def require_pack(db: Database, pack: str) -> None:
    """Make sure that the schema has the tables of a pack.

    Raises:
        MigrationError: it has not.
    """
    if pack not in installed_packs(db):
        raise MigrationError(
            f"schema {db.schema!r} has no tables of the pack {pack!r}: run"
            f" 'airflow detection db migrate --pack {pack}'"
        )


def migrate(
    db: Database,
    *,
    packs: Iterable[str] = (),
    dry_run: bool = False,
    folder: Path | None = None,
    limits: UpkeepLimits | None = None,
) -> list[str]:
    """Bring the schema to this version, creating it if need be, and return the names of what was applied.

    Several may call this at once: one applies, the others wait and find nothing to do. With `dry_run`
    nothing is changed and the names are those that would be applied. A migration waits for a lock only
    briefly, because all others wait behind it, and is tried again.

    Args:
        packs: packs whose tables are made, too; those that the schema has already are brought up in any case.
        limits: how long a migration waits for a lock, how often, and the pause in between.

    Raises:
        MigrationError: there is no such pack, the connection is not in autocommit mode, a migration failed
            (it left nothing behind) or got no lock, an applied migration was edited, or the database is newer
            than this version.
    """
    available, wanted = migrations(folder), frozenset(packs)
    if unknown := sorted(wanted - {m.pack for m in available}):
        raise MigrationError(f"there is no pack {unknown[0]!r} with tables of its own")
    if dry_run:
        return [m.name for m in _pending(available, _applied(db), wanted, db.schema)]
    if not db.conn.autocommit:
        raise MigrationError("migrations need a connection in autocommit mode")
    with _advisory_lock(db):
        with db.conn.transaction():
            db.conn.execute(_queries(db)["lock_in_transaction"], {"schema": db.schema})
            # Creating a schema takes a right that is needed only this once.
            if not _exists(db):
                db.conn.execute(_queries(db)["create_schema"])
                db.conn.execute(_queries(db)["create_table"])
            pending = _pending(available, _applied(db), wanted, db.schema)
        return [m.name for m in pending if _apply(db, m, limits or UpkeepLimits(attempts=20))]


def check(db: Database) -> None:
    """Make sure that `schema` is exactly at this version.

    Raises:
        MigrationError: migrations are pending, were edited, or the database is newer.
    """
    pending = migrate(db, dry_run=True)
    if pending:
        named = ", ".join(pending) if len(pending) <= MAX_NAMED else f"{pending[0]} to {pending[-1]}"
        raise MigrationError(
            f"schema {db.schema!r} lacks migrations ({named}): run 'airflow detection db migrate'"
        )


def _pending(
    available: Sequence[Migration], applied: Mapping[str, str], wanted: frozenset[str], schema: str
) -> tuple[Migration, ...]:
    edited = [m.name for m in available if applied.get(m.name, m.checksum) != m.checksum]
    if edited:
        raise MigrationError(f"schema {schema!r}: {', '.join(edited)} was edited after it was applied")
    newer = sorted(applied.keys() - {m.name for m in available})
    if newer:
        raise MigrationError(f"schema {schema!r} is newer than this version: it has {', '.join(newer)}")
    series = (None, *sorted(wanted | _installed(available, applied)))
    return tuple(m for pack in series for m in _pending_of(pack, available, applied, schema))


def _pending_of(
    pack: str | None, available: Sequence[Migration], applied: Mapping[str, str], schema: str
) -> Sequence[Migration]:
    series = [m for m in available if m.pack == pack]
    pending = [m for m in series if m.name not in applied]
    last = max((m.name for m in series if m.name in applied), default="")
    if pending and pending[0].name < last:
        raise MigrationError(f"schema {schema!r}: {pending[0].name} was added before {last}")
    return pending


def _installed(available: Sequence[Migration], applied: Mapping[str, str]) -> frozenset[str]:
    return frozenset(m.pack for m in available if m.pack and m.name in applied)


def _queries(db: Database) -> Mapping[str, sql.Composed]:
    return db.queries("detection_migrations")


def _exists(db: Database) -> bool:
    row = db.conn.execute(_queries(db)["table_exists"], {"schema": db.schema}).fetchone()
    return bool(row and row[0])


def _applied(db: Database) -> dict[str, str]:
    return dict(db.conn.execute(_queries(db)["applied"]).fetchall()) if _exists(db) else {}


@contextmanager
def _advisory_lock(db: Database) -> Iterator[None]:
    params = {"schema": db.schema, "pid": db.conn.info.backend_pid}
    db.conn.execute(_queries(db)["lock"], params)
    try:
        yield
    finally:
        if not db.conn.closed:
            db.conn.execute(_queries(db)["unlock"], params)


def _apply(db: Database, migration: Migration, limits: UpkeepLimits) -> bool:
    """Apply a migration; return False if another migrator, behind a pooler, has done it."""
    try:
        return retry_on_lock(lambda: _try(db, migration, limits), limits)
    except NO_LOCK as error:
        raise MigrationError(
            f"migration {migration.name} got no lock in {limits.attempts} attempts, each of "
            f"{limits.lock_timeout.total_seconds():g} s: another session uses the tables; try again later"
        ) from error
    except (psycopg.Error, KeyError, IndexError, ValueError) as error:
        raise MigrationError(f"migration {migration.name} failed: {error}") from error


def _try(db: Database, migration: Migration, limits: UpkeepLimits) -> bool:
    queries = _queries(db)
    with db.conn.transaction():
        db.conn.execute(queries["lock_in_transaction"], {"schema": db.schema})
        if migration.name in _applied(db):
            return False
        db.conn.execute(
            queries["limit"], {"lock_ms": in_ms(limits.lock_timeout), "idle_ms": in_ms(MAX_IDLE_S)}
        )
        db.conn.execute(queries["act_as_owner"])
        db.conn.execute(composed(migration.text, db.schema))
        db.conn.execute(queries["record"], {"name": migration.name, "checksum": migration.checksum})
    return True
