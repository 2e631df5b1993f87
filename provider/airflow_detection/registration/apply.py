"""Registering cycles, models, versions and roles from a YAML file, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from airflow_detection.domain.specs import CycleSpec, ModelSpec, Role
from airflow_detection.errors import InputFileError
from airflow_detection.registration.file import Registration, VersionEntry, parse
from airflow_detection.registration.values import Problems
from airflow_detection.store import registry, roles
from airflow_detection.store.database import Database


def apply_file(db: Database, path: Path | str, *, dry_run: bool = False) -> list[str]:
    """Bring the registry to what a file says, in one transaction; return one line per change.

    Entries that the file leaves out stay as they are; a version that is in it without a role loses its role.
    `since` is the start of a new role; a role that the version has already keeps its start. A second time
    changes nothing. With `dry_run` everything is tried and nothing is kept.

    Raises:
        InputFileError: the file cannot be read.
        RegistrationError: every problem at once, one line each: `file:line: field: reason`.
    """
    changes: list[str] = []
    with locked_registration(db, path) as registration, db.conn.transaction():
        changes += apply_registration(db, registration, str(path))
        if dry_run:
            raise psycopg.Rollback
    return changes


@contextmanager
def locked_registration(db: Database, path: Path | str) -> Iterator[Registration]:
    """One transaction that alone may change the registry, and the file as checked against what is registered.

    The file is read and checked before the lock is taken, and again only if the registry has changed by then:
    no cycle can be opened while another session has the lock.

    Raises:
        InputFileError, RegistrationError: as `apply_file`.
    """
    text = _text_of(Path(path))
    with ExitStack() as lock:
        while True:
            cycles, models = _known(db)
            registration = parse(text, str(path), cycles=cycles, models=models)
            lock.enter_context(registry.with_exclusive_lock(db))
            if _known(db) == (cycles, models):
                break
            lock.close()
        yield registration


def apply_registration(db: Database, registration: Registration, source: str) -> list[str]:
    """Bring the registry to what a checked file says, in the open transaction; raises as `apply_file`."""
    problems = Problems(source)
    changes = [
        *_apply_cycles(db, registration, problems),
        *_apply_models(db, registration, problems),
        *_apply_versions(db, registration, problems),
    ]
    problems.raise_all()
    return changes


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputFileError(f"{path}: {reason}") from error


def _known(db: Database) -> tuple[set[str], list[ModelSpec]]:
    return {spec.cycle_id for spec in registry.cycle_specs(db)}, registry.model_specs(db)


def _difference(old: object, new: object, names: Iterable[str]) -> list[str]:
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in names)
    return [f"{name} {_shown(was)} -> {_shown(now)}" for name, was, now in pairs if was != now]


def _shown(value: object) -> str:
    if isinstance(value, str) and len(value) > 40:
        return repr(f"{value[:37]}...")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, timedelta | bool | int) else repr(value)


def _apply_cycles(db: Database, registration: Registration, problems: Problems) -> Iterator[str]:
    registered = {spec.cycle_id: spec for spec in registry.cycle_specs(db)}
    names = [name for name in CycleSpec.__dataclass_fields__ if name != "cycle_id"]
    for entry in registration.cycles:
        spec, old = entry.spec, registered.get(entry.spec.cycle_id)
        if spec == old:
            continue
        with problems.at(entry.line, f"cycles.{spec.cycle_id}"), db.conn.transaction():
            registry.put_cycle(db, spec)
        changed = (
            f"{', '.join(_difference(old, spec, names))}" if old else f"{spec.schedule}, {spec.lookback}"
        )
        yield f"{'~' if old else '+'} cycle {spec.cycle_id}: {changed}"


def _apply_models(db: Database, registration: Registration, problems: Problems) -> Iterator[str]:
    registered = {spec.model_id: spec for spec in registry.model_specs(db)}
    names = [name for name in ModelSpec.__dataclass_fields__ if name not in {"model_id", "versions"}]
    for entry in registration.models:
        spec, old = entry.spec, registered.get(entry.spec.model_id)
        if spec == old:
            continue
        with problems.at(entry.line, f"models.{spec.model_id}"), db.conn.transaction():
            registry.put_model(db, spec)
        changed = f"{', '.join(_difference(old, spec, names))}" if old else spec.entrypoint
        yield f"{'~' if old else '+'} model {spec.model_id}: {changed}"


def _apply_versions(db: Database, registration: Registration, problems: Problems) -> Iterator[str]:
    registered = {(v.model_id, v.version): v for v in registry.versions(db)}
    names = ("params", "entrypoint", "notes")
    version_keys = set(registered)
    models = {spec.model_id for spec in registry.model_specs(db)}
    for model in registration.models:
        for entry in model.versions if model.spec.model_id in models else ():
            key = (model.spec.model_id, entry.version)
            label, old = "@".join(key), registered.get(key)
            changed = _difference(old, entry, names) if old else ["new"]
            if not changed:
                continue
            place = f"models.{model.spec.model_id}.versions.{entry.version}"
            with problems.at(entry.line, place), db.conn.transaction():
                registry.put_version(
                    db,
                    model_id=model.spec.model_id,
                    version=entry.version,
                    params=entry.params,
                    entrypoint=entry.entrypoint,
                    notes=entry.notes,
                )
                version_keys.add(key)
            yield f"~ version {label}: {', '.join(changed)}" if old else f"+ version {label}"
    for model in registration.models:
        # The champion first: it takes over from the old one in the same instant, and none is without.
        for entry in sorted(model.versions, key=lambda item: item.role is not Role.PRIMARY):
            key = (model.spec.model_id, entry.version)
            if key in version_keys:
                yield from _apply_role(db, key, entry, registered.get(key), problems)


def _apply_role(
    db: Database,
    key: tuple[str, str],
    entry: VersionEntry,
    old: registry.RegisteredVersion | None,
    problems: Problems,
) -> Iterator[str]:
    was = old.role if old else None
    if entry.role == was:
        return
    model_id, version = key
    with problems.at(entry.line, f"models.{model_id}.versions.{version}"), db.conn.transaction():
        roles.assign_role(
            db,
            model_id=model_id,
            version=version,
            role=entry.role,
            since=entry.since,
            reason=f"applied from {Path(problems.source).name}",
        )
    start = entry.since.isoformat() if entry.since else "now"
    yield f"~ role {model_id}@{version}: {was or 'none'} -> {entry.role or 'none'} from {start}"
