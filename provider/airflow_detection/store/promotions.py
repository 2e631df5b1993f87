"""Promotions: a request to make a version PRIMARY, what became of it, and the way back.

A promotion and its states are rows that never change. All that changes who is PRIMARY is done in one
transaction under the registry's lock, together with the state that says so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from airflow_detection.domain.specs import Role, require_utc
from airflow_detection.errors import PromotionError
from airflow_detection.store.database import Database
from airflow_detection.store.registry import Row, fetch, role_rows, version_id_of, with_exclusive_lock
from airflow_detection.store.roles import RoleChange, assign_roles

TABLE = "detection_promotions"
LISTED = 100
Evidence = Mapping[str, Any]  # Any: a JSON object


class State(StrEnum):
    """What became of a promotion, spelled as in Postgres and in the order in which states may follow."""

    REQUESTED = "REQUESTED"
    JUDGED = "JUDGED"  # its evidence was taken
    APPROVED = "APPROVED"
    IN_FORCE = "IN_FORCE"  # its version is PRIMARY, and watched
    KEPT = "KEPT"  # the watch has ended well
    ROLLED_BACK = "ROLLED_BACK"  # the champion before it is PRIMARY again
    REFUSED = "REFUSED"  # by the policy, or because the registry has changed since it was judged
    REJECTED = "REJECTED"  # by a person
    TIMED_OUT = "TIMED_OUT"  # no person answered
    WITHDRAWN = "WITHDRAWN"
    SUPERSEDED = "SUPERSEDED"  # another change made another version PRIMARY

    @property
    def is_under_way(self) -> bool:
        """Tell whether something is still to come without a person's new decision."""
        return self in (State.REQUESTED, State.JUDGED, State.APPROVED, State.IN_FORCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """One state of a promotion: since when (UTC), by whom, why, on which evidence (None unless asked for)."""

    state: State
    recorded_at: datetime
    actor: str
    reason: str
    evidence_digest: str | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """A request to make `model_id@version` PRIMARY in place of `champion`, and its states, the oldest first.

    `role_before` is the role that the version held, which a rollback gives back; `watch` how long its cycles
    are watched once it is in force; `source` what asked: a run of a Dag, a command. `requested_at` and
    `expires_at`, when a request without an answer has timed out, are UTC.
    """

    promotion_id: int
    model_id: str
    version: str
    champion: str | None
    version_id: int
    champion_id: int | None
    role_before: Role | None
    watch: timedelta
    requested_at: datetime
    requested_by: str
    reason: str
    source: str
    expires_at: datetime | None
    is_expired: bool
    states: tuple[StateChange, ...]

    @property
    def label(self) -> str:
        """`model@version`, as people write it."""
        return f"{self.model_id}@{self.version}"

    @property
    def state(self) -> State:
        """The state that it is in."""
        return self.states[-1].state

    def since(self, state: State) -> datetime | None:
        """Return when it came into a state (UTC); None if it never did."""
        return next((change.recorded_at for change in self.states if change.state is state), None)


def promotions(
    db: Database,
    *,
    model_id: str | None = None,
    model_ids: Sequence[str] | None = None,
    promotion_id: int | None = None,
    source: str | None = None,
    is_under_way: bool = False,
    has_evidence: bool = False,
    before: int | None = None,
    limit: int = LISTED,
) -> list[Promotion]:
    """Return promotions, the newest first.

    Args:
        model_ids: of these models alone.
        before: those alone whose number is below it.
        is_under_way: those alone that have not ended.
        has_evidence: read the evidence of each state too, which may be long.

    Raises:
        RegistryUnavailable: the database did not answer.
    """
    params: Row = {"model_id": model_id, "promotion_id": promotion_id, "limit": limit}
    params |= {"model_ids": None if model_ids is None else list(model_ids), "before": before}
    params |= {"source": source, "is_under_way": is_under_way, "has_evidence": has_evidence}
    return [_promotion(row) for row in fetch(db, TABLE, "select", params)]


def promotion(db: Database, promotion_id: int, *, has_evidence: bool = False) -> Promotion:
    """Return one promotion.

    Raises:
        PromotionError: there is none of this number.
    """
    found = promotions(db, promotion_id=promotion_id, has_evidence=has_evidence)
    if not found:
        raise PromotionError(f"there is no promotion {promotion_id}")
    return found[0]


def ask(
    db: Database,
    label: str,
    *,
    actor: str | None = None,
    reason: str = "",
    watch: timedelta = timedelta(),
    source: str = "",
    answer_within: timedelta | None = None,
) -> Promotion:
    """Ask for a version to become PRIMARY; an earlier request of the same source is withdrawn.

    Args:
        label: `model@version`.
        actor: who asks; None means the database's user.
        watch: how long its cycles are to be watched once it is in force.
        source: what asks, such as a run of a Dag.
        answer_within: how long the request waits for an answer; None: for ever.

    Raises:
        RegistrationError: the version is not registered.
        PromotionError: it is PRIMARY already, or a promotion of its model is under way.
    """
    model_id = label.partition("@")[0]
    with with_exclusive_lock(db):
        version_id = version_id_of(db, label)
        roles = {row["version_id"]: row["role"] for row in _open_roles(db, model_id)}
        champion_id = next((v for v, role in roles.items() if role == Role.PRIMARY), None)
        if champion_id == version_id:
            raise PromotionError(f"{label} is PRIMARY already")
        for other in promotions(db, model_id=model_id, is_under_way=True):
            if not _has_ended(db, other, source):
                raise PromotionError(
                    f"{label} cannot be promoted: promotion {other.promotion_id} of {other.label} is "
                    f"{other.state} since {other.states[-1].recorded_at:%Y-%m-%d %H:%M} UTC"
                )
        params: Row = {"model_id": model_id, "version_id": version_id, "champion_id": champion_id}
        params |= {"role_before": roles.get(version_id), "watch": watch, "actor": actor, "reason": reason}
        params |= {"source": source, "answer_within": answer_within}
        promotion_id = int(fetch(db, TABLE, "ask", params)[0]["promotion_id"])
        _add_state(db, promotion_id, State.REQUESTED, actor=actor, reason=reason)
        return promotion(db, promotion_id)


def _has_ended(db: Database, other: Promotion, source: str) -> bool:
    """End what nobody waits for any more: its time is over, the same source asks anew, another is PRIMARY."""
    if other.state is State.IN_FORCE and champion_id(db, other.model_id) != other.version_id:
        _add_state(db, other.promotion_id, State.SUPERSEDED, actor=None, reason="another version is PRIMARY")
        return True
    if other.state not in (State.REQUESTED, State.JUDGED):
        return False
    if other.is_expired:
        _add_state(db, other.promotion_id, State.TIMED_OUT, actor=None, reason="nobody answered in time")
    elif source and other.source == source:
        _add_state(db, other.promotion_id, State.WITHDRAWN, actor=None, reason="asked for anew")
    return other.is_expired or bool(source and other.source == source)


def record(
    db: Database,
    promotion_id: int,
    state: State,
    *,
    actor: str | None = None,
    reason: str = "",
    evidence: Evidence | None = None,
) -> Promotion:
    """Add a state that changes no role.

    Raises:
        RegistrationError: the state cannot follow the one that the promotion is in.
    """
    if state in (State.IN_FORCE, State.ROLLED_BACK):
        raise PromotionError(f"promotion {promotion_id} cannot become {state} without a change of roles")
    with with_exclusive_lock(db):
        _add_state(db, promotion_id, state, actor=actor, reason=reason, evidence=evidence)
        return promotion(db, promotion_id)


def put_in_force(
    db: Database,
    promotion_id: int,
    *,
    actor: str | None = None,
    reason: str = "",
    evidence: Evidence | None = None,
) -> Promotion:
    """Approve a promotion that was judged: its version is PRIMARY, the champion before it a SHADOW.

    Args:
        evidence: what was judged again at the approval.

    Raises:
        RegistrationError: it is not JUDGED; nothing was changed.
        PromotionError: the champion is another than when it was asked for; nothing was changed.
    """
    with with_exclusive_lock(db):
        wanted = promotion(db, promotion_id)
        champion = _champion(db, wanted.model_id)
        if (champion or {}).get("version_id") != wanted.champion_id:
            now = champion["version"] if champion else "none"
            was = wanted.champion or "none"
            raise PromotionError(
                f"promotion {promotion_id} was asked for when {was} was PRIMARY: now it is {now}"
            )
        _add_state(db, promotion_id, State.APPROVED, actor=actor, reason=reason, evidence=evidence)
        _swap(db, wanted, wanted.version, wanted.champion, Role.SHADOW, actor=actor, reason=reason)
        _add_state(db, promotion_id, State.IN_FORCE, actor=actor, reason=reason)
        return promotion(db, promotion_id)


def end_watch(db: Database, promotion_id: int, *, actor: str | None = None, reason: str = "") -> Promotion:
    """End the watch of a promotion in force: KEPT, or SUPERSEDED where another version is PRIMARY by now.

    One that has ended stays as it is.
    """
    with with_exclusive_lock(db):
        watched = promotion(db, promotion_id)
        if watched.state is State.IN_FORCE:
            champion = _champion(db, watched.model_id)
            is_champion = champion is not None and champion["version_id"] == watched.version_id
            state = State.KEPT if is_champion else State.SUPERSEDED
            _add_state(db, promotion_id, state, actor=actor, reason=reason)
        return promotion(db, promotion_id)


def roll_back(
    db: Database,
    model_id: str,
    *,
    actor: str | None = None,
    reason: str,
    evidence: Evidence | None = None,
    promotion_id: int | None = None,
) -> Promotion | None:
    """Make the champion before the last promotion PRIMARY again; return that promotion, None if that is done.

    The version that loses the role gets back the one that it held before.

    Args:
        promotion_id: roll back this promotion and no other.

    Raises:
        PromotionError: no promotion made the version PRIMARY that is now.
    """
    with with_exclusive_lock(db):
        newest = next((p for p in promotions(db, model_id=model_id) if p.since(State.IN_FORCE)), None)
        champion = _champion(db, model_id)
        if (
            newest is not None
            and newest.state is State.ROLLED_BACK
            and promotion_id in (None, newest.promotion_id)
        ):
            return None
        if (
            newest is None
            or champion is None
            or newest.champion is None
            or champion["version_id"] != newest.version_id
            or promotion_id not in (None, newest.promotion_id)
        ):
            now = f"{model_id}@{champion['version']} is PRIMARY" if champion else "it has no PRIMARY"
            raise PromotionError(
                f"no promotion of {model_id!r} can be rolled back: {now}, and not by a promotion"
            )
        _swap(db, newest, newest.champion, newest.version, newest.role_before, actor=actor, reason=reason)
        _add_state(db, newest.promotion_id, State.ROLLED_BACK, actor=actor, reason=reason, evidence=evidence)
        return promotion(db, newest.promotion_id)


def champion_id(db: Database, model_id: str) -> int | None:
    """Return the version that is PRIMARY now, if any."""
    return (_champion(db, model_id) or {}).get("version_id")


def results_since(db: Database, version_id: int, since: datetime) -> int:
    """Return how many live results a version has of cycles from an instant (UTC) on."""
    params = {"version_id": version_id, "since": since}
    return int(fetch(db, TABLE, "results_since", params)[0]["results"])


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedChampion:
    """A champion that a promotion, or its rollback, has made PRIMARY at `since` (UTC)."""

    model_id: str
    version: str
    promotion_id: int
    since: datetime


def promoted_champions(db: Database) -> dict[str, PromotedChampion]:
    """Return the champions that are PRIMARY by a promotion or a rollback, by model id."""
    rows = fetch(db, TABLE, "promoted_champions")
    return {row["model_id"]: PromotedChampion(**row) for row in rows}


def digest_of(evidence: Evidence) -> str:
    """Return the SHA-256 of evidence, of its JSON with sorted keys."""
    return hashlib.sha256(json.dumps(evidence, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _swap(
    db: Database,
    promotion: Promotion,
    champion: str,
    before: str | None,
    becomes: Role | None,
    *,
    actor: str | None,
    reason: str,
) -> None:
    """Make one version PRIMARY, and give the one before it another role, or none."""
    changes = [RoleChange(model_id=promotion.model_id, version=champion, role=Role.PRIMARY)]
    if before is not None and becomes is not None:
        changes.append(RoleChange(model_id=promotion.model_id, version=before, role=becomes))
    assign_roles(db, changes, actor=actor, reason=reason, promotion_id=promotion.promotion_id)


def _open_roles(db: Database, model_id: str) -> list[Row]:
    return role_rows(db, name="open_of_models", params={"model_ids": [model_id]})


def _champion(db: Database, model_id: str) -> Row | None:
    return next((row for row in _open_roles(db, model_id) if row["role"] == Role.PRIMARY), None)


def _add_state(
    db: Database,
    promotion_id: int,
    state: State,
    *,
    actor: str | None,
    reason: str,
    evidence: Evidence | None = None,
) -> None:
    params: Row = {"promotion_id": promotion_id, "state": state, "actor": actor, "reason": reason}
    params |= {
        "evidence": None if evidence is None else Jsonb(evidence),
        "evidence_digest": None if evidence is None else digest_of(evidence),
    }
    fetch(db, TABLE, "add_state", params)


def _promotion(row: Row) -> Promotion:
    states = tuple(
        StateChange(**{**s, "state": State(s["state"]), "recorded_at": _instant(s["recorded_at"])})
        for s in row["states"] or ()
    )
    return Promotion(
        **{
            **row,
            "role_before": Role(row["role_before"]) if row["role_before"] else None,
            "requested_at": require_utc("requested_at", row["requested_at"]),
            "expires_at": row["expires_at"] and require_utc("expires_at", row["expires_at"]),
            "is_expired": bool(row["is_expired"]),
            "states": states,
        }
    )


def _instant(text: str) -> datetime:
    return require_utc("recorded_at", datetime.fromisoformat(text))
