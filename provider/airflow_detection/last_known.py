"""The registry as the Dags see it: asked at most once per TTL and machine, else as it was last known.

A change that takes all or most of a cycle's models away is not followed until it is confirmed.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_detection import plan_file
from airflow_detection.errors import RegistrationError, RegistryUnavailable
from airflow_detection.naming import RESERVED, task_ids
from airflow_detection.plan_file import KnownCycle, KnownRegistry
from airflow_detection.registered import CycleSpec

if TYPE_CHECKING:
    from airflow_detection.config import Settings
    from airflow_detection.store.confirmations import Confirmation
    from airflow_detection.store.connection import Connection

T = TypeVar("T")
log = logging.getLogger(__name__)
CONNECT_TIMEOUT_S = 3
"""For each address of the server, and for each statement; Airflow gives a Dag file 30 s."""
READ_TIMEOUT_S = 10.0
"""For all of it, whatever the server does."""
LIBPQ_EXTRAS = (
    *("application_name", "host", "options", "passfile", "sslcert", "sslkey", "sslmode", "sslpassword"),
    *("sslrootcert", "target_session_attrs", "channel_binding", "gssencmode"),
)


def known_registry(
    conn_id: str, settings: Settings, *, dag_id: str | None = None, task_id: str | None = None
) -> KnownRegistry:
    """What the registry says, at most `plan_ttl` seconds old if it answers; of one Dag if `dag_id` is given.

    A model's task is content with a plan of any age that has it: what it runs is resolved when it runs.

    Raises:
        RegistryUnavailable: it does not answer, and there is no last known good plan.
    """
    path = plan_file.path_of(settings, conn_id)
    held = plan_file.read(path, dag_id)
    if held is not None and (_is_fresh(held, settings) or _holds(held, dag_id, task_id)):
        return held
    with _alone(path, patience_s=0.0 if held else READ_TIMEOUT_S) as is_mine:
        held = plan_file.read(path, dag_id) or held
        if held is not None and (_is_fresh(held, settings) or not is_mine or _failed_lately(path, settings)):
            return held if _is_fresh(held, settings) else replace(held, is_last_known=_mark(path).exists())
        return _ask(conn_id, settings, path, held)


def standing(conn_id: str, settings: Settings) -> KnownRegistry | None:
    """What this machine's Dags were last made of; None if there is no plan file that can be used."""
    path = plan_file.path_of(settings, conn_id)
    held = plan_file.read(path)
    return held and replace(held, is_last_known=_mark(path).exists())


def _ask(conn_id: str, settings: Settings, path: Path, held: KnownRegistry | None) -> KnownRegistry:
    try:
        fresh, confirmed = read_registry(conn_id, settings)
    except Exception as error:  # whatever it is: the Dags must stand
        if held is None:
            raise RegistryUnavailable(f"no last known good plan, and the registry says: {error}") from error
        log.warning("the registry does not answer, Dags stand on the plan of %s: %s", held.instant, error)
        with suppress(OSError):
            _mark(path).touch()
        return replace(held, is_last_known=True)
    followed = held_back(plan_file.read(path), fresh, confirmed)
    plan_file.write(path, followed)
    with suppress(OSError):
        _mark(path).unlink(missing_ok=True)
    return followed


def _is_fresh(held: KnownRegistry, settings: Settings) -> bool:
    return held.age_s(time.time()) < settings.plan_ttl_s


def _holds(held: KnownRegistry, dag_id: str | None, task_id: str | None) -> bool:
    if dag_id is None or task_id is None or task_id in RESERVED:
        return False
    known = held.dag_ids
    return any(
        task_id in task_ids(cycle.models).values()
        for cycle in held.cycles
        if known[cycle.spec.cycle_id] == dag_id and not cycle.refused
    )


def _mark(path: Path) -> Path:
    """There while the registry does not answer; its time is that of the last attempt."""
    return path.with_suffix(".unanswered")


def _failed_lately(path: Path, settings: Settings) -> bool:
    try:
        age_s = time.time() - _mark(path).stat().st_mtime
    except OSError:
        return False
    return 0 <= age_s < settings.plan_ttl_s


