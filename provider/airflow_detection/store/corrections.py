"""Correcting the history of roles: a wrong row is superseded by new ones, and both stay.

Whoever asks about an instant gets what was known at that instant, as before; a correction shows to those
who ask what is known since (`known_at` of `registry.models_at`).
"""

from __future__ import annotations

from datetime import datetime

from airflow_detection.domain import Role, require_utc
from airflow_detection.errors import RegistrationError
from airflow_detection.store.connection import Connection
from airflow_detection.store.registry import (
    Row,
    instant_of_change,
    role_rows,
    version_id_of,
    with_exclusive_lock,
)


def correct_roles(
    conn: Connection,
    schema: str,
    *,
    label: str,
    role: Role | None,
    since: datetime,
    until: datetime | None = None,
    actor: str | None = None,
    reason: str,
) -> bool:
    """Record that `model@version` held `role`, or none, in `[since, until)`; return whether that is news.

    A corrected PRIMARY takes the place of whichever version was PRIMARY in the interval; in its own stead
    the other holds no role there, as after a promotion. What was said outside of the interval still holds.

    Args:
        since: UTC, not in the future.
        until: UTC, not in the future; None corrects what holds from now on too.
        actor: who did it; the database's user unless given.

    Raises:
        RegistrationError: unknown version, an interval that is empty or reaches into the future, no reason.
    """
    if not reason.strip():
        raise RegistrationError(f"a correction of {label} needs a reason")
    span = {
        "since": require_utc("since", since),
        "until": None if until is None else require_utc("until", until),
    }
    with with_exclusive_lock(conn, schema):
        facts: Row = {"version_id": version_id_of(conn, schema, label), "model_id": label.partition("@")[0]}
        now = instant_of_change(conn, schema, facts["model_id"])
        _check(label, since, until, now)
        facts |= {**span, "role": role, "now": now, "actor": actor, "reason": reason}
        found = role_rows(conn, schema, name="in_the_way", params=facts)
        if _is_known(found, facts["version_id"], role):
            return False
        facts["role_ids"] = [row["role_id"] for row in found]
        role_rows(conn, schema, name="supersede", params=facts)
        role_rows(conn, schema, name="keep_the_rest", params=facts)
        if role is not None:
            role_rows(conn, schema, name="correct", params=facts)
    return True


def _is_known(found: list[Row], version_id: int, role: Role | None) -> bool:
    if role is None:
        return not found
    return [(r["version_id"], r["role"], r["covers"]) for r in found] == [(version_id, role, True)]


def _check(label: str, since: datetime, until: datetime | None, now: datetime) -> None:
    told = f"the history of {label} cannot be corrected from {since.isoformat()}"
    if since > now or (until is not None and until > now):
        raise RegistrationError(f"{told}: that reaches into the future")
    if until is not None and until <= since:
        raise RegistrationError(f"{told}: it would end at {until.isoformat()}, before it begins")
