"""Changes of the sample registry that are made while runs are under way, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.sample_registry import SCHEMA, put_cycle, put_model, put_version

from airflow_detection.domain.specs import Execution, Role
from airflow_detection.store import roles
from airflow_detection.store.database import Database


def give(conn: Any, label: str, role: Role | None) -> None:
    """Give a version a role from now on, or take it."""
    model_id, _, version = label.partition("@")
    roles.assign_role(Database(conn, SCHEMA), model_id=model_id, version=version, role=role)


def _add_model(conn: Any) -> None:
    put_model(conn, "added", ("tracks",))
    put_version(conn, "added@1", Role.PRIMARY, since=None, ids=["z"])
    put_version(conn, "added@2", Role.SHADOW, since=None, ids=["z"])


def _add(conn: Any) -> None:
    """Add a model with a shadow, a challenger, and an edge."""
    _add_model(conn)
    _add_challenger(conn)
    put_model(conn, "extra")
    put_version(conn, "extra@1", Role.PRIMARY, since=None, ids=["z"])
    put_model(conn, "spoofing", ("tracks", "extra"))


def _add_upstream(conn: Any) -> None:
    put_model(conn, "added")
    put_version(conn, "added@1", Role.PRIMARY, since=None, ids=["z"])
    put_model(conn, "spoofing", ("tracks", "added"))


def _add_challenger(conn: Any) -> None:
    put_version(conn, "tracks@3", Role.CHALLENGER, since=None, ids=["a"])


def _promote_a_new_version(conn: Any) -> None:
    put_version(conn, "tracks@3", Role.PRIMARY, since=None, ids=["a"])


def _swap(conn: Any) -> None:
    give(conn, "tracks@2", Role.PRIMARY)
    give(conn, "tracks@1", Role.SHADOW)


def _reverse(conn: Any) -> None:
    put_model(conn, "spoofing")
    put_model(conn, "tracks", ("spoofing",))


def _rename(conn: Any) -> None:
    """Rename a model: the old one loses its role, the other takes its place."""
    give(conn, "spoofing@1", None)
    put_model(conn, "spoof", ("tracks",))
    put_version(conn, "spoof@1", Role.PRIMARY, since=None, ids=["x"])


def _rename_version(conn: Any) -> None:
    give(conn, "tracks@2", None)
    put_version(conn, "tracks@two", Role.SHADOW, since=None, ids=["a", "b", "c"])


def _inline(conn: Any) -> None:
    put_cycle(conn, execution=Execution.INLINE)


def _legacy_path(conn: Any) -> None:
    put_cycle(conn, legacy_entrypoint="tests.sample_registry:legacy")


def _odd_options(conn: Any) -> None:
    put_model(conn, "odd", task_options={"colour": "red"})
    put_version(conn, "odd@1", Role.PRIMARY, since=None)


def _one_task_each(conn: Any) -> None:
    put_cycle(conn, execution=Execution.TASK)


def _add_past_challenger(conn: Any) -> None:
    put_version(conn, "tracks@c", Role.CHALLENGER, ids=["a"])


def _add_past_shadow(conn: Any) -> None:
    """Add a shadow that past cycles have and today's Dag has not."""
    put_version(conn, "tracks@0", Role.SHADOW, ids=["a"])
    give(conn, "tracks@0", None)


def _switch(conn: Any, *, is_enabled: bool) -> None:
    put_model(conn, "spoofing", ("tracks",), is_enabled=is_enabled)


CHANGES: dict[str, Callable[[Any], None]] = {
    "add": _add,
    "add a model": _add_model,
    "add an upstream": _add_upstream,
    "add a challenger": _add_challenger,
    "promote a new version": _promote_a_new_version,
    "promote the shadow": lambda conn: give(conn, "tracks@2", Role.PRIMARY),
    "promote the challenger": lambda conn: give(conn, "tracks@c", Role.PRIMARY),
    "promote beside a past shadow": lambda conn: give(conn, "tracks@2", Role.PRIMARY),
    "swap champion and shadow": _swap,
    "demote the champion": lambda conn: give(conn, "tracks@1", Role.SHADOW),
    "retire the champion": lambda conn: give(conn, "tracks@1", None),
    "retire the shadow": lambda conn: give(conn, "tracks@2", None),
    "disable": partial(_switch, is_enabled=False),
    "enable": partial(_switch, is_enabled=True),
    "disable the cycle": lambda conn: put_cycle(conn, is_enabled=False),
    "reverse the order": _reverse,
    "rename a model": _rename,
    "rename a version": _rename_version,
    "add a legacy path": _legacy_path,
    "remove the legacy path": put_cycle,
    "add a model that cannot run": _odd_options,
    "to one task": _inline,
    "to a task each": _one_task_each,
}
BEFORE: dict[str, Callable[[Any], None]] = {
    "promote the challenger": _add_past_challenger,
    "promote beside a past shadow": _add_past_shadow,
    "enable": partial(_switch, is_enabled=False),
    "remove the legacy path": _legacy_path,
    "to a task each": _inline,
}
"""What the registry has, beside the sample, before a change."""
PLANNED = ("spoofing@1", "tracks@1", "tracks@2")
ALSO_PLANNED = {"promote the challenger": ("tracks@c",), "promote beside a past shadow": ("tracks@0",)}
"""Versions in the plans of the runs, and those that only some changes find there."""
