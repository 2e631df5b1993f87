"""The registry: cycles, models, versions, and the history of who held which role when.

A question about a past instant has one answer for ever: plans are read under a shared advisory lock; changes
are made under an exclusive one and take effect at an instant that is read after taking it, so that no change
can take effect before a plan that has been read; nor does it where the clock has stepped back since.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import orjson
import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb, set_json_loads

from airflow_detection.domain.scores import EventRule
from airflow_detection.domain.specs import (
    Artifact,
    CycleSettings,
    CycleSpec,
    Execution,
    ModelSpec,
    Role,
    VersionSpec,
    artifact_problems,
    require_id,
    require_plain,
    require_utc,
)
from airflow_detection.errors import ClockBehind, PlanError, RegistrationError, hint
from airflow_detection.store.connection import in_ms
from airflow_detection.store.database import Database
from airflow_detection.store.driver_errors import registry_errors
from airflow_detection.store.json_bounds import problems_of, unusable_reason

Row = dict[str, Any]  # Any: a row holds what its statement selects
MAX_LOOKBACK = timedelta(days=36_500)
MAX_STEP_BACK = timedelta(hours=1)
"""How far the clock may be behind what is on record: a change takes effect that much later, or is refused."""
CHANGE_IDLE_S = 15.0
"""Seconds after which the server ends a change whose client does nothing: it was stopped, or cut off."""
LOCK_WAIT_S = 60.0
"""Seconds to wait for the registry's lock, longer than a change that is stopped holds it."""
_LONG_NUMBER = re.compile(rb"[0-9]{16}")
"""What may be a whole number beyond 64 bits, which orjson reads as a float."""
_strict_json = partial(json.dumps, allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """A version as registered: its own entry point (None: the model's), and the role it holds now, if any.

    `is_founding`: the role is one of the first of its model, and may begin before it was recorded.
    """

    version_id: int
    model_id: str
    version: str
    params: Mapping[str, Any]  # Any: a JSON object
    artifact: Artifact | None
    entrypoint: str | None
    notes: str
    created_at: datetime
    role: Role | None
    since: datetime | None
    is_founding: bool = False

    @property
    def label(self) -> str:
        """`model@version`, as people write it."""
        return f"{self.model_id}@{self.version}"


def fetch(db: Database, table: str, name: str, params: Mapping[str, object] | None = None) -> list[Row]:
    """Run one named statement and return its rows, an empty list for a statement that returns none."""
    with registry_errors(), db.conn.cursor(row_factory=dict_row) as cursor:
        set_json_loads(loads, cursor)
        cursor.execute(db.queries(table)[name], params)
        try:
            return cursor.fetchall() if cursor.description else []
        except (ValueError, OverflowError, RecursionError, psycopg.DataError) as error:
            raise RegistrationError(f"a row of {table} cannot be read: {error}") from error


def loads(text: str | bytes) -> Any:  # Any: JSON
    """Read JSON of the database, at the speed of orjson where that keeps every number as it is."""
    raw = text.encode() if isinstance(text, str) else text
    return json.loads(raw) if _LONG_NUMBER.search(raw) else orjson.loads(raw)


cycle_rows = partial(fetch, table="detection_cycles")
settings_rows = partial(fetch, table="detection_cycle_settings")
model_rows = partial(fetch, table="detection_models")
role_rows = partial(fetch, table="detection_model_roles")


@contextmanager
def with_shared_lock(db: Database, *, limit_s: float | None = None) -> Iterator[None]:
    """One transaction in which the registry cannot change; plans are read, and recorded, inside it.

    Args:
        limit_s: seconds that each statement inside, and the wait for the lock, may take; None leaves the
            session's own limit of statements.

    Raises:
        RegistryBusy: a change had not ended in time.
    """
    limit_ms = None if limit_s is None else in_ms(limit_s)
    params = {"schema": db.schema, "wait_ms": limit_ms or in_ms(LOCK_WAIT_S), "limit_ms": limit_ms}
    with registry_errors(), db.conn.transaction():
        role_rows(db, name="lock_for_reading", params=params)
        yield


@contextmanager
def with_exclusive_lock(db: Database) -> Iterator[None]:
    """One transaction that alone may change the registry; the server ends it if its client does nothing.

    Raises:
        RegistryBusy: another change had not ended in time.
    """
    params = {"schema": db.schema, "wait_ms": in_ms(LOCK_WAIT_S), "idle_ms": in_ms(CHANGE_IDLE_S)}
    with registry_errors(), db.conn.transaction():
        role_rows(db, name="lock_for_change", params=params)
        yield


def clock(db: Database) -> datetime:
    """Return the registry's clock, UTC."""
    return require_utc("now", role_rows(db, name="now")[0]["now"])


def settled_until(db: Database, cycle_id: str) -> datetime:
    """Return the instant up to which no change can affect a cycle any more, UTC: the newest that was planned,
    or the registry's clock.
    """
    newest = cycle_rows(db, name="newest_planned", params={"cycle_id": cycle_id})[0]["newest"]
    now = clock(db)
    return now if newest is None else max(now, require_utc("newest", newest))


def instant_of_change(db: Database, model_id: str) -> datetime:
    """Return the instant at which a change of a model takes effect, as `instants_of_change`."""
    cycle_of(db, model_id)
    return instants_of_change(db, [model_id])[model_id]


def instants_of_change(db: Database, model_ids: Sequence[str]) -> dict[str, datetime]:
    """Return the instants at which changes of models take effect; call it under the exclusive lock.

    Each is the registry's clock, unless that has stepped back: then it is a microsecond after the newest
    instant in the model's history, and after the newest cycle that was planned.

    Raises:
        ClockBehind: the clock is more than `MAX_STEP_BACK` behind them.
    """
    now = clock(db)
    rows = role_rows(db, name="newest_of_models", params={"model_ids": list(model_ids)})
    return {row["model_id"]: _instant_behind(row, now) for row in rows}


def _instant_behind(row: Row, now: datetime) -> datetime:
    newest = None if row["newest"] is None else require_utc("newest", row["newest"])
    if newest is None or newest < now:
        return now
    if newest > now + MAX_STEP_BACK:
        raise ClockBehind(
            f"the registry's clock is at {now.isoformat()}, {newest - now} behind what model"
            f" {row['model_id']!r} and its cycle have on record: must be at most {MAX_STEP_BACK} behind"
        )
    return newest + timedelta(microseconds=1)


def _require_lookback(row: Row) -> None:
    if not timedelta() < row["lookback"] <= MAX_LOOKBACK:  # the driver misreads longer ones
        raise RegistrationError(f"lookback is not between 0 and {MAX_LOOKBACK.days} days")


def _cycle_spec(row: Row) -> CycleSpec:
    _require_lookback(row)
    start_date = require_utc("start_date", row["start_date"])
    parsed = {"execution": Execution(row["execution"]), "start_date": start_date, "tags": tuple(row["tags"])}
    return CycleSpec(**row | parsed)


def _model_spec(row: Row, versions: Sequence[VersionSpec] = ()) -> ModelSpec:
    return ModelSpec(**{**row, "depends_on": tuple(row["depends_on"]), "versions": tuple(versions)})


def _version_spec(row: Row) -> VersionSpec:
    version = VersionSpec(**{**row, "role": Role(row["role"]), "artifact": Artifact.of(row["artifact"])})
    if reason := unusable_reason(version.params):
        raise RegistrationError(f"{version.label} cannot be read: params{reason}")
    return version


def cycle_ids(db: Database) -> list[str]:
    """Return the id of every registered cycle, in order, even if its other columns cannot be read."""
    return [row["cycle_id"] for row in cycle_rows(db, name="ids")]


def cycle_specs(db: Database, cycle_ids: Sequence[str] | None = None) -> list[CycleSpec]:
    """Return every registered cycle, or those of these ids, in order of id."""
    ids = None if cycle_ids is None else list(cycle_ids)
    return [_cycle_spec(row) for row in cycle_rows(db, name="all", params={"cycle_ids": ids})]


def cycle_spec(db: Database, cycle_id: str) -> CycleSpec:
    """Return one cycle; PlanError, with the nearest name, if it is not registered."""
    for spec in cycle_specs(db, [cycle_id]):
        return spec
    near = hint(cycle_id, (spec.cycle_id for spec in cycle_specs(db)))
    raise PlanError(f"cycle {cycle_id!r} is not registered{near}")


def settings_at(
    db: Database, cycle_id: str, at: datetime | None, known_at: datetime | None = None
) -> CycleSettings:
    """Return what a cycle read at `at` (None: now), as known at `known_at` (None: at `at`), see `models_at`.

    Raises:
        PlanError: the cycle is not registered.
        RegistrationError: a stored value cannot be read: it was not stored by this package.
    """
    with with_shared_lock(db):
        instant = clock(db) if at is None else require_utc("at", at)
        recorded_by = instant if known_at is None else require_utc("known_at", known_at)
        params = {"cycle_id": cycle_id, "at": instant, "known_at": recorded_by}
        for row in settings_rows(db, name="at", params=params):
            _require_lookback(row)
            return CycleSettings(**row)
    raise PlanError(f"cycle {cycle_id!r} has no settings on record at {instant.isoformat()}")


def model_specs(db: Database) -> list[ModelSpec]:
    """Return every registered model as it is now, without versions, in order of its id."""
    return [_model_spec(row) for row in model_rows(db, name="all", params={"model_id": None})]


def promotion_of(db: Database, model_id: str) -> Mapping[str, Any]:  # Any: a JSON object
    """Return the conditions of a promotion that a model's registration sets; PlanError if it is unknown."""
    for row in model_rows(db, name="all", params={"model_id": model_id}):
        return dict(row["promotion"])
    raise PlanError(f"model {model_id!r} is not registered")


def event_rule(db: Database, model_id: str) -> EventRule:
    """Return which scores of a model make events today; of one that is not registered the default."""
    for row in model_rows(db, name="events", params={"model_id": model_id}):
        return EventRule.of(row["events"])
    return EventRule()


def switches(db: Database, cycle_id: str) -> dict[str, Row]:
    """Return `is_enabled` and `events` of the models of a cycle as they are today, by model id."""
    return {
        row.pop("model_id"): row for row in model_rows(db, name="switches", params={"cycle_id": cycle_id})
    }


def cycle_of(db: Database, model_id: str) -> str:
    """Return the cycle that a model belongs to; PlanError, with the nearest name, if it is not registered."""
    for row in model_rows(db, name="all", params={"model_id": model_id}):
        return str(row["cycle_id"])
    near = hint(model_id, (spec.model_id for spec in model_specs(db)))
    raise PlanError(f"model {model_id!r} is not registered{near}")


def models_at(
    db: Database, cycle_id: str, at: datetime | None, known_at: datetime | None = None
) -> list[ModelSpec]:
    """Return the models of a cycle with the roles and dependencies in force at `at` (None: now).

    Args:
        at: the instant in question, UTC.
        known_at: what was recorded later does not count, corrections included; `at` unless given. Founding
            rows count as known from the instant at which they start.

    Returns:
        The models that have held a role by then, in order of id; one whose roles have all ended is there
        without versions. For `at` not in the future the answer never changes.

    Raises:
        PlanError: `known_at` is in the future: the answer could still change.
        RegistrationError: a stored value cannot be read: it was not stored by this package.
    """
    return models_of_cycles_at(db, [cycle_id], at, known_at)[cycle_id]


def models_of_cycles_at(
    db: Database, cycle_ids: Sequence[str], at: datetime | None, known_at: datetime | None = None
) -> dict[str, list[ModelSpec]]:
    """Return what `models_at` returns for each of several cycles, in as many statements as for one."""
    with with_shared_lock(db):
        now = clock(db)
        instant = now if at is None else require_utc("at", at)
        recorded_by = instant if known_at is None else require_utc("known_at", known_at)
        if known_at is not None and recorded_by > now:
            raise PlanError(f"what is known at {recorded_by.isoformat()} cannot be told yet")
        params = {"cycle_ids": list(cycle_ids), "at": instant, "known_at": recorded_by}
        models = model_rows(db, name="at", params=params)
        versions: dict[str, list[VersionSpec]] = defaultdict(list)
        for row in role_rows(db, name="at", params=params):
            versions[row["model_id"]].append(_version_spec(row))
    found: dict[str, list[ModelSpec]] = {cycle_id: [] for cycle_id in cycle_ids}
    for row in models:
        found[row["cycle_id"]].append(_model_spec(row, versions[row["model_id"]]))
    return found


def retired_versions(db: Database) -> set[int]:
    """Return the ids of the versions that have held a role and hold none any more."""
    return {row["version_id"] for row in role_rows(db, name="retired")}


def named_versions(db: Database, labels: Sequence[str]) -> list[VersionSpec]:
    """Return versions by their labels, `model@version`, as replays; PlanError names an unknown one."""
    specs = []
    for label in labels:
        model_id, _, version = label.partition("@")
        rows = role_rows(db, name="by_label", params={"model_id": model_id, "version": version})
        if not rows:
            raise PlanError(_unknown_version(db, label))
        row = rows[0] | {"artifact": Artifact.of(rows[0]["artifact"])}
        specs.append(VersionSpec(**row, role=Role.SHADOW, is_replay=True))
    return specs


def version_id_of(db: Database, label: str) -> int:
    """Return the id of `model@version`; RegistrationError, with the nearest label, if it is unknown."""
    model_id, _, version = label.partition("@")
    rows = role_rows(db, name="by_label", params={"model_id": model_id, "version": version})
    if not rows:
        raise RegistrationError(_unknown_version(db, label))
    return int(rows[0]["version_id"])


def _unknown_version(db: Database, label: str) -> str:
    if "@" not in label:
        return f"{label!r} names no version: write model@version"
    return f"version {label!r} is not registered{hint(label, (v.label for v in versions(db)))}"


def versions(db: Database, model_id: str | None = None) -> list[RegisteredVersion]:
    """Return the registered versions, of one model or of all, by model and order of registration."""
    rows = role_rows(db, name="versions", params={"model_id": model_id})
    return [
        RegisteredVersion(
            **{
                **row,
                "role": Role(row["role"]) if row["role"] else None,
                "artifact": Artifact.of(row["artifact"]),
            }
        )
        for row in rows
    ]


def put_cycle(db: Database, spec: CycleSpec) -> None:
    """Register a cycle, or replace all its settings; what it reads is kept as a history by the database.

    Raises:
        ValueError, RegistrationError: as `put_cycles`.
    """
    put_cycles(db, [spec])


def put_cycles(db: Database, specs: Sequence[CycleSpec]) -> None:
    """Register cycles, or replace all their settings: all of them, or none.

    Raises:
        ValueError: an id is empty or too long or not plain, or a start date has no time zone.
        RegistrationError: the database refuses a value.
    """
    rows = []
    for spec in specs:
        require_plain("cycle_id", require_id("cycle_id", spec.cycle_id))
        values = {name: getattr(spec, name) for name in spec.__dataclass_fields__}
        values |= {"start_date": require_utc("start_date", spec.start_date), "tags": list(spec.tags)}
        for name in ("owner_links", "default_args", "deadline"):
            values[name] = Jsonb(dict(values[name]), dumps=_strict_json)
        rows.append(values)
    with with_exclusive_lock(db), registry_errors(), db.conn.cursor() as cursor:
        cursor.executemany(db.queries("detection_cycles")["put"], rows)


def put_model(db: Database, spec: ModelSpec) -> None:
    """Register a model, or replace its settings and dependencies; `put_version` registers its versions.

    Raises:
        ValueError, RegistrationError: as `put_models`.
    """
    put_models(db, [spec])


def put_models(db: Database, specs: Sequence[ModelSpec]) -> None:
    """Register models, or replace their settings and dependencies: all of them, or none.

    Dependencies are kept as a history once a model has held a role.

    Raises:
        ValueError: an id is empty or too long, or it or one that it depends on is not plain.
        RegistrationError: unknown cycle, or a setting that past plans rest on would change.
    """
    for spec in specs:
        require_plain("model_id", require_id("model_id", spec.model_id))
        for upstream in spec.depends_on:
            require_plain("depends_on", upstream)
    values = {
        name: [getattr(spec, name) for spec in specs]
        for name in ModelSpec.__dataclass_fields__
        if name not in {"versions", "depends_on"}
    }
    for name in ("task_options", "promotion", "events"):
        values[name] = [Jsonb(options and dict(options), dumps=_strict_json) for options in values[name]]
    edges = [(spec.model_id, upstream) for spec in specs for upstream in sorted(set(spec.depends_on))]
    with with_exclusive_lock(db):
        model_rows(db, name="put", params=values)
        params: Row = {
            "model_ids": values["model_id"],
            "model_id": [model_id for model_id, _ in edges],
            "depends_on": [upstream for _, upstream in edges],
        }
        instants = instants_of_change(db, params["model_ids"]) or {"": clock(db)}
        rows = model_rows(db, name="without_history", params=params)
        params |= {"founding": [row["model_id"] for row in rows], "now": max(instants.values())}
        params["model_ids"] = sorted(set(params["model_ids"]) - set(params["founding"]))
        for name in ("forget_dependencies", "supersede_dependencies", "add_dependencies"):
            model_rows(db, name=name, params=params)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """Version to be registered; its entry point is the model's where it is None."""

    model_id: str
    version: str
    params: Mapping[str, Any]  # Any: a JSON object
    artifact: Artifact | None = None
    entrypoint: str | None = None
    notes: str = ""


def put_version(
    db: Database,
    *,
    model_id: str,
    version: str,
    params: Mapping[str, Any],  # Any: a JSON object
    artifact: Artifact | None = None,
    entrypoint: str | None = None,
    notes: str = "",
) -> int:
    """Register a version and return its id; the same content again changes nothing.

    Raises:
        ValueError, RegistrationError: as `put_versions`.
    """
    new = NewVersion(
        model_id=model_id,
        version=version,
        params=params,
        artifact=artifact,
        entrypoint=entrypoint,
        notes=notes,
    )
    with with_exclusive_lock(db):
        put_versions(db, [new])
        rows = role_rows(db, name="by_label", params={"model_id": model_id, "version": version})
    return int(rows[0]["version_id"])


def put_versions(db: Database, versions: Sequence[NewVersion]) -> None:
    """Register versions in their order, or amend them: all of them, or none.

    Raises:
        ValueError: a version is not plain.
        RegistrationError: unknown model, params or an artefact that cannot be stored (the place is named), or
            a change of params, artefact or entry point after the version has run.
    """
    for new in versions:
        require_plain("version", new.version)
        for place, reason in problems_of("params", dict(new.params)):
            raise RegistrationError(f"{new.model_id}@{new.version}: {place} {reason}")
        for key, reason in artifact_problems(asdict(new.artifact)) if new.artifact else ():
            raise RegistrationError(f"{new.model_id}@{new.version}: artifact.{key} {reason}")
    values = {name: [getattr(new, name) for new in versions] for name in NewVersion.__dataclass_fields__}
    values["params"] = [_strict_json(dict(new.params)) for new in versions]
    values["artifact"] = [new.artifact and _strict_json(asdict(new.artifact)) for new in versions]
    with with_exclusive_lock(db):
        role_rows(db, name="add_versions", params=values)
        role_rows(db, name="amend_versions", params=values)
