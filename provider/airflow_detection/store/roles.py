"""Correcting the history of roles: a wrong row is superseded by new ones, and both stay.

Whoever asks about an instant gets what was known at that instant, as before; a correction shows to those
who ask what is known since (`known_at` of `registry.models_at`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow_detection.domain.specs import (
    Role,
    require_utc,
)
from airflow_detection.errors import RegistrationError
from airflow_detection.store.database import Database
from airflow_detection.store.registry import (
    Row,
    _cycles,
    clock,
    cycle_of,
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
    with with_exclusive_lock(db):
        facts: Row = {"version_id": version_id_of(db, label), "model_id": label.partition("@")[0]}
        now = instant_of_change(db, facts["model_id"])
        _check(label, since, until, now)
        facts |= {**span, "role": role, "now": now, "actor": actor, "reason": reason}
        found = role_rows(db, name="in_the_way", params=facts)
        if _is_known(found, facts["version_id"], role):
            return False
        facts["role_ids"] = [row["role_id"] for row in found]
        role_rows(db, name="supersede", params=facts)
        role_rows(db, name="keep_the_rest", params=facts)
        if role is not None:
            role_rows(db, name="correct", params=facts)
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
    clock behind an exclusive lock: of promotions at once each is whole, and the last one stands.

    Args:
        since: UTC, not in the future. In the past only while the model's history is founding rows alone
            and no cycle has been planned at or after it; without it the change holds from now on.
        actor: who did it; the database's user unless given.

    Raises:
        RegistrationError: unknown version, or `since` cannot be.
    """
    label = f"{model_id}@{version}"
    with with_exclusive_lock(db):
        version_id = version_id_of(db, label)
        held = role_rows(db, name="open_of_model", params={"model_id": model_id})
        own = next((row["role"] for row in held if row["version_id"] == version_id), None)
        if own == role:
            return False
        now = instant_of_change(db, model_id)
        start = now if since is None else require_utc("since", since)
        is_founding = start < now
        if start != now:
            _check_since(db, label, role, start, now, held)
        for row in held:
            ends = row["version_id"] == version_id or (role is Role.PRIMARY and row["role"] == Role.PRIMARY)
            if ends:
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


def instant_of_change(db: Database, model_id: str) -> datetime:
    """Now, and behind everything in the model's history, should the clock have stepped back."""
    now = clock(db)
    newest = role_rows(db, name="history_of_model", params={"model_id": model_id})[0]["newest"]
    return now if newest is None or newest < now else newest + timedelta(microseconds=1)


def _check_since(
    db: Database,
    label: str,
    role: Role | None,
    since: datetime,
    now: datetime,
    held: list[Row],
) -> None:
    """Refuse a start that would change what a plan has said, or that has not come yet."""
    model_id, _, version = label.partition("@")
    told = f"{label} cannot be {role or 'without a role'} since {since.isoformat()}"
    if since > now:
        raise RegistrationError(f"{told}: that is in the future")
    history = role_rows(db, name="history_of_model", params={"model_id": model_id})[0]
    if role is None or not history["is_founding_only"] or any(row["version"] == version for row in held):
        raise RegistrationError(
            f"{told}: the history of {model_id!r} cannot be rewritten; without it, from now on"
        )
    champion = next((row["version"] for row in held if row["role"] == Role.PRIMARY), None)
    if role is Role.PRIMARY and champion is not None:
        raise RegistrationError(
            f"{told}: {champion!r} is PRIMARY; without it, the promotion holds from now on"
        )
    cycle_id = cycle_of(db, model_id)
    if _cycles(db, name="has_run_since", params={"cycle_id": cycle_id, "since": since})[0]["has_run"]:
        raise RegistrationError(f"{told}: cycle {cycle_id!r} has been planned since; without it, from now on")
