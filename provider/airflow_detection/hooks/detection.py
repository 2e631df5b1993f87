"""An Airflow connection to the registry, and the registry's operations on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.postgres.hooks.postgres import PostgresHook

from airflow_detection.config import settings
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import CycleSpec, Role
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.hooks.session import CONNECT_TIMEOUT_S, session_of
from airflow_detection.store import registry, roles
from airflow_detection.store.database import Database

if TYPE_CHECKING:
    import psycopg


class DetectionHook(PostgresHook):
    """Reach the registry through a `postgres` connection of Airflow.

    Args:
        detection_conn_id: the connection; `[detection] conn_id` sets what the package itself uses.
        schema: the registry's schema; `[detection] schema` unless given.
    """

    conn_name_attr = "detection_conn_id"
    default_conn_name = "detection_default"
    conn_type = "postgres"
    hook_name = "Detection registry"

    def __init__(
        self, detection_conn_id: str = default_conn_name, *, schema: str | None = None, **kwargs: Any
    ) -> None:  # Any: what PostgresHook takes
        super().__init__(detection_conn_id, **kwargs)
        self._schema = schema

    @classmethod
    def configured(cls, configuration: Settings | None = None) -> DetectionHook:
        """The hook that the `[detection]` section describes."""
        section = configuration or settings()
        return cls(section.conn_id, schema=section.schema)

    @property
    def registry_schema(self) -> str:
        """The schema that holds the registry."""
        return self._schema or settings().schema

    def _create_connection(self, conn_args: dict[str, Any]) -> Any:  # Any: the types of PostgresHook
        return super()._create_connection({"connect_timeout": CONNECT_TIMEOUT_S} | conn_args)

    def connect(self, read_only: bool = False) -> psycopg.Connection[tuple[Any, ...]]:  # noqa: FBT001
        """Open a connection of its own: psycopg 3, autocommit, session time zone UTC.

        Raises:
            ConfigurationError: there is no such Airflow connection, or it gives another driver's.
            RegistryUnavailable: the server did not answer or refused the connection.
        """
        return session_of(self._conn_id, self.get_conn, read_only=read_only)

    @property
    def _conn_id(self) -> str:
        return str(getattr(self, self.conn_name_attr))

    @contextmanager
    def _database(self) -> Iterator[Database]:
        with self.connect() as conn:
            yield Database(conn, self.registry_schema)

    def cycles(self) -> list[CycleSpec]:
        """Return every registered cycle."""
        with self._database() as db:
            return registry.cycle_specs(db)

    def plan(
        self, cycle_id: str, at: datetime | None = None, known_at: datetime | None = None
    ) -> ExecutionPlan:
        """Return the plan of a cycle as of `at` (UTC; None: now), as known at `known_at` (None: at `at`).

        Raises:
            PlanError: the cycle is not registered, or `known_at` is in the future.
        """
        with self._database() as db:
            spec = registry.cycle_spec(db, cycle_id)
            models = registry.models_at(db, spec.cycle_id, at, known_at)
        return build_plan(models, strict=False)

    def versions(self, model_id: str | None = None) -> list[registry.RegisteredVersion]:
        """Return the registered versions and the roles they hold now."""
        with self._database() as db:
            return registry.versions(db, model_id)

    def promote(self, label: str, *, actor: str | None = None, reason: str = "") -> bool:
        """Make `model@version` PRIMARY from now on; return whether anything changed."""
        return self._assign(label, Role.PRIMARY, actor, reason)

    def retire(self, label: str, *, actor: str | None = None, reason: str = "") -> bool:
        """End the role that `model@version` holds; return whether anything changed."""
        return self._assign(label, None, actor, reason)

    def _assign(self, label: str, role: Role | None, actor: str | None, reason: str) -> bool:
        with self._database() as db:
            named = registry.named_versions(db, [label])[0]
            return roles.assign_role(
                db,
                model_id=named.model_id,
                version=named.version,
                role=role,
                actor=actor,
                reason=reason,
            )
