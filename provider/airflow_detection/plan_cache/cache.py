"""The registry as the Dags see it: asked at most once per TTL and machine, else as it was last known.

A change that takes all or most of a cycle's models away is not followed until it is confirmed.
"""

from __future__ import annotations

import fcntl
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from airflow_detection.domain.names import RESERVED, task_ids
from airflow_detection.domain.settings import Settings
from airflow_detection.errors import RegistryUnavailable
from airflow_detection.plan_cache import file as plan_file
from airflow_detection.plan_cache import source
from airflow_detection.plan_cache.held_back import held_back
from airflow_detection.plan_cache.known import KnownRegistry

log = logging.getLogger(__name__)


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
    with _alone(path, patience_s=0.0 if held else source.READ_TIMEOUT_S) as is_mine:
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
        fresh, confirmed = source.read_registry(conn_id, settings)
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
