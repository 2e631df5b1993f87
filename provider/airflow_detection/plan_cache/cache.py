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

from airflow_detection.domain.names import RESERVED, task_ids
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

    For a model's task a plan of any age that has it will do: the version is resolved when the task runs.

    Raises:
        RegistryUnavailable: it does not answer, and there is no last known good plan.
    """
    path = plan_file.path_of(settings, conn_id)
    last = plan_file.read(path, dag_id)
    if last is not None and (_is_fresh(last, settings) or _has_task(last, dag_id, task_id)):
        return last
    with _asking_lock(path, wait_s=0.0 if last else LOCK_WAIT_S) as is_mine:
        last = plan_file.read(path, dag_id) or last
        if last is not None and (_is_fresh(last, settings) or not is_mine or _failed_lately(path, settings)):
            if _is_fresh(last, settings):
                return last
            return replace(last, is_last_known=_outage_file(path).exists())
        return _read_anew(conn_id, settings, path, last)


def read_at(conn_id: str, settings: Settings) -> datetime | None:
    """Return when the last known good plan was read (UTC, whole seconds); None without a usable plan file."""
    known = plan_file.read(plan_file.path_of(settings, conn_id))
    return None if known is None else known.instant


def last_known(conn_id: str, settings: Settings) -> KnownRegistry | None:
    """Return what this machine's Dags were last made of; None without a usable plan file."""
    path = plan_file.path_of(settings, conn_id)
    last = plan_file.read(path)
    return last and replace(last, is_last_known=_outage_file(path).exists())


def _read_anew(conn_id: str, settings: Settings, path: Path, last: KnownRegistry | None) -> KnownRegistry:
    # Imported here: most parses find a fresh plan file and pay for neither.
    from airflow_detection.plan_cache import source
    from airflow_detection.plan_cache.held_back import hold_back

    try:
        fresh, confirmed = source.read_registry(conn_id, settings)
    except Exception as error:  # of any kind: the Dags must still be made
        if last is None:
            raise RegistryUnavailable(f"no last known good plan, and the registry says: {error}") from error
        log.warning("the registry does not answer, Dags stand on the plan of %s: %s", last.instant, error)
        with suppress(OSError):
            _outage_file(path).touch()
        return replace(last, is_last_known=True)
    known = hold_back(plan_file.read(path), fresh, confirmed)
    plan_file.write(path, known)
    with suppress(OSError):
        _outage_file(path).unlink(missing_ok=True)
    return known


def _is_fresh(last: KnownRegistry, settings: Settings) -> bool:
    return last.age_s(time.time()) < settings.plan_ttl_s


def _has_task(last: KnownRegistry, dag_id: str | None, task_id: str | None) -> bool:
    if dag_id is None or task_id is None or task_id in RESERVED:
        return False
    ids = last.dag_ids
    return any(
        task_id in task_ids(cycle.models).values()
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
