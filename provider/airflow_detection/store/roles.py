"""Changes of roles: assignments, and corrections of their history.

A correction supersedes a wrong row by new ones, and both stay. A query about an instant returns what was
known at that instant, as before; a correction shows only in queries with a later `known_at`
(`registry.models_at`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_detection.domain.specs import (
    Role,
    require_utc,
)
from airflow_detection.errors import RegistrationError
from airflow_detection.store.database import Database
from airflow_detection.store.registry import (
    Row,
    cycle_rows,
    instant_of_change,
    instants_of_change,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """Role that a version is to have, or none, from `since` on (UTC; None: from now on)."""

    model_id: str
    version: str
    role: Role | None
    since: datetime | None = None

    @property
    def label(self) -> str:
        """`model@version`, as people write it."""
        return f"{self.model_id}@{self.version}"


def assign_role(
    db: Database,
    *,
    model_id: str,
    version: str,
    role: Role | None,
    since: datetime | None = None,
    actor: str | None = None,
    reason: str = "",
    promotion_id: int | None = None,
) -> bool:
    """Give a version a role, or end the one it holds (`role` None); return whether anything changed.

    Raises:
        RegistrationError: as `assign_roles`.
    """
    change = RoleChange(model_id=model_id, version=version, role=role, since=since)
    return assign_roles(db, [change], actor=actor, reason=reason, promotion_id=promotion_id) > 0


def assign_roles(
    db: Database,
    changes: Sequence[RoleChange],
    *,
    actor: str | None = None,
    reason: str = "",
    promotion_id: int | None = None,
) -> int:
    """Give versions their roles, one after the other, all or none; return how many changed anything.

    A new PRIMARY takes the place of the old one in the same instant, which is read from the database's
    clock under an exclusive lock: concurrent promotions are atomic, and the last one holds.

    Args:
        changes: `since` is not in the future. It is in the past only while the model's history is founding
            rows alone and no cycle has been planned at or after it.
        actor: who did it; None means the database's user.
        promotion_id: the promotion that the changes belong to.

    Raises:
        RegistrationError: unknown version, or `since` is not allowed.
    """
    why = {"actor": actor, "reason": reason, "promotion_id": promotion_id}
    with with_exclusive_lock(db):
        models = _models_now(db, changes)
        steps = [step for change in changes if (step := models[change.model_id].step(change)) is not None]
        part: list[_Step] = []
        opened: set[int] = set()
        for step in steps:
            if opened.intersection(step.closed):  # what is opened must be there to be closed again
                _write(db, part, why)
                part, opened = [], set()
            part.append(step)
            opened.add(step.version_id)
        _write(db, part, why)
    return len(steps)


def move_starts(db: Database, changes: Sequence[RoleChange]) -> list[RoleChange]:
    """Let roles that versions have begin at the `since` of the changes; return those that were moved.

    A role can be moved while it is one of the first of a model that has no result, and no cycle has been
    planned since either start. The others keep theirs.
    """
    params: Row = {
        name: [getattr(change, name) for change in changes] for name in ("model_id", "version", "since")
    }
    with with_exclusive_lock(db):
        rows = role_rows(db, name="move_starts", params=params)
    moved = {(row["model_id"], row["version"]) for row in rows}
    return [change for change in changes if (change.model_id, change.version) in moved]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One change of a model: versions whose roles end at `now`, and the role that one of them gets."""

    version_id: int
    role: Role | None
    since: datetime
    now: datetime
    closed: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class _ModelRoles:
    """The roles of one model while changes are planned: `instant` is that of the next one."""

    version_ids: dict[str, int]
    open_roles: list[Row]
    is_founding_only: bool
    instant: datetime
    cycle_id: str
    last_run_at: datetime | None

    def step(self, change: RoleChange) -> _Step | None:
        """Plan a change; None if the version has the role already. RegistrationError as `assign_roles`."""
        version_id = self.version_ids[change.version]
        own = next((row["role"] for row in self.open_roles if row["version_id"] == version_id), None)
        if own == change.role:
            return None
        now = self.instant
        start = now if change.since is None else require_utc("since", change.since)
        if start != now:
            self._check_since(change, start, now)
        closed = [
            row
            for row in self.open_roles
            if row["version_id"] == version_id
            or (change.role is Role.PRIMARY and row["role"] == Role.PRIMARY)
        ]
        self.open_roles = [row for row in self.open_roles if row not in closed]
        if change.role is not None:
            opened = {"version_id": version_id, "version": change.version, "role": change.role}
            self.open_roles.append(opened)
        self.is_founding_only &= not closed and start < now
        self.instant = now + timedelta(microseconds=1)
        return _Step(
            version_id=version_id, role=change.role, since=start, now=now,
            closed=tuple(row["version_id"] for row in closed),
        )  # fmt: skip

    def _check_since(self, change: RoleChange, since: datetime, now: datetime) -> None:
        """Raise RegistrationError for a start in the future, or one that would change a plan of the past."""
        prefix = f"{change.label} cannot be {change.role or 'without a role'} since {since.isoformat()}"
        if since > now:
            raise RegistrationError(f"{prefix}: that is in the future")
        if (
            change.role is None
            or not self.is_founding_only
            or any(row["version"] == change.version for row in self.open_roles)
        ):
            raise RegistrationError(
                f"{prefix}: the history of {change.model_id!r} cannot be rewritten; "
                "without a start it holds from now on"
            )
        champion = next((row["version"] for row in self.open_roles if row["role"] == Role.PRIMARY), None)
        if change.role is Role.PRIMARY and champion is not None:
            raise RegistrationError(
                f"{prefix}: {champion!r} is PRIMARY; without a start the promotion holds from now on"
            )
        if self.last_run_at is not None and self.last_run_at >= since:
            raise RegistrationError(
                f"{prefix}: cycle {self.cycle_id!r} has been planned since; "
                "without a start it holds from now on"
            )


