"""Changes of roles: assignments, and corrections of their history.

A correction supersedes a wrong row by new ones, and both stay. A query about an instant returns what was
known at that instant, as before; a correction shows only in queries with a later `known_at`
(`registry.models_at`).
"""

from __future__ import annotations

from datetime import datetime

from airflow_detection.domain.specs import (
    Role,
    require_utc,
)
from airflow_detection.errors import RegistrationError
from airflow_detection.store.database import Database
from airflow_detection.store.registry import (
    Row,
    cycle_of,
    cycle_rows,
    instant_of_change,
    role_rows,
    version_id_of,
    with_exclusive_lock,
)


def correct_roles(
    db: Database,
    *,
    label: str,
    role: Role | None,
    since: datetime,
    until: datetime | None = None,
    actor: str | None = None,
    reason: str,
) -> bool:
    """Record that `model@version` held `role`, or none, in `[since, until)`; return whether it is new.

    A corrected PRIMARY replaces whichever version was PRIMARY in the interval; that version then
    holds no role there, as after a promotion. The history outside of the interval stays as it is.

    Args:
        since: UTC, not in the future.
        until: UTC, not in the future; None corrects what holds from now on too.
        actor: who did it; None means the database's user.

    Raises:
        RegistrationError: unknown version, an interval that is empty or reaches into the future, no reason.
    """
    if not reason.strip():
        raise RegistrationError(f"a correction of {label} needs a reason")
    span = {
        "since": require_utc("since", since),
        "until": None if until is None else require_utc("until", until),
    }
    with with_exclusive_lock(db):
        params: Row = {"version_id": version_id_of(db, label), "model_id": label.partition("@")[0]}
        now = instant_of_change(db, params["model_id"])
        _check_interval(label, since, until, now)
        params |= {**span, "role": role, "now": now, "actor": actor, "reason": reason}
        overlapping = role_rows(db, name="overlapping", params=params)
        if _is_recorded(overlapping, params["version_id"], role):
            return False
        params["role_ids"] = [row["role_id"] for row in overlapping]
        role_rows(db, name="supersede", params=params)
        role_rows(db, name="keep_remainder", params=params)
        if role is not None:
            role_rows(db, name="correct", params=params)
    return True


def _is_recorded(overlapping: list[Row], version_id: int, role: Role | None) -> bool:
    if role is None:
        return not overlapping
    return [(r["version_id"], r["role"], r["covers"]) for r in overlapping] == [(version_id, role, True)]


def _check_interval(label: str, since: datetime, until: datetime | None, now: datetime) -> None:
    prefix = f"the history of {label} cannot be corrected from {since.isoformat()}"
    if since > now or (until is not None and until > now):
        raise RegistrationError(f"{prefix}: that reaches into the future")
    if until is not None and until <= since:
        raise RegistrationError(f"{prefix}: it would end at {until.isoformat()}, before it begins")


def assign_role(
    db: Database,
    *,
    model_id: str,
    version: str,
    role: Role | None,
    since: datetime | None = None,
    actor: str | None = None,
    reason: str = "",
) -> bool:
    """Give a version a role, or end the one it holds (`role` None); return whether anything changed.

    A new PRIMARY takes the place of the old one in the same instant, which is read from the database's
    clock under an exclusive lock: concurrent promotions are atomic, and the last one holds.

    Args:
        since: UTC, not in the future. In the past only while the model's history is founding rows alone
            and no cycle has been planned at or after it; without it the change holds from now on.
        actor: who did it; None means the database's user.

    Raises:
        RegistrationError: unknown version, or `since` is not allowed.
    """
    label = f"{model_id}@{version}"
    with with_exclusive_lock(db):
        version_id = version_id_of(db, label)
        open_roles = role_rows(db, name="open_of_model", params={"model_id": model_id})
        own = next((row["role"] for row in open_roles if row["version_id"] == version_id), None)
        if own == role:
            return False
        now = instant_of_change(db, model_id)
        start = now if since is None else require_utc("since", since)
        is_founding = start < now
        if start != now:
            _check_since(db, label, role, start, now, open_roles)
        for row in open_roles:
            is_old_champion = role is Role.PRIMARY and row["role"] == Role.PRIMARY
            if is_old_champion or row["version_id"] == version_id:
                role_rows(db, name="close", params={"version_id": row["version_id"], "until": now})
        if role is not None:
            opened = {
                "version_id": version_id,
                "model_id": model_id,
                "role": role,
                "since": start,
                "now": now,
            }
            opened |= {"is_founding": is_founding, "actor": actor, "reason": reason}
            role_rows(db, name="open", params=opened)
    return True


def _check_since(
    db: Database,
    label: str,
    role: Role | None,
    since: datetime,
    now: datetime,
    open_roles: list[Row],
) -> None:
    """Raise RegistrationError for a start in the future, or one that would change a plan of the past."""
    model_id, _, version = label.partition("@")
    prefix = f"{label} cannot be {role or 'without a role'} since {since.isoformat()}"
    if since > now:
        raise RegistrationError(f"{prefix}: that is in the future")
    history = role_rows(db, name="history_of_model", params={"model_id": model_id})[0]
    if (
        role is None
        or not history["is_founding_only"]
        or any(row["version"] == version for row in open_roles)
    ):
        raise RegistrationError(
            f"{prefix}: the history of {model_id!r} cannot be rewritten; without a start it holds from now on"
        )
    champion = next((row["version"] for row in open_roles if row["role"] == Role.PRIMARY), None)
    if role is Role.PRIMARY and champion is not None:
        raise RegistrationError(
            f"{prefix}: {champion!r} is PRIMARY; without a start the promotion holds from now on"
        )
    cycle_id = cycle_of(db, model_id)
    if cycle_rows(db, name="has_run_since", params={"cycle_id": cycle_id, "since": since})[0]["has_run"]:
        raise RegistrationError(
            f"{prefix}: cycle {cycle_id!r} has been planned since; without a start it holds from now on"
        )
