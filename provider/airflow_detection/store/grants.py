"""The least-privilege roles of `sql/roles.sql`."""

from __future__ import annotations

import psycopg

from airflow_detection.errors import MigrationError
from airflow_detection.store.database import Database
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