@contextmanager
def _alone(path: Path, patience_s: float) -> Iterator[bool]:
    """Whether this process may ask: one at a time on a machine; where nothing can be written, each may."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(".lock").open("ab")
    except OSError:
        yield True
        return
    with file:
        deadline = time.monotonic() + patience_s
        is_mine = False
        while not is_mine:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_mine = True
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.05)
        yield is_mine


def held_back(
    held: KnownRegistry | None, fresh: KnownRegistry, confirmed: Mapping[str, Confirmation]
) -> KnownRegistry:
    """What the registry says, but for cycles that lost all or most of their models: they stay as they were.

    One that is refused keeps what was known of it, to be compared with what it will say when it can be read.

    Args:
        confirmed: by cycle id; a confirmation newer than the one that the old state rests on lets a change
            through that leaves at least the confirmed models.
    """
    cycles = {
        c.spec.cycle_id: replace(c, confirmed_at=_instant_of(confirmed.get(c.spec.cycle_id)))
        for c in fresh.cycles
    }
    for old in held.cycles if held else ():
        cycle_id = old.spec.cycle_id
        if (unread := cycles.get(cycle_id)) and unread.refused:
            cycles[cycle_id] = replace(old, held_back=None, refused=unread.refused)
            continue
        now = _ids(cycles.get(cycle_id))
        word = confirmed.get(cycle_id)
        is_meant = word is not None and _instant_of(word) != old.confirmed_at
        if _shrinks(_ids(old), now) and not (
            is_meant and word is not None and not _shrinks(word.models, now)
        ):
            reason = _told(cycle_id, _ids(old), now)
            log.warning("%s", reason)
            cycles[cycle_id] = replace(old, held_back=reason, refused=None)
    return replace(fresh, cycles=tuple(cycles[key] for key in sorted(cycles)))


def _ids(cycle: KnownCycle | None) -> frozenset[str]:
    return frozenset(m.model_id for m in cycle.models if m.versions) if cycle else frozenset()


def _instant_of(confirmation: Confirmation | None) -> str | None:
    return confirmation.confirmed_at.isoformat() if confirmation else None


def _shrinks(before: frozenset[str], after: frozenset[str]) -> bool:
    """Whether a cycle becomes empty or loses more than half of its models."""
    return bool(before) and (not after or 2 * len(before - after) > len(before))


def _told(cycle_id: str, before: frozenset[str], after: frozenset[str]) -> str:
    gone = sorted(before - after)
    names = ", ".join(gone[:5]) + (f" and {len(gone) - 5} more" if len(gone) > 5 else "")
    return (
        f"the registry leaves cycle {cycle_id!r} with {len(before & after)} of its {len(before)} models, "
        f"without {names}: the Dag stays as it was until 'airflow detection confirm {cycle_id}'"
    )


def read_registry(conn_id: str, settings: Settings) -> tuple[KnownRegistry, Mapping[str, Confirmation]]:
    """Ask the registry's database, as it is now.

    Raises:
        RegistryUnavailable: it did not answer in time.
        MigrationError: it has no registry, or an older one.
    """
    from airflow.sdk import Connection

    info = conninfo(Connection.get(conn_id))
    return _within(READ_TIMEOUT_S, lambda: _read(info, settings))


def _read(info: str, settings: Settings) -> tuple[KnownRegistry, Mapping[str, Confirmation]]:
    from airflow_detection.store import registry
    from airflow_detection.store.connection import connect

    schema = settings.schema
    with (
        connect(info, connect_timeout_s=CONNECT_TIMEOUT_S, statement_timeout_s=CONNECT_TIMEOUT_S) as conn,
        registry.with_shared_lock(conn, schema),
    ):
        return registered_now(conn, schema)


def registered_now(conn: Connection, schema: str) -> tuple[KnownRegistry, Mapping[str, Confirmation]]:
    """What the registry says now, and what was confirmed; to be called under one of the registry's locks."""
    from airflow_detection.store import confirmations, registry

    cycles = [_known_now(conn, schema, cycle_id) for cycle_id in registry.cycle_ids(conn, schema)]
    return KnownRegistry(read_at=time.time(), cycles=tuple(cycles)), confirmations.newest(conn, schema)


def _known_now(conn: Connection, schema: str, cycle_id: str) -> KnownCycle:
    """One cycle as it is now; what cannot be read of it must not take the others along."""
    from airflow_detection.store import registry

    try:
        spec = registry.cycle_spec(conn, schema, cycle_id)
        return KnownCycle(spec=spec, models=tuple(registry.models_at(conn, schema, cycle_id, None)))
    except (RegistrationError, ValueError) as error:
        reason = f"cycle {cycle_id!r} cannot be read: {error}"
        log.warning("%s", reason)
        nothing = CycleSpec(
            cycle_id=cycle_id, schedule="", lookback=timedelta(), start_date=datetime(1970, 1, 1, tzinfo=UTC)
        )
        return KnownCycle(spec=nothing, refused=reason)


def _within(limit_s: float, work: Callable[[], T]) -> T:
    """Do it in a thread and stop waiting at the limit: a server that is silent ends no statement itself."""
    found: list[T] = []
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            found.append(work())
        except BaseException as error:  # it is raised below, in the thread that waits
            failed.append(error)

    thread = threading.Thread(target=guarded, name="ask the registry", daemon=True)
    thread.start()
    thread.join(limit_s)
    if failed:
        raise failed[0]
    if not found:
        raise RegistryUnavailable(f"no answer within {limit_s:.0f} s")
    return found[0]


def conninfo(connection: Any) -> str:  # Any: Airflow's Connection, whose get() is untyped
    """The libpq connection string of an Airflow connection; extras that libpq does not know are left out."""
    from psycopg.conninfo import make_conninfo

    facts = {
        "host": connection.host,
        "port": connection.port,
        "user": connection.login,
        "password": connection.password,
        "dbname": connection.schema,
    }
    facts |= {key: value for key, value in connection.extra_dejson.items() if key in LIBPQ_EXTRAS}
    return make_conninfo("", **{key: value for key, value in facts.items() if value not in (None, "")})
