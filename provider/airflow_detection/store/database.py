"""The registry's database: a connection, and the schema that it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_detection.store.connection import Connection
from airflow_detection.store.queries import load_queries

if TYPE_CHECKING:
    from psycopg import sql


@dataclass(frozen=True, slots=True)
class Database:
    """One schema of the package, reached through one connection."""

    conn: Connection
    schema: str = "detection"

    def queries(self, table: str) -> Mapping[str, sql.Composed]:
        """The named statements about a table, with this schema's name in them."""
        return load_queries(table, self.schema)
