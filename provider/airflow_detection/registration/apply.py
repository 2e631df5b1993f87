"""Registering cycles, models, versions and roles from a YAML file, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, groupby
from pathlib import Path
from typing import TypeVar

import psycopg

from airflow_detection.domain.specs import Artifact, CycleSpec, ModelSpec, Role
from airflow_detection.errors import InputFileError, RegistrationError
from airflow_detection.registration.entries import Registration, VersionEntry
from airflow_detection.registration.file import parse
from airflow_detection.registration.values import Problems
from airflow_detection.store import promotions, registry, roles
from airflow_detection.store.database import Database

MAX_SHOWN = 40
"""Characters of a long text that a line shows."""
Key = tuple[str, str]
"""Model id and version."""
Refusals = Callable[[Registration], Iterable[str]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What a file has changed, one line each, and the versions with a role that it does not have."""

    registration: Registration
    changes: list[str]
    left: list[registry.RegisteredVersion]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is registered, all of it."""

    cycles: list[CycleSpec]
    models: list[ModelSpec]
    versions: list[registry.RegisteredVersion]


def apply_file(
    db: Database, path: Path | str, *, dry_run: bool = False, undoes_promotions: bool = False
) -> list[str]:
    """Bring the registry to what a file says, in one transaction; return one line per change.

    Entries that the file leaves out stay as they are; a version that is in it without a role loses its role.
    `since` is the start of a new role; a role that the version has already keeps its start, unless it is one
    of the first of a model that has not run. A second time changes nothing. With `dry_run` everything is
    tried and nothing is kept. A champion that a promotion or a rollback made stays; `undoes_promotions` lets
    the file have its way.

    Raises:
        InputFileError: the file cannot be read.
        RegistrationError: every problem at once, one line each: `file:line: field: reason`.
    """
    return apply_and_compare(db, path, dry_run=dry_run, undoes_promotions=undoes_promotions).changes


def apply_and_compare(
    db: Database,
    path: Path | str,
    *,
    dry_run: bool = False,
    undoes_promotions: bool = False,
    prunes: bool = False,
    refusals: Refusals = lambda _: (),
) -> Applied:
    """Do as `apply_file`, and look for what stands in the file's cycles without being in the file.

    Args:
        prunes: end the roles of those versions.
        refusals: gives the reasons, one line each, why the file is refused although it is well formed.
    """
    changes: list[str] = []
    left: list[registry.RegisteredVersion] = []
    with locked_registration(db, path, refusals) as (registration, known), db.conn.transaction():
        changes += apply_registration(db, registration, known, str(path), undoes_promotions=undoes_promotions)
        left += _left_out(db, registration, known if not changes else known_now(db))
        if prunes:
            changes += _retire(db, left, f"not in {Path(path).name}")
            left.clear()
        if dry_run:
            raise psycopg.Rollback
    return Applied(registration=registration, changes=changes, left=left)


def _left_out(db: Database, registration: Registration, known: Known) -> list[registry.RegisteredVersion]:
    cycle_ids = {entry.spec.cycle_id for entry in registration.cycles}
    cycle_ids |= {entry.spec.cycle_id for entry in registration.models}
    model_ids = {spec.model_id for spec in known.models if spec.cycle_id in cycle_ids}
    written = {(m.spec.model_id, v.version) for m in registration.models for v in m.versions}
    return [
        version
        for version in known.versions
        if version.role is not None
        and version.model_id in model_ids
        and (version.model_id, version.version) not in written
    ]


def _retire(db: Database, versions: Sequence[registry.RegisteredVersion], reason: str) -> Iterator[str]:
    ended = [roles.RoleChange(model_id=v.model_id, version=v.version, role=None) for v in versions]
    roles.assign_roles(db, ended, reason=reason)
    yield from (f"~ role {version.label}: {version.role} -> none from now" for version in versions)


@contextmanager
def locked_registration(
    db: Database, path: Path | str, refusals: Refusals = lambda _: ()
) -> Iterator[tuple[Registration, Known]]:
    """One transaction that alone may change the registry, the file as checked, and what is registered.

    The file is read and checked before the lock is taken, and again only if the registry has changed by then:
    no cycle can be opened while another session has the lock.

    Raises:
        InputFileError, RegistrationError: as `apply_file`.
    """
    text = _text_of(Path(path))
    with ExitStack() as lock:
        while True:
            cycles, models = _named(db)
            registration = parse(text, str(path), cycles={c.cycle_id for c in cycles}, models=models)
            if reasons := list(refusals(registration)):
                raise RegistrationError("\n".join(reasons))
            lock.enter_context(registry.with_exclusive_lock(db))
            known = known_now(db)
            if (known.cycles, known.models) == (cycles, models):
                break
            lock.close()
        yield registration, known


def apply_registration(
    db: Database,
    registration: Registration,
    known: Known,
    source: str,
    *,
    undoes_promotions: bool = False,
) -> list[str]:
    """Bring the registry to what a checked file says, in the open transaction; raises as `apply_file`.

    Args:
        known: what is registered, read in the same transaction.
    """
    problems = Problems(source)
    if not undoes_promotions:
        _check_champions(db, registration, problems)
    changes = [
        *_apply_cycles(db, registration, known, problems),
        *_apply_models(db, registration, known, problems),
        *_apply_versions(db, registration, known, problems),
    ]
    problems.raise_all()
    return changes


def _check_champions(db: Database, registration: Registration, problems: Problems) -> None:
    """Note each model whose champion by a promotion is another than the file's."""
    promoted = promotions.promoted_champions(db)
    for model in registration.models:
        champion = promoted.get(model.spec.model_id)
        named = next((entry for entry in model.versions if entry.role is Role.PRIMARY), None)
        if champion is None or not model.versions or (named and named.version == champion.version):
            continue
        said = named.version if named else "none"
        problems.add(
            named.line if named else model.line,
            f"models.{model.spec.model_id}",
            f"promotion {champion.promotion_id} made {champion.version!r} PRIMARY at"
            f" {champion.since.isoformat()}, the file {said!r}: write that into the file, or apply it with"
            " --roles from-file",
        )


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputFileError(f"{path}: {reason}") from error


