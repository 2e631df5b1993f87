"""The registry that the Dags are made of: asked at most once per TTL and machine, else as last known.

A change that takes all or most of a cycle's models away is not followed until it is confirmed.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from airflow_detection.domain.names import RESERVED, shard_task_ids, task_ids
from airflow_detection.domain.settings import Settings
from airflow_detection.errors import RegistryUnavailable
from airflow_detection.plan_cache import file as plan_file
from airflow_detection.plan_cache.known import KnownRegistry

log = logging.getLogger(__name__)
LOCK_WAIT_S = 10.0
"""As long as reading the registry may take (`source.READ_TIMEOUT_S`): another process may be at it."""


def known_registry(
    conn_id: str, settings: Settings, *, dag_id: str | None = None, task_id: str | None = None
) -> KnownRegistry:
    """Return the registry, at most `plan_ttl` seconds old if it answers; of one Dag if `dag_id` is given.

    Where Airflow runs one task, only its own cycle is asked for, and kept in a file of its own: the machine
    may have no Dag processor. A plan that is young but lacks the task is asked anew. Another process that
    asks is waited for, but not while the registry is known not to answer.

    Raises:
        RegistryUnavailable: it does not answer, and there is no last known good plan.
    """
    whole, path = plan_file.path_of(settings, conn_id), plan_file.path_of(settings, conn_id, dag_id)

    def newest() -> KnownRegistry | None:
        found = [plan_file.read(each, dag_id) for each in dict.fromkeys((whole, path))]
        return max(filter(None, found), key=lambda known: known.read_at, default=None)

    def will_do(known: KnownRegistry) -> bool:
        return known.age_s(time.time()) < settings.plan_ttl_s and _has_task(known, dag_id, task_id)

    last = newest()
    if last is not None and will_do(last):
        return last
    is_outage_known = last is not None and _outage_file(whole).exists()
    with _asking_lock(path, wait_s=0.0 if is_outage_known else LOCK_WAIT_S) as is_mine:
        last = newest() or last
        if last is not None and will_do(last):
            return last
        if last is not None and (not is_mine or _failed_lately(whole, settings)):
            log.warning("the registry did not answer, Dags stand on the plan of %s", last.instant)
            return replace(last, is_last_known=_outage_file(whole).exists())
        return _read_anew(conn_id, settings, dag_id, last)


def read_at(conn_id: str, settings: Settings) -> datetime | None:
    """Return when the last known good plan was read (UTC, whole seconds); None without a usable plan file."""
    known = plan_file.read(plan_file.path_of(settings, conn_id))
    return None if known is None else known.instant


def last_known(conn_id: str, settings: Settings) -> KnownRegistry | None:
    """Return what this machine's Dags were last made of; None without a usable plan file."""
    path = plan_file.path_of(settings, conn_id)
    last = plan_file.read(path)
    return last and replace(last, is_last_known=_outage_file(path).exists())


def _read_anew(
    conn_id: str, settings: Settings, dag_id: str | None, last: KnownRegistry | None
) -> KnownRegistry:
    # Imported here: most parses find a fresh plan file and pay for neither.
    from airflow_detection.plan_cache import source
    from airflow_detection.plan_cache.held_back import hold_back

    outage = _outage_file(plan_file.path_of(settings, conn_id))
    try:
        fresh, confirmed = source.read_registry(conn_id, settings, dag_id)
    except Exception as error:  # of any kind: the Dags must still be made
        if last is None:
            raise RegistryUnavailable(f"no last known good plan, and the registry says: {error}") from error
        log.warning("the registry does not answer, Dags stand on the plan of %s: %s", last.instant, error)
        with suppress(OSError):
            outage.touch()
        return replace(last, is_last_known=True)
    known = hold_back(last, fresh, confirmed)
    plan_file.write(plan_file.path_of(settings, conn_id, dag_id), known)
    with suppress(OSError):
        outage.unlink(missing_ok=True)
    return known


def _has_task(last: KnownRegistry, dag_id: str | None, task_id: str | None) -> bool:
    if dag_id is None or task_id is None or task_id in RESERVED:
        return True
    ids = last.dag_ids
    return any(
        task_id in (names := task_ids(cycle.models)).values()
        or task_id in shard_task_ids(cycle.models, names).values()
        for cycle in last.cycles
        if ids[cycle.spec.cycle_id] == dag_id and not cycle.refused_reason
    )


def _outage_file(path: Path) -> Path:
    """Return the file that is there while the registry does not answer; its time is the last attempt's."""
    return path.with_suffix(".unanswered")


def _failed_lately(path: Path, settings: Settings) -> bool:
    try:
        age_s = time.time() - _outage_file(path).stat().st_mtime
    except OSError:
        return False
    return 0 <= age_s < settings.plan_ttl_s


@contextmanager
def _asking_lock(path: Path, wait_s: float) -> Iterator[bool]:
    """Give whether this process may ask: one at a time on a machine; each, where nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_suffix(".lock").open("ab")
    except OSError:
        yield True
        return
    with file:
        deadline = time.monotonic() + wait_s
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
