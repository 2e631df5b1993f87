"""An Airflow connection to the registry, and the registry's operations on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import psycopg
from airflow.providers.postgres.hooks.postgres import PostgresHook
from psycopg.conninfo import make_conninfo

from airflow_detection.config import settings
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import CycleSpec, Role, require_utc
from airflow_detection.engine.params import ParamsLoader
from airflow_detection.engine.plan import ExecutionPlan, build_plan
from airflow_detection.errors import DetectionError, PlanError
from airflow_detection.hooks.session import require_postgres, session_of
from airflow_detection.store import events, listings, migrations, promotions, registry, roles, snapshots
from airflow_detection.store.connection import CONNECT_TIMEOUT_S, remember_conninfo
from airflow_detection.store.database import Database
from airflow_detection.store.labels import Label, add_labels, known_labels
from airflow_detection.store.promotions import Promotion
from airflow_detection.store.session import limit_session

if TYPE_CHECKING:
    from airflow_detection.evidence.comparison import VersionComparison


class DetectionHook(PostgresHook):
    """Reach the registry through a connection of Airflow, of type `detection` or `postgres`.

    Args:
        detection_conn_id: the connection; `[detection] conn_id` sets what the package itself uses.
        schema: the registry's schema; `[detection] schema` unless given.
    """

    conn_name_attr = "detection_conn_id"
    default_conn_name = "detection_default"
    conn_type = "detection"
    hook_name = "Detection registry"

    def __init__(
        self, detection_conn_id: str = default_conn_name, *, schema: str | None = None, **kwargs: Any
    ) -> None:  # Any: what PostgresHook takes
        super().__init__(detection_conn_id, **kwargs)
        self._schema = schema
        # Further arguments may lead to another database: such a hook has a loader of its own.
        self._own_loader = ParamsLoader(partial(_primary_params, self)) if kwargs else None

    @classmethod
    def configured(cls, configuration: Settings | None = None) -> DetectionHook:
        """The hook that the `[detection]` section describes."""
        section = configuration or settings()
        return cls(section.conn_id, schema=section.schema)

    @property
    def registry_schema(self) -> str:
        """The schema that holds the registry."""
        return self._schema or settings().schema

    def get_conn(self) -> Any:  # Any: the types of PostgresHook
        self.connection = self.connection or self.get_connection(self._conn_id)
        require_postgres(self._conn_id, self.connection.conn_type)
        return super().get_conn()

    def _create_connection(self, conn_args: dict[str, Any]) -> Any:  # Any: the types of PostgresHook
        given = {key: value for key, value in conn_args.items() if value not in (None, "")}
        arguments = {"connect_timeout": CONNECT_TIMEOUT_S} | given
        conn = super()._create_connection(arguments)
        if isinstance(conn, psycopg.Connection):
            options = {key: value for key, value in arguments.items() if isinstance(value, (str, int))}
            remember_conninfo(conn, make_conninfo("", **options))
        return conn

    def connect(self, read_only: bool = False) -> psycopg.Connection[tuple[Any, ...]]:  # noqa: FBT001
        """Open a connection of its own: psycopg 3, autocommit, session time zone UTC.

        Raises:
            ConfigurationError: there is no such Airflow connection, or it gives another driver's.
            RegistryUnavailable: the server did not answer or refused the connection.
        """
        return session_of(self._conn_id, self.get_conn, read_only=read_only)

    def test_connection(self) -> tuple[bool, str]:  # type: ignore[override]  # untyped there
        """Say whether a registry is ready behind the connection: the test button of Airflow's form.

        It looks as tasks do: the schema at this version, and the role that models read as.
        """
        try:
            configuration = settings()
            with self._database() as db:
                migrations.check(db)
                backend = limit_session(db, role=configuration.reader_role)
                number, is_pooled = db.conn.info.server_version, backend["pid"] != db.conn.info.backend_pid
        except (DetectionError, psycopg.Error) as error:
            return False, str(error)
        readers = configuration.reader_role or "the login's own rights"
        return True, (
            f"PostgreSQL {number // 10000}.{number % 10000}{', behind a pooler' if is_pooled else ''}: schema"
            f" {self.registry_schema!r} is at this version, models read with {readers}"
        )

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
            settings = registry.settings_at(db, spec.cycle_id, at, known_at)
        return build_plan(models, strict=False, settings=settings)

    def versions(self, model_id: str | None = None) -> list[registry.RegisteredVersion]:
        """Return the registered versions and the roles they hold now."""
        with self._database() as db:
            return registry.versions(db, model_id)

    def params(self, model_id: str) -> JsonMapping:
        """Return the params of a model's current PRIMARY version, read-only and at most five minutes old.

        While the registry does not answer they are those last read, with a warning in the log. All hooks of
        this process on the same connection and schema share them.

        Raises:
            PlanError: the model is not registered, or has no PRIMARY version now.
            RegistryUnavailable: the registry does not answer, and these params have not been read yet.
        """
        loader = self._own_loader or _shared_loader(self._conn_id, self.registry_schema)
        return loader.get(model_id)

    def add_labels(self, new: Iterable[Label], *, actor: str | None = None) -> int:
        """Add labels, all or none; return how many say something new (see `store.labels`).

        Raises:
            RegistrationError: the database refused a label: an unknown cycle or model.
            ValueError: an instant has no time zone, or an interval ends before it begins.
        """
        with self._database() as db:
            return add_labels(db, new, actor=actor)

    def labels(
        self,
        cycle_id: str,
        *,
        model_id: str | None = None,
        entity_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        known_at: datetime | None = None,
        limit: int | None = None,
    ) -> list[Label]:
        """Return the labels about cycles in [start, end) as known at an instant (None: now), newest first.

        Raises:
            PlanError: `known_at` is in the future.
        """
        with self._database() as db:
            return known_labels(
                db,
                cycle_id,
                model_id=model_id,
                entity_id=entity_id,
                start=start,
                end=end,
                known_at=known_at,
                limit=limit,
            )

    def compare(
        self,
        first: str,
        second: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        known_at: datetime | None = None,
    ) -> VersionComparison:
        """Compare two versions of a model, `model@version` each, over the cycles in [start, end), UTC.

        It is what `airflow detection compare` shows; `known_at` None is now.

        Raises:
            PlanError: an unknown version, two of different models, an empty period, a future `known_at`.
            ConfigurationError: the registered conditions of a promotion are wrong.
        """
        from airflow_detection.config import thresholds
        from airflow_detection.engine import flags
        from airflow_detection.snapshot.comparison import compare_versions

        with self._database() as db:
            return compare_versions(
                db,
                first,
                second,
                start=start,
                end=end,
                known_at=known_at,
                thresholds=thresholds(),
                use_model_registry=flags.use_model_registry(),
            )

    def runs(self, cycle_id: str, at: datetime | None = None) -> list[dict[str, Any]]:  # Any: column values
        """Return the manifests of a cycle (UTC; None: of the newest that has any), replays last.

        A replay has no role.

        Raises:
            PlanError: the cycle is not registered, or `at` is none of its ticks and nothing ran then.
        """
        with self._database() as db:
            return listings.runs(db, cycle_id, at)

    def outputs(
        self,
        model_id: str,
        at: datetime | None = None,
        *,
        version: str | None = None,
        entity_id: str | None = None,
        limit: int = listings.LIMIT,
    ) -> list[dict[str, Any]]:  # Any: column values
        """Return the outputs of a model's champion, or of a version, in one cycle (UTC; None: the newest).

        Rows have `entity_id`, `score`, `version`, `role`, `is_replay`, `outputs` and `input_ref`, the highest
        score first, at most `limit` of them. A replay has no role.

        Raises:
            PlanError: the model is not registered, or `at` is no tick of its cycle and there are no outputs.
            RegistrationError: the version is not registered.
        """
        with self._database() as db:
            return listings.outputs(db, model_id, at, version=version, entity_id=entity_id, limit=limit)

    def output_columns(
        self,
        model_id: str,
        at: datetime | None = None,
        *,
        version: str | None = None,
        entity_id: str | None = None,
        limit: int = listings.LIMIT,
    ) -> dict[str, list[Any]]:  # Any: column values
        """Return `outputs` as columns: one list for each name, all of one length and in the same order.

        Raises:
            PlanError: the model is not registered.
        """
        rows = self.outputs(model_id, at, version=version, entity_id=entity_id, limit=limit)
        return {name: [row[name] for row in rows] for name in listings.OUTPUT_COLUMNS}

    def events(
        self,
        *,
        model_id: str | None = None,
        entity_id: str | None = None,
        has_closed: bool = False,
        limit: int = listings.LIMIT,
    ) -> list[dict[str, Any]]:  # Any: column values
        """Return the open events, or all of them, the one that was seen last first.

        Raises:
            PlanError: the model is not registered.
        """
        with self._database() as db:
            return listings.events(
                db, model_id=model_id, entity_id=entity_id, has_closed=has_closed, limit=limit
            )

    def acknowledge_event(self, event_id: int, *, actor: str | None = None, reason: str = "") -> bool:
        """Record that somebody has seen an open event; False if that is on record already.

        Raises:
            EventError: there is no such event, or it is not open.
        """
        with self._database() as db:
            return events.acknowledge(db, event_id, actor=actor, reason=reason)

    def close_event(self, event_id: int, *, actor: str | None = None, reason: str) -> None:
        """Close an open event: it stays closed although its entity is seen again before `event_gap`.

        Raises:
            EventError: there is no such event, or it is not open.
        """
        with self._database() as db:
            events.close(db, event_id, actor=actor, reason=reason)

    def promotions(self, model_id: str | None = None, *, is_under_way: bool = False) -> list[Promotion]:
        """Return the last promotions and their states, the newest first."""
        with self._database() as db:
            return promotions.promotions(db, model_id=model_id, is_under_way=is_under_way)

    def request_promotion(
        self,
        label: str,
        *,
        reason: str = "",
        watch: timedelta = timedelta(hours=24),
        replay_cycles: int = 0,
    ) -> str:
        """Ask, from a running task, for `model@version` to become PRIMARY; return the id of the Dag's run.

        It starts the Dag `detection_promotion`, in the name of the user who started this task's own run; a
        second user approves it there. A task that is tried again does not ask twice.

        Args:
            watch: how long its cycles are watched once it is in force.
            replay_cycles: in how many past cycles it runs first (see the Dag's params).

        Raises:
            PlanError: the version is not registered.
            PromotionError: nobody started this task's run (a schedule did), or there is no such Dag.
        """
        from airflow_detection.hooks.promotion_request import start_promotion

        with self._database() as db:
            named = registry.named_versions(db, [label])[0]
        conf = {"version": named.label, "reason": reason, "replay_cycles": replay_cycles}
        return start_promotion(conf | {"watch_hours": watch / timedelta(hours=1)})

    def snapshot(self, start: datetime | None = None) -> snapshots.StoredReport | None:
        """Return the stored report of the hour that begins at `start` (UTC; None: the latest), if any.

        Raises:
            RegistryUnavailable: the database did not answer.
        """
        with self._database() as db:
            if start is None:
                return snapshots.last_before(db, datetime.now(UTC))
            return snapshots.hourly(db, require_utc("start", start))

    def rollback(self, model_id: str, *, actor: str | None = None, reason: str) -> Promotion | None:
        """Make the champion before the last promotion PRIMARY again; None if that is done already.

        Raises:
            PromotionError: no promotion made the version PRIMARY that is now.
        """
        with self._database() as db:
            return promotions.roll_back(db, model_id, actor=actor, reason=reason)

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


@cache
def _shared_loader(conn_id: str, schema: str) -> ParamsLoader[str]:
    """Return the loader of a connection and a schema, the same one for as long as the process lives."""
    # A new hook for each load: a hook keeps the Airflow connection that it has looked up once.
    return ParamsLoader(lambda model_id: _primary_params(DetectionHook(conn_id, schema=schema), model_id))


def _primary_params(hook: DetectionHook, model_id: str) -> JsonMapping:
    with hook.connect(read_only=True) as conn:
        db = Database(conn, hook.registry_schema)
        for version in registry.versions(db, model_id):
            if version.role is Role.PRIMARY:
                return version.params
        registry.cycle_of(db, model_id)
    raise PlanError(f"model {model_id!r} has no PRIMARY version now")