def _named(db: Database) -> tuple[list[CycleSpec], list[ModelSpec]]:
    return registry.cycle_specs(db), registry.model_specs(db)


def known_now(db: Database) -> Known:
    """Return what is registered; call it in the transaction of a change."""
    cycles, models = _named(db)
    return Known(cycles=cycles, models=models, versions=registry.versions(db))


def _difference(old: object, new: object, names: Iterable[str]) -> list[str]:
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in names)
    return [f"{name} {_shown(was, now)} -> {_shown(now, was)}" for name, was, now in pairs if was != now]


def _shown(value: object, other: object = None) -> str:
    """Return a value as a line shows it: of a long text the part from where it differs from the other."""
    if isinstance(value, str) and len(value) > MAX_SHOWN:
        pairs = enumerate(zip(value, other, strict=False)) if isinstance(other, str) else ()
        same = next((place for place, (own, theirs) in pairs if own != theirs), 0)
        start = max(min(same - MAX_SHOWN // 4, len(value) - MAX_SHOWN), 0)
        text = f"{'...' if start else ''}{value[start : start + MAX_SHOWN]}"
        return repr(text if start + MAX_SHOWN >= len(value) else f"{text}...")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, timedelta | bool | int | Artifact) else repr(value)


def _apply_cycles(
    db: Database, registration: Registration, known: Known, problems: Problems
) -> Iterator[str]:
    registered = {spec.cycle_id: spec for spec in known.cycles}
    names = [name for name in CycleSpec.__dataclass_fields__ if name != "cycle_id"]
    changes = [entry for entry in registration.cycles if entry.spec != registered.get(entry.spec.cycle_id)]
    for entry, error in _put(db, changes, lambda part: registry.put_cycles(db, [e.spec for e in part])):
        problems.add(entry.line, f"cycles.{entry.spec.cycle_id}", str(error))
    for entry in changes:
        spec, old = entry.spec, registered.get(entry.spec.cycle_id)
        changed = (
            f"{', '.join(_difference(old, spec, names))}" if old else f"{spec.schedule}, {spec.lookback}"
        )
        yield f"{'~' if old else '+'} cycle {spec.cycle_id}: {changed}"


def _apply_models(
    db: Database, registration: Registration, known: Known, problems: Problems
) -> Iterator[str]:
    registered = {spec.model_id: spec for spec in known.models}
    names = [name for name in ModelSpec.__dataclass_fields__ if name not in {"model_id", "versions"}]
    changes = [entry for entry in registration.models if entry.spec != registered.get(entry.spec.model_id)]
    for entry, error in _put(db, changes, lambda part: registry.put_models(db, [e.spec for e in part])):
        problems.add(entry.line, f"models.{entry.spec.model_id}", str(error))
    for entry in changes:
        spec, old = entry.spec, registered.get(entry.spec.model_id)
        changed = f"{', '.join(_difference(old, spec, names))}" if old else spec.entrypoint
        yield f"{'~' if old else '+'} model {spec.model_id}: {changed}"


def _apply_versions(
    db: Database, registration: Registration, known: Known, problems: Problems
) -> Iterator[str]:
    registered = {(v.model_id, v.version): v for v in known.versions}
    models = {spec.model_id for spec in known.models}
    if not models.issuperset(model.spec.model_id for model in registration.models):
        models = {spec.model_id for spec in registry.model_specs(db)}  # those that were refused are left out
    entries = {
        (model.spec.model_id, entry.version): entry
        for model in registration.models
        if model.spec.model_id in models
        for entry in model.versions
    }
    names = ("params", "artifact", "entrypoint", "notes")
    changed = {
        key: _difference(registered[key], entry, names) if key in registered else ["new"]
        for key, entry in entries.items()
    }
    changes = [
        registry.NewVersion(
            model_id=key[0], version=key[1], params=entries[key].params, artifact=entries[key].artifact,
            entrypoint=entries[key].entrypoint, notes=entries[key].notes,
        )
        for key, difference in changed.items()
        if difference
    ]  # fmt: skip
    for new, error in _put(db, changes, lambda part: registry.put_versions(db, part)):
        key = (new.model_id, new.version)
        problems.add(entries[key].line, _place(*key), str(error))
        if key not in registered:
            del entries[key]
    for new in changes:
        key = (new.model_id, new.version)
        label = "@".join(key)
        yield f"~ version {label}: {', '.join(changed[key])}" if key in registered else f"+ version {label}"
    yield from _apply_roles(db, entries, registered, problems)


def _apply_roles(
    db: Database,
    entries: Mapping[Key, VersionEntry],
    registered: Mapping[Key, registry.RegisteredVersion],
    problems: Problems,
) -> Iterator[str]:
    held = {key: registered[key].role if key in registered else None for key in entries}
    # The champion first: it takes over from the old one in the same instant, and none is without.
    of_models = groupby(entries.items(), lambda item: item[0][0])
    ordered = [
        [
            roles.RoleChange(model_id=key[0], version=key[1], role=entry.role, since=entry.since)
            for key, entry in sorted(of_model, key=lambda item: item[1].role is not Role.PRIMARY)
            if entry.role != held[key]
        ]
        for _, of_model in of_models
    ]
    reason = f"applied from {Path(problems.source).name}"

    def assign(part: Sequence[Sequence[roles.RoleChange]]) -> None:
        roles.assign_roles(db, [change for of_model in part for change in of_model], reason=reason)

    for refused, _ in _put(db, [of_model for of_model in ordered if of_model], assign):
        for (change,), error in chain.from_iterable(_put(db, [[change]], assign) for change in refused):
            key = (change.model_id, change.version)
            problems.add(entries[key].line, _place(*key), str(error))
    for change in chain.from_iterable(ordered):
        was = held[change.model_id, change.version]
        start = change.since.isoformat() if change.since else "now"
        yield f"~ role {change.label}: {was or 'none'} -> {change.role or 'none'} from {start}"
    yield from _move_starts(db, entries, registered)


def _move_starts(
    db: Database,
    entries: Mapping[Key, VersionEntry],
    registered: Mapping[Key, registry.RegisteredVersion],
) -> Iterator[str]:
    """Give first roles the start that the file has, while nothing rests on the one they have."""
    changes = [
        roles.RoleChange(model_id=key[0], version=key[1], role=entry.role, since=entry.since)
        for key, entry in entries.items()
        if entry.since is not None
        and (old := registered.get(key)) is not None
        and (old.role, old.since) != (entry.role, entry.since)
        and old.role == entry.role
    ]
    for change in roles.move_starts(db, changes) if changes else ():
        was = registered[change.model_id, change.version].since
        yield f"~ role {change.label}: since {_shown(was)} -> {_shown(change.since)}"


def _place(model_id: str, version: str) -> str:
    return f"models.{model_id}.versions.{version}"


def _put(
    db: Database, items: Sequence[T], put: Callable[[Sequence[T]], None]
) -> Iterator[tuple[T, RegistrationError | ValueError]]:
    """Put all items at once; where one is refused, put the halves, and yield each that is refused alone."""
    if not items:
        return
    try:
        with db.conn.transaction():
            put(items)
    except (RegistrationError, ValueError) as error:
        if len(items) == 1:
            yield items[0], error
            return
        middle = len(items) // 2
        yield from _put(db, items[:middle], put)
        yield from _put(db, items[middle:], put)