def _models_now(db: Database, changes: Sequence[RoleChange]) -> dict[str, _ModelRoles]:
    """Read the roles of the models of some changes; RegistrationError names a version that is unknown."""
    labels = {
        "model_id": [change.model_id for change in changes],
        "version": [change.version for change in changes],
    }
    version_ids: dict[str, dict[str, int]] = defaultdict(dict)
    for row in role_rows(db, name="ids", params=labels):
        version_ids[row["model_id"]][row["version"]] = row["version_id"]
    for change in changes:
        if change.version not in version_ids[change.model_id]:
            version_id_of(db, change.label)
    params = {"model_ids": sorted(version_ids)}
    open_roles: dict[str, list[Row]] = defaultdict(list)
    for row in role_rows(db, name="open_of_models", params=params):
        open_roles[row["model_id"]].append(row)
    runs = {row["model_id"]: row for row in cycle_rows(db, name="last_runs", params=params)}
    instants = instants_of_change(db, params["model_ids"])
    return {
        row["model_id"]: _ModelRoles(
            version_ids=version_ids[row["model_id"]],
            open_roles=open_roles[row["model_id"]],
            is_founding_only=row["is_founding_only"],
            instant=instants[row["model_id"]],
            cycle_id=runs[row["model_id"]]["cycle_id"],
            last_run_at=runs[row["model_id"]]["last_run_at"],
        )
        for row in role_rows(db, name="history_of_models", params=params)
    }


def _write(db: Database, steps: Sequence[_Step], why: Row) -> None:
    """End roles, then open those that follow."""
    closed = [(version_id, step.now) for step in steps for version_id in step.closed]
    opened = [step for step in steps if step.role is not None]
    if closed:
        params: Row = {"version_id": [v for v, _ in closed], "until": [until for _, until in closed]}
        role_rows(db, name="close", params=params)
    if opened:
        names = ("version_id", "role", "since", "now")
        params = {name: [getattr(step, name) for step in opened] for name in names}
        role_rows(db, name="open", params=params | why)
